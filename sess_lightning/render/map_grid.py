"""Captioned grid of images with their maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sess_lightning.boxes import check_boxes
from sess_lightning.render.colormap import colorize, overlay
from sess_lightning.render.marks import draw_boxes, draw_circle, draw_peak, peak_radius
from sess_lightning.render.page import MUTED, PAGE, BoardLayout, Canvas, Layout, draw_page
from sess_lightning.render.panel import Fit, fitted, mounted, panel_size, resized
from sess_lightning.render.picture import check_finite, check_picture
from sess_lightning.render.text import DOT, printable


@dataclass(frozen=True, eq=False)
class MapRow:
    """One image of a `map_grid`: its maps, and what is known about it.

    Args:
        image: `(3, H, W)` uint8.
        base: map of the base method, `(H, W)` in [0, 1]; None where it was not computed.
        sess: map of SESS, `(H, W)` in [0, 1].
        boxes: `(M, 4)` in pixels x1, y1, x2, y2; None if there are none.
        label: name of the true class; None if unknown.
        prediction: name of the predicted class.
        score: probability of the explained class.
        hit: whether the peak of `sess` lies on an object; None if unknown.
        base_hit: whether the peak of `base` lies on an object; None if unknown.
        explained: name of the explained class, whose probability `score` is; None writes "explained" for it.
        second: SESS map of another class, `(H, W)` in [0, 1]; None if there is none.
        tolerance: distance to an object, in pixels of the image, up to which the peak counts as a hit; 0: only on it.

    Raises:
        ValueError: if a shape or type is not as above, or a map or box is not finite.
    """

    image: Tensor
    base: Tensor | None
    sess: Tensor
    boxes: Tensor | None
    label: str | None
    prediction: str
    score: float
    hit: bool | None
    base_hit: bool | None
    explained: str | None = None
    second: Tensor | None = None
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        check_picture("image", self.image)
        others = {"base": self.base, "second": self.second}
        for name, saliency in {"sess": self.sess, **{k: m for k, m in others.items() if m is not None}}.items():
            check_finite(name, saliency, "(H, W)", 2, exact=True)
            if saliency.shape != self.image.shape[-2:]:
                size = tuple(self.image.shape[-2:])
                raise ValueError(f"Expected `{name}` to have the image's size {size}, but got {tuple(saliency.shape)}.")
        if self.boxes is not None:
            check_boxes("argument `boxes`", self.boxes)


def map_grid(
    rows: Sequence[MapRow], title: str, panel_height: int = 224, second_heading: str = "SESS of prediction"
) -> Tensor:
    """Draw one row for each image: the image with its boxes, the base map, the SESS map, and a caption.

    The peak of each map is marked: a ring if it hits an object, a cross if it misses; a thin circle shows the
    tolerance. The columns of base and second maps are left out if no row has one. Images keep their aspect ratio; a
    class name that is too long is shortened.

    Args:
        rows: the images, of any sizes; at least one.
        title: one line on top, e.g. "epoch 3 · step 192".
        panel_height: height of each picture in pixels, at least 32; eight rows of 224 can be read without zooming.
        second_heading: heading of the column of second maps.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if there are no rows, or `panel_height` is not an int of at least 32.

    Example:
        >>> image, saliency = torch.zeros(3, 40, 60, dtype=torch.uint8), torch.rand(40, 60)
        >>> row = MapRow(image, None, saliency, torch.tensor([[5, 5, 20, 20]]), "disc", "square", 0.2, False, None)
        >>> map_grid([row], "epoch 3 · step 192", panel_height=64).shape
        torch.Size([3, 291, 222])
    """
    if not len(rows):
        raise ValueError("Expected argument `rows` to hold at least one row, but got none.")
    size = panel_size([row.image for row in rows], panel_height)
    has_base = any(row.base is not None for row in rows)
    has_second = any(row.second is not None for row in rows)
    headings = ["image", *["base"] * has_base, "SESS", *[second_heading] * has_second]
    layout = BoardLayout(*size, columns=len(headings))
    panels = [_row_panels(row, size, has_base, has_second) for row in rows]
    captions = [_caption(row, layout) for row in rows]
    return draw_page(layout, panels, headings, title, captions, legend=_legend(rows, layout))


def _legend(rows: Sequence[MapRow], layout: Layout) -> Tensor:
    """The legend of the marks and colours that occur on the page, `(3, h, breadth)`, in several lines if need be."""
    size = layout.font_size
    verdicts = {row.hit for row in rows} | {row.base_hit for row in rows if row.base is not None}
    verdicts |= {None for row in rows if row.second is not None}
    blank = torch.tensor(PAGE, dtype=torch.uint8).view(3, 1, 1).expand(3, size, size)
    marks = {True: "peak hits", False: "peak misses", None: "peak"}
    centre, radius = (size - 1) / 2, 0.25 * size
    entries = [(draw_peak(blank, centre, centre, hit, radius), marks[hit]) for hit in marks if hit in verdicts]
    reach = sorted({row.tolerance for row in rows if row.tolerance and (row.hit, row.base_hit) != (None, None)})
    if reach:
        text = "tolerance" + (f" {reach[0]:g} px" if len(reach) == 1 else "")
        entries.append((draw_circle(blank, centre, centre, 0.42 * size), text))
    if any(row.boxes is not None and len(row.boxes) for row in rows):
        entries.append((draw_boxes(blank, torch.tensor([[1, 1, size - 1, size - 1]])), "object"))
    entries.append((colorize(torch.linspace(0, 1, 5 * size).expand(round(0.7 * size), -1)), "saliency, low to high"))
    lines: list[list[tuple[int, Tensor, str]]] = [[]]
    x = 0
    for icon, text in entries:
        wide = icon.shape[2] + 6 + round(layout.font.getlength(text)) + 2 * layout.gap
        if x and x + wide - 2 * layout.gap > layout.breadth:
            lines.append([])
            x = 0
        lines[-1].append((x, icon, text))
        x += wide
    strip = Canvas(layout.breadth, len(lines) * layout.line, layout.font)
    for number, entries_of_line in enumerate(lines):
        for x, icon, text in entries_of_line:
            strip.paste(x, number * layout.line + (layout.line - icon.shape[1]) // 2, icon)
            start = x + icon.shape[2] + 6
            strip.write(start, (number + 0.5) * layout.line, text, MUTED, layout.breadth - start)
    return strip.pixels()


def _row_panels(row: MapRow, size: tuple[int, int], has_base: bool, has_second: bool = False) -> list[Tensor]:
    """The image and the maps of one row as panels `(3, *size)`, one for each column of the page."""
    fit = fitted(row.image, size)
    image = resized(row.image.cpu(), fit)
    scale = torch.tensor([fit.width / row.image.shape[2], fit.height / row.image.shape[1]] * 2, dtype=torch.float64)
    boxes = torch.empty(0, 4) if row.boxes is None else row.boxes.cpu() * scale
    maps = [(row.base, row.base_hit, row.tolerance)] * has_base + [(row.sess, row.hit, row.tolerance)]
    maps += [(row.second, None, 0.0)] * has_second  # its class has no objects to hit
    panels = [mounted(draw_boxes(image, boxes), fit, size)]
    for saliency, hit, tolerance in maps:
        if saliency is None:
            panels.append(torch.tensor(PAGE, dtype=torch.uint8).view(3, 1, 1).repeat(1, *size))
        else:
            panels.append(_map_panel(image, saliency.detach().cpu().float(), boxes, hit, tolerance, fit, size))
    return panels


def _map_panel(
    image: Tensor, saliency: Tensor, boxes: Tensor, hit: bool | None, tolerance: float, fit: Fit, size: tuple[int, int]
) -> Tensor:
    """Overlay one map on the fitted image, with boxes and peak; a constant map has no peak."""
    shape = (fit.height, fit.width)
    shown = F.interpolate(saliency[None, None], shape, mode="bilinear", antialias=True)[0, 0]
    panel = mounted(draw_boxes(overlay(image, shown), boxes), fit, size)
    if not saliency.max() > saliency.min():
        return panel
    y, x = divmod(int(saliency.numpy().argmax()), saliency.shape[1])  # NumPy promises the first of equal maxima
    x_panel = fit.left + (x + 0.5) * fit.width / saliency.shape[1] - 0.5
    y_panel = fit.top + (y + 0.5) * fit.height / saliency.shape[0] - 0.5
    if hit is None or tolerance == 0:
        return draw_peak(panel, x_panel, y_panel, hit)
    circle = tolerance * fit.height / saliency.shape[0]
    panel = draw_circle(panel, x_panel, y_panel, circle)
    return draw_peak(panel, x_panel, y_panel, hit, radius=max(3.0, min(peak_radius(panel), 0.45 * circle)))


def _caption(row: MapRow, layout: Layout) -> list[str]:
    """The lines of a row's caption: one if it fits, else more; names that are too long are shortened."""
    score = f" p={row.score:.2f}"
    parts, rest = [], []
    if row.label is not None:
        parts.append(("label ", row.label, score if row.explained == row.label != row.prediction else ""))
    if row.prediction:
        parts.append(("predicted ", row.prediction, score if row.explained == row.prediction else ""))
    if row.explained is None or row.explained not in (row.label, row.prediction):
        rest.append(("explained" + " " * bool(row.explained), row.explained or "", score))
    rest += [
        (f"{who} ", "hit" if hit else "miss", "")
        for who, hit in (("SESS", row.hit), ("base", row.base_hit))
        if hit is not None
    ]
    whole = joined(parts + rest, None, layout)
    if layout.font.getlength(whole) <= layout.breadth:
        return [whole]
    return _lines(parts, layout) + _lines(rest, layout)


def _lines(parts: Sequence[tuple[str, str, str]], layout: Layout) -> list[str]:
    """Join parts to one line, or to several if even shortened names do not fit one."""
    text = joined(parts, layout.breadth, layout)
    if len(parts) < 2 or layout.font.getlength(text) <= layout.breadth:
        return [text] * bool(parts)
    half = len(parts) // 2
    return _lines(parts[:half], layout) + _lines(parts[half:], layout)


def joined(parts: Sequence[tuple[str, str, str]], width: int | None, layout: Layout) -> str:
    """Join parts (before, name, after) to one line; the longest names are shortened to fit, down to three letters."""
    names = [printable(name) for _, name, _ in parts]
    room = [len(name) for name in names]
    while True:
        short = [name if len(name) <= n else name[:n].rstrip(" ,") + "…" for name, n in zip(names, room, strict=True)]
        text = DOT.join(before + name + after for (before, _, after), name in zip(parts, short, strict=True))
        if width is None or layout.font.getlength(text) <= width or max(room) <= 3:
            return text
        room[room.index(max(room))] -= 1
