"""How a map came about, as in Fig. 2 of the paper, drawn from the result itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from sess_lightning.checks import check_count
from sess_lightning.pixels import resize
from sess_lightning.render.colormap import colorize, overlay
from sess_lightning.render.connectors import Connector, with_connectors
from sess_lightning.render.marks import draw_boxes
from sess_lightning.render.page import MUTED, TEXT, Canvas
from sess_lightning.render.panel import Fit, panel_size, resized
from sess_lightning.render.paper_figures import check_image, in_image
from sess_lightning.render.process_layout import Group, Sheet, Spot, sheet_for
from sess_lightning.sess.windows import Window

if TYPE_CHECKING:  # SESSResult draws itself with this package
    from sess_lightning.sess import SESSResult

T = TypeVar("T")

_THIN, _THICK = 0.015, 0.11  # of the lines into the fused map, in patches, for weights 0 and 1
_PALE = 0.6  # of the outlines of windows whose patches are not shown


def process_figure(
    image: Tensor,
    result: SESSResult,
    number: int = 0,
    num_scales: int = 3,
    num_patches: int = 2,
    title: str | None = None,
    panel_height: int = 112,
) -> Tensor:
    """How the map came about, as in Fig. 2: scales, windows, patches, maps, weights, fusion, from left to right.

    All pictures and numbers are the result's own. Of the scales some are shown, evenly spaced, that of the best patch
    among them, and in proportion to each other; of the patches of such a scale that passed the pre-filter some, from
    the best to the worst. The lines into the fused map are as thick as the weights.

    Args:
        image: `(3, H, W)` uint8, the image that was explained.
        result: made with `keep_patches=True`, by a SESS with `weight_by_score`, which is the default.
        number: of the image in the result.
        num_scales: how many scales are shown at most; three show the principle.
        num_patches: how many patches of each of these scales are shown at most.
        title: stands on top; None writes the index of the class.
        panel_height: of a patch, in pixels, at least 32; all else follows. 112 makes a page about 1700 pixels wide,
            which can still be read at half that size.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if the result has no patch maps, the image is not the one that was explained, or a number is out of
            its range.

    Example:
        >>> from sess_lightning import SESS
        >>> from torch.nn import AdaptiveAvgPool2d, Conv2d, Flatten, Linear, Sequential
        >>> net = Sequential(Conv2d(3, 4, 3), AdaptiveAvgPool2d(1), Flatten(), Linear(4, 2))
        >>> picture = torch.randint(256, (3, 60, 80), dtype=torch.uint8)
        >>> result = SESS(num_scales=3, window_size=32)(net, picture[None] / 255, keep_patches=True)
        >>> process_figure(picture, result, panel_height=64).dtype
        torch.uint8
    """
    check_image(image, result, number)
    check_count("num_scales", num_scales)
    check_count("num_patches", num_patches)
    panel_size([image], panel_height)  # checks the height
    if result.patch_maps is None:
        raise ValueError("Expected argument `result` to hold patch maps: call sess(..., keep_patches=True).")
    image = image.cpu()
    scales = _shown_scales(image, result, result.patch_maps[number], number, num_scales, num_patches)
    sheet = sheet_for(
        image=(image.shape[1], image.shape[2]),
        window=scales[0].window,
        scaled=[(scale.picture.shape[1], scale.picture.shape[2]) for scale in scales],
        patches=[len(scale.patches) for scale in scales],
        unit=panel_height,
    )
    canvas = Canvas(sheet.columns[-1], sheet.height, sheet.text.font)
    _lay(canvas, image, sheet.image)
    _lay(canvas, overlay(image, result.maps[number].cpu().float().clamp(0, 1)), sheet.fused)
    for scale, group in zip(scales, sheet.groups, strict=True):
        _draw_scale(canvas, scale, group, sheet)
    _write(canvas, sheet, result, number, title)
    return with_connectors(canvas.pixels(), list(_curves(sheet, scales)), MUTED)


@dataclass(frozen=True, eq=False)
class _Patch:
    """One patch on its way."""

    window: Window
    picture: Tensor  # (3, h, w) uint8
    saliency: Tensor  # the same under the colours of its map
    placed: Tensor  # (3, H, W) uint8: the image under the colours of the weighted map in its place
    score: float
    weight: float


@dataclass(frozen=True, eq=False)
class _Scale:
    """One scaled image with its windows."""

    picture: Tensor  # (3, scaled_h, scaled_w) uint8
    windows: Tensor  # (n, 6) of all its windows
    kept: Tensor  # (k, 6) of those that passed the pre-filter
    patches: list[_Patch]  # those shown, from top to bottom

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of a window."""
        x1, y1, x2, y2 = self.windows[0, :4].tolist()
        return y2 - y1, x2 - x1


def _shown_scales(
    image: Tensor, result: SESSResult, maps: Tensor, number: int, num_scales: int, num_patches: int
) -> list[_Scale]:
    """Evenly spaced scales, that of the best patch among them; of each evenly spaced ranks of its patches."""
    windows, kept = result.windows[number].cpu(), result.kept[number].tolist()
    scores = result.scores[number].cpu().float().nan_to_num(0)
    weights = scores / scores.max().clamp(min=torch.finfo(scores.dtype).tiny)

    def patch(index: int) -> _Patch:
        own = maps[kept.index(index)].cpu().float().clamp(0, 1)
        return _patch(image, windows[index], own, float(scores[index]), float(weights[index]))

    groups = [list(group) for _, group in groupby(range(len(windows)), key=lambda i: windows[i, 4:].tolist())]
    best = next(i for i, group in enumerate(groups) if int(weights.argmax()) in group)
    chosen = _spread(range(len(groups)), num_scales)
    if best not in chosen:
        chosen[min(range(len(chosen)), key=lambda i: abs(chosen[i] - best))] = best
    shown = []
    for group in (groups[i] for i in chosen):
        ranked = sorted(set(group).intersection(kept), key=lambda i: (-float(weights[i]), i))
        picture = _scaled(image, windows[group[0], 4:].tolist())
        patches = [patch(index) for index in sorted(_spread(ranked, num_patches))]
        shown.append(_Scale(picture, windows[group], windows[sorted(ranked)], patches))
    return shown


def _patch(image: Tensor, window: Tensor, saliency: Tensor, score: float, weight: float) -> _Patch:
    x1, y1, x2, y2, *size = window.tolist()
    picture = _scaled(image, size)[:, y1:y2, x1:x2]
    own = resize(saliency[None, None], (size[0], size[1]))[0, 0, y1:y2, x1:x2]
    placed = draw_boxes(overlay(image, weight * saliency), in_image(window[None], image))
    return _Patch(Window(*window.tolist()), picture, overlay(picture, own), placed, score, weight)


def _scaled(image: Tensor, size: Sequence[int]) -> Tensor:
    """The image `(3, H, W)` uint8, scaled as SESS scales it."""
    return resize(image[None].float(), (size[0], size[1]))[0].round().clamp(0, 255).to(torch.uint8)


def _spread(things: Sequence[T], count: int) -> list[T]:
    """At most `count` of them, evenly spaced from the first to the last."""
    if len(things) <= count:
        return list(things)
    return [things[round(i * (len(things) - 1) / max(count - 1, 1))] for i in range(count)]


def _lay(canvas: Canvas, picture: Tensor, place: Spot) -> None:
    canvas.paste(place.x, place.y, resized(picture, Fit(place.height, place.width, 0, 0)))


def _draw_scale(canvas: Canvas, scale: _Scale, group: Group, sheet: Sheet) -> None:
    """The scaled image under its windows, and the strips of its patches."""
    text, place = sheet.text, group.scaled
    picture = resized(scale.picture, Fit(place.height, place.width, 0, 0))
    picture = _under_grid(picture, in_image(scale.kept, picture))
    if scale.patches:
        picture = draw_boxes(picture, in_image(torch.tensor([patch.window for patch in scale.patches]), picture))
    canvas.paste(place.x, place.y, picture)
    count = f"{len(scale.windows)} window{'s' * (len(scale.windows) > 1)}"
    if len(scale.kept) < len(scale.windows):
        count += f", {len(scale.kept)} kept"
    words = (f"{scale.picture.shape[2]} x {scale.picture.shape[1]}", count)
    x = min(place.x, sheet.columns[2] - round(max(map(text.font.getlength, words))) - 1)
    for line, caption in enumerate(words):
        y = place.y + place.height + (line + 0.6) * text.line
        canvas.write(x, y, caption, MUTED, sheet.columns[2] - x)
    for patch, strip in zip(scale.patches, group.strips, strict=True):
        _lay(canvas, patch.picture, strip.patch)
        _lay(canvas, patch.saliency, strip.saliency)
        _lay(canvas, patch.placed, strip.placed)
        start, middle = strip.saliency.right
        for caption, shift in ((f"p={patch.score:.2f}", -0.6), (f"x {patch.weight:.2f}", 0.6)):
            x = round((start + strip.placed.x - text.font.getlength(caption)) / 2)
            canvas.write(x, middle + shift * text.line, caption, TEXT, strip.placed.x - x)


def _under_grid(picture: Tensor, boxes: Tensor) -> Tensor:
    """Thin pale outlines of all windows, which leave the picture visible."""
    lines = torch.zeros(picture.shape[1:], dtype=torch.bool)
    for x1, y1, x2, y2 in boxes.round().int().tolist():
        lines[[y1, y2 - 1], x1:x2] = True
        lines[y1:y2, [x1, x2 - 1]] = True
    pale = (_PALE * 255 + (1 - _PALE) * picture.float()).round().to(torch.uint8)
    return torch.where(lines, pale, picture)


def _write(canvas: Canvas, sheet: Sheet, result: SESSResult, number: int, title: str | None) -> None:
    """Title, headings, how much is not shown, legend."""
    text, columns = sheet.text, sheet.columns
    line, gap = text.line, text.gap
    height, width = result.maps[number].shape
    windows, kept = result.windows[number], len(result.kept[number])
    x1, y1, x2, y2 = windows[0, :4].tolist()
    scales = len({tuple(size) for size in windows[:, 4:].tolist()})
    canvas.write(
        columns[0], 0.8 * line, title or f"class {int(result.targets[number])}", TEXT, columns[-1] - columns[0]
    )
    headings = (
        ("image", f"{width} x {height}"),
        (f"{scales} scales", f"{len(windows)} windows"),
        ("patches", f"{x2 - x1} x {y2 - y1}"),
        ("maps", "and scores p"),
        ("weighted", "by p / best p"),
        ("fused", f"of {kept} maps"),
    )
    for column, (above, below) in enumerate(headings):
        room = columns[column + 1] - columns[column] - gap
        canvas.write(columns[column], 2 * line, above, TEXT, room)
        canvas.write(columns[column], 2.9 * line, below, MUTED, room)
    shown = sum(len(group.strips) for group in sheet.groups)
    y = sheet.bottom + 0.5 * line
    if kept > shown:
        canvas.write(columns[2], y, f"and {kept - shown} more", MUTED, columns[5] - columns[2])
    bar = colorize(torch.linspace(0, 1, 6 * text.font_size).expand(round(0.7 * text.font_size), -1))
    y += 1.4 * line
    canvas.paste(columns[0], round(y - bar.shape[1] / 2), bar)
    start = columns[0] + bar.shape[2] + text.font_size // 2
    canvas.write(
        start, y, "saliency, low to high; the thicker a line, the greater the weight", MUTED, columns[-1] - start
    )


def _curves(sheet: Sheet, scales: Sequence[_Scale]) -> Iterator[Connector]:
    """The way of every picture, from left to right."""
    unit = sheet.text.height
    fine = max(1.0, unit / 64)
    count = sum(len(scale.patches) for scale in scales)
    arriving = iter(range(count))
    for scale, group in zip(scales, sheet.groups, strict=True):
        yield Connector(sheet.image.right, group.scaled.left, fine, arrow=True)
        for patch, strip in zip(scale.patches, group.strips, strict=True):
            yield Connector(_middle(patch.window, group.scaled), strip.patch.left, fine, dot=True)
            yield Connector(strip.patch.right, strip.saliency.left, fine, arrow=True)
            yield Connector(strip.saliency.right, strip.placed.left, fine, arrow=True)
            x, y, height, _ = sheet.fused
            end = x, y + height * (next(arriving) + 0.5) / count
            yield Connector(strip.placed.right, end, unit * (_THIN + (_THICK - _THIN) * patch.weight))


def _middle(window: Window, place: Spot) -> tuple[float, float]:
    """The middle of a window in the scaled image on the page."""
    x = place.x + place.width * (window.x1 + window.x2) / 2 / window.scaled_w
    y = place.y + place.height * (window.y1 + window.y2) / 2 / window.scaled_h
    return x, y
