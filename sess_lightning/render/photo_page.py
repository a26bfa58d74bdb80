"""Page of explained photos: each with its maps side by side and, below them, the score of every patch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from sess_lightning.render.colormap import colorize, overlay
from sess_lightning.render.marks import draw_boxes
from sess_lightning.render.page import MUTED, PAGE, Canvas, Layout, draw_page
from sess_lightning.render.panel import fitted, mounted, panel_size, resized
from sess_lightning.render.picture import check_finite, check_picture
from sess_lightning.render.result_fields import window_boxes
from sess_lightning.render.text import DOT

_SCALES_IN_A_ROW = (6, 4, 3)
_SCALE_WIDTH = 140  # pixels that a heading such as "1392 x 928: 0.42" needs


class _Strip(Layout):
    """The measures of a strip of small pictures, whose text is larger than their height suggests."""

    @property
    def font_size(self) -> int:
        """Font size in pixels."""
        return 15


@dataclass(frozen=True, eq=False)
class PhotoRow:
    """One explained photo of an `explanation_page`.

    Args:
        image: `(3, H, W)` uint8.
        maps: heading of each map, `(H, W)` in [0, 1], from left to right; at least one.
        caption: one line about the photo, e.g. class and probability.
        windows: `(P, 6)` int as in `SESSResult`; None: no patch scores are drawn.
        scores: `(P,)` in [0, 1], the probability of the class for every window.

    Raises:
        ValueError: if a shape or type is not as above, a map is not finite, or windows and scores differ in number.
    """

    image: Tensor
    maps: Mapping[str, Tensor]
    caption: str
    windows: Tensor | None = None
    scores: Tensor | None = None

    def __post_init__(self) -> None:
        check_picture("image", self.image)
        if not self.maps:
            raise ValueError("Expected argument `maps` to hold at least one map, but got none.")
        for name, saliency in self.maps.items():
            check_finite(name, saliency, "(H, W)", 2, exact=True)
            if saliency.shape != self.image.shape[-2:]:
                size = tuple(self.image.shape[-2:])
                raise ValueError(f"Expected `{name}` to have the image's size {size}, but got {tuple(saliency.shape)}.")
        counts = [None if part is None else len(part) for part in (self.windows, self.scores)]
        if counts[0] != counts[1]:
            raise ValueError(f"Expected as many `scores` as `windows`, but got {counts[1]} for {counts[0]}.")


def explanation_page(rows: Sequence[PhotoRow], title: str | None = None, panel_height: int = 320) -> Tensor:
    """Draw photo, maps and patch scores: one block for each row, from top to bottom.

    Each scale of the pyramid is a small picture whose windows are coloured by their score divided by the best score of
    the photo, which is the weight that SESS gives them; the best window of the photo is outlined in white.

    Args:
        rows: the photos, of any sizes, with maps of the same headings; at least one.
        title: one line on top, or None.
        panel_height: height of the photo and its maps in pixels, at least 32; 320 can be read without zooming.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if there are no rows, their headings differ, or `panel_height` is not an int of at least 32.

    Example:
        >>> image, saliency = torch.zeros(3, 40, 60, dtype=torch.uint8), torch.rand(40, 60)
        >>> windows, scores = torch.tensor([[0, 0, 32, 32, 32, 48], [16, 0, 48, 32, 32, 48]]), torch.tensor([0.2, 0.8])
        >>> row = PhotoRow(image, {"base": saliency, "SESS": saliency}, "tabby 62 %", windows, scores)
        >>> explanation_page([row], "cat.jpg", panel_height=96).shape[0]
        3
    """
    if not len(rows):
        raise ValueError("Expected argument `rows` to hold at least one row, but got none.")
    headings = list(rows[0].maps)
    if any(list(row.maps) != headings for row in rows):
        raise ValueError(f"Expected all `rows` to have maps of the same headings, {headings}.")
    size = panel_size([row.image for row in rows], panel_height)
    layout = Layout(*size, columns=1 + len(headings))
    parts = []
    for number, row in enumerate(rows):
        pictures = [row.image.cpu()]
        pictures += [overlay(row.image.cpu(), saliency.detach().cpu().float()) for saliency in row.maps.values()]
        panels = [mounted(resized(p, fitted(p, size)), fitted(p, size), size) for p in pictures]
        parts.append(draw_page(layout, [panels], ["photo", *headings], None if number else title, [[row.caption]]))
        if row.windows is not None and row.scores is not None:
            parts += _pyramid(row.image.cpu(), row.windows.cpu(), row.scores.detach().cpu().float(), layout)
    parts.append(_legend(layout, any(row.windows is not None for row in rows)))
    width = max(part.shape[2] for part in parts)
    return torch.cat([_padded(part, right=width - part.shape[2]) for part in parts], dim=1)


def _pyramid(image: Tensor, windows: Tensor, scores: Tensor, page: Layout) -> list[Tensor]:
    """Draw the scales of the pyramid as strips of small pictures, with windows coloured by score."""
    scores = scores.nan_to_num(0)
    best = int(scores.argmax())
    weights = scores / scores[best].clamp(min=torch.finfo(scores.dtype).tiny)
    columns = next((n for n in _SCALES_IN_A_ROW if page.breadth // n >= _SCALE_WIDTH), _SCALES_IN_A_ROW[-1])
    gap = _Strip(1, 1, columns).gap
    width = (page.breadth + gap) // columns - gap
    layout = _Strip(round(width * page.height / page.width), width, columns)
    fit = fitted(image, (layout.height, layout.width))
    grey = resized(image, fit)
    pictures, headings = [], []
    for (scaled_h, scaled_w), group in groupby(range(len(windows)), key=lambda i: tuple(windows[i, 4:].tolist())):
        chosen = list(group)
        picture = _tinted(grey, windows[chosen], weights[chosen])
        if best in chosen:
            picture = draw_boxes(picture, window_boxes(windows[best : best + 1], grey))
        pictures.append(mounted(picture, fit, (layout.height, layout.width)))
        headings.append(f"{scaled_w} x {scaled_h}: {float(scores[chosen].max()):.2f}")
    noun = "patch" if len(windows) == 1 else "patches"
    titles = [f"{len(windows)} {noun}: size of the scaled photo, and the probability of its best patch"]
    strips = []
    for begin in range(0, len(pictures), columns):
        some = slice(begin, begin + columns)
        strip = draw_page(layout, [pictures[some]], headings[some], titles.pop() if titles else None)
        strips.append(_padded(strip, page.gap - gap))
    return strips


def _tinted(image: Tensor, windows: Tensor, weights: Tensor) -> Tensor:
    """Colour the small image by the weights of its windows, by their mean where windows overlap, with thin borders."""
    total, count = torch.zeros(image.shape[1:]), torch.zeros(image.shape[1:])
    borders = torch.zeros(image.shape[1:], dtype=torch.bool)
    for (x1, y1, x2, y2), weight in zip(window_boxes(windows, image).round().int().tolist(), weights, strict=True):
        total[y1:y2, x1:x2] += weight
        count[y1:y2, x1:x2] += 1
        borders[y1:y2, [x1, x2 - 1]] = True
        borders[[y1, y2 - 1], x1:x2] = True
    tinted = overlay(image, total / count.clamp(min=1)).float()
    return torch.where(borders, 0.35 * tinted + 0.65 * torch.tensor(PAGE).view(3, 1, 1), tinted).round().to(torch.uint8)


def _legend(layout: Layout, has_scores: bool) -> Tensor:
    """The colour bar and its meaning."""
    size = layout.font_size
    bar = colorize(torch.linspace(0, 1, 6 * size).expand(round(0.7 * size), -1))
    text = "saliency, low to high"
    if has_scores:
        text += f"{DOT}of patches: probability, 0 to the photo's best"
    canvas = Canvas(layout.column(layout.columns), layout.line + layout.gap, layout.font)
    canvas.paste(layout.gap, (layout.line - bar.shape[1]) // 2 + layout.gap // 2, bar)
    start = layout.gap + bar.shape[2] + size // 2
    canvas.write(start, layout.gap // 2 + layout.line / 2, text, MUTED, layout.breadth - start)
    return canvas.pixels()


def _padded(part: Tensor, left: int = 0, right: int = 0) -> Tensor:
    """Widen a part of a page by `left` and `right` empty pixels."""
    ground = torch.tensor(PAGE, dtype=torch.uint8).view(3, 1, 1)
    sides = [ground.expand(3, part.shape[1], max(0, n)) for n in (left, right)]
    return torch.cat([sides[0], part, sides[1]], dim=2)
