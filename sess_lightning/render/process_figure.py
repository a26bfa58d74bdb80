"""How a map was made, as in Fig. 2 of the paper, drawn from the result itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sess_lightning.checks import check_count
from sess_lightning.pixels import Size
from sess_lightning.render.colormap import colorize, overlay
from sess_lightning.render.page import MUTED, PAGE, TEXT
from sess_lightning.render.panel import Fit, panel_size, resized
from sess_lightning.render.plot_page import PlotPage, drawn_and_freed, shade
from sess_lightning.render.process_steps import PatchSteps, ScaleSteps, shown_scales
from sess_lightning.render.result_fields import ResultFields, check_image
from sess_lightning.render.text import font_of

Point = tuple[float, float]

# In heights of a patch:
_WHOLE = (2.6, 2.8)  # largest height and width of the image and of the fused map
_SCALED_WIDTH = 2.8  # largest width of a scaled image
_WEIGHTED_WIDTH = 1.6  # largest width of the image under one weighted map
_GAPS = (0.5, 0.6, 0.35, 0.95, 1.1, 0.0)  # between the columns
_THIN, _THICK = 0.015, 0.11  # of the lines into the fused map, for weights 0 and 1
# In pixels:
_HALO = 1.2  # in the colour of the page around every line, which separates it from pictures of any colour


def process_figure(
    image: Tensor,
    result: ResultFields,
    number: int = 0,
    num_scales: int = 3,
    num_patches: int = 2,
    title: str | None = None,
    panel_height: int = 112,
) -> Tensor:
    """Draw how the map was made, as in Fig. 2: scales, windows, patches, maps, weights, fusion, from left to right.

    All pictures and numbers are those of the result. The scales shown are evenly spaced, with that of the best patch
    among them, and are drawn in proportion to each other; of the patches of a scale that passed the pre-filter, evenly
    spaced ranks from the best to the worst are shown. The lines into the fused map are as thick as the weights.

    Args:
        image: `(3, H, W)` uint8, the image that was explained.
        result: made with `keep_patches=True`, by a SESS with `weight_by_score`, which is the default.
        number: index of the image in the result.
        num_scales: how many scales are shown at most; three show the principle.
        num_patches: how many patches of each of these scales are shown at most.
        title: one line on top of the page; None writes the index of the class.
        panel_height: height of a patch in pixels, at least 32; all other sizes follow from it. 112 makes a page about
            1700 pixels wide, which can still be read at half that size.

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
    scales = shown_scales(image, result, result.patch_maps[number], number, num_scales, num_patches)
    headings, words = _headings(result, number), title or f"class {int(result.targets[number])}"
    fused = overlay(image, result.maps[number].cpu().float().clamp(0, 1))

    def draw() -> Tensor:
        drawing = _Drawing(image, scales, headings, panel_height)
        drawing.write_words(words, len(result.kept[number]))
        drawing.draw_steps(image, fused)
        return drawing.page.pixels()

    return drawn_and_freed(draw)


def _headings(result: ResultFields, number: int) -> list[tuple[str, str]]:
    """Two lines above each of the six columns."""
    windows = result.windows[number]
    height, width = result.maps[number].shape
    x1, y1, x2, y2 = windows[0, :4].tolist()
    return [
        ("image", f"{width} x {height}"),
        (_counted(len(windows[:, 4:].unique(dim=0)), "scale"), _counted(len(windows), "window")),
        ("patches", f"{x2 - x1} x {y2 - y1}"),
        ("maps", "and scores p"),
        ("weighted", "by p / best p"),
        ("fused", f"of {_counted(len(result.kept[number]), 'map')}"),
    ]


class _Spot(NamedTuple):
    """Where a picture is placed on the page, in pixels."""

    x: int
    y: int
    height: int
    width: int

    def at(self, across: float, down: float) -> Point:
        """The point that lies these shares of the width and the height from the top left corner."""
        return self.x + across * self.width, self.y + down * self.height


class _Drawing:
    """Six columns from left to right: image, scales, patches, maps, weighted maps, fused map."""

    def __init__(
        self, image: Tensor, scales: Sequence[ScaleSteps], headings: Sequence[tuple[str, str]], unit: int
    ) -> None:
        font_size = max(11, round(unit / 5.6))
        self.font, self.line, self.gap = font_of(font_size), round(1.45 * font_size), round(0.6 * font_size)
        self.scales, self.headings, self.unit = scales, headings, unit
        # Every scale is as high as its patches and as a patch with two captions; a line separates it from the next one.
        least = unit + self.gap + 2 * self.line
        self.rooms = [max(len(scale.patches) * (unit + self.gap), least) + self.line for scale in scales]
        self.top, self.body = round(3.6 * self.line), sum(self.rooms) - self.line
        heights = [room - 2 * self.line - self.gap for room in self.rooms]  # that scaled images may have
        self.factor = min(height / scale.picture.shape[1] for height, scale in zip(heights, scales, strict=True))
        self.factor = min(self.factor, *(_SCALED_WIDTH * unit / scale.picture.shape[2] for scale in scales))
        self.whole = _within(image, min(_WHOLE[0] * unit, self.body), _WHOLE[1] * unit)
        self.weighted = _within(image, unit, _WEIGHTED_WIDTH * unit)
        patch = next(scale.patches[0].picture for scale in scales if scale.patches)
        self.patch = _within(patch, unit, unit * patch.shape[2] / patch.shape[1])
        captions = [text for scale in scales for text in _captions(scale)]
        widest_scale = max(self.factor * scale.picture.shape[2] for scale in scales)
        scaled_width = round(max(widest_scale, *map(self.font.getlength, captions)))
        self.widths = [self.whole[1], scaled_width, self.patch[1], self.patch[1], self.weighted[1], self.whole[1]]
        self.lefts = self._columns()
        self.page = PlotPage(self.lefts[-1], self.top + self.body + round(2.6 * self.line), font_size)

    def _columns(self) -> list[int]:
        """Left edges of the columns, and the right edge of the page; neither pictures nor words touch each other."""
        steps = []
        for width, gap, heading in zip(self.widths, _GAPS, self.headings, strict=True):
            words = max(map(self.font.getlength, heading))
            steps.append(round(max(width + gap * self.unit, words + 2 * self.gap)))
        numbers = round(self.font.getlength("p=0.00")) + 2 * self.gap
        steps[3] = max(steps[3], self.widths[3] + numbers)
        steps[5] += 2 * self.gap
        return list(accumulate(steps, initial=2 * self.gap))

    def write_words(self, title: str, kept: int) -> None:
        """Write title, headings, how many of the kept patches are not shown, and the legend."""
        page, line, lefts = self.page, self.line, self.lefts
        width = lefts[-1] - 2 * self.gap
        page.write(lefts[0], 0.8 * line, title, TEXT, width - lefts[0])
        for left, right, (above, below) in zip(lefts, lefts[1:], self.headings, strict=False):
            page.write(left, 2 * line, above, TEXT, right - left)
            page.write(left, 2.9 * line, below, MUTED, right - left)
        y = self.top + self.body + 0.5 * line
        more = kept - sum(len(scale.patches) for scale in self.scales)
        if more:
            page.write(lefts[2], y, f"and {more} more", MUTED, lefts[5] - lefts[2])
        y += 1.4 * line
        bar = colorize(torch.linspace(0, 1, 6 * page.font_size).expand(round(0.7 * page.font_size), -1))
        page.place(bar, lefts[0], round(y - bar.shape[1] / 2))
        start = lefts[0] + bar.shape[2] + page.font_size // 2
        page.write(start, y, "saliency, low to high; the thicker a line, the greater the weight", MUTED, width - start)

    def draw_steps(self, image: Tensor, fused: Tensor) -> None:
        """Place all pictures and connect them from left to right."""
        middle = self.top + self.body / 2
        first, last = self._place(0, middle, image, self.whole), self._place(5, middle, fused, self.whole)
        y, count, arrived = float(self.top), sum(len(scale.patches) for scale in self.scales), 0
        fine = max(1.0, self.unit / 64)
        for scale, room in zip(self.scales, self.rooms, strict=True):
            shown = self._draw_scale(scale, y + (room - 3 * self.line) / 2)
            self._connect(first.at(1, 0.5), shown.at(0, 0.5), fine, arrow=True)
            pitch = self.unit + self.gap
            centre = y + (room - self.line - self.gap - (len(scale.patches) - 1) * pitch) / 2  # of the first patch
            for number, patch in enumerate(scale.patches):
                weighted = self._draw_patch(patch, shown, centre + number * pitch, fine)
                end = last.at(0, (arrived + 0.5) / count)
                self._connect(weighted.at(1, 0.5), end, self.unit * (_THIN + (_THICK - _THIN) * patch.weight))
                arrived += 1
            y += room

    def _draw_scale(self, scale: ScaleSteps, middle: float) -> _Spot:
        """The scaled image with its kept windows, those of the patches shown with a strong outline."""
        height, width = scale.picture.shape[1:]
        size = max(1, round(self.factor * height)), max(1, round(self.factor * width))
        spot = self._place(1, middle, scale.picture, size)
        self._outline(spot, scale.kept, strong=False)
        for patch in scale.patches:
            self._outline(spot, patch.window[None], strong=True)
        for number, caption in enumerate(_captions(scale)):
            y = spot.y + spot.height + (number + 0.6) * self.line
            self.page.write(spot.x, y, caption, MUTED, self.lefts[2] - spot.x)
        return spot

    def _draw_patch(self, patch: PatchSteps, scaled: _Spot, middle: float, fine: float) -> _Spot:
        """The patch, its map with score and weight, and its weighted map, connected with each other."""
        picture = self._place(2, middle, patch.picture, self.patch)
        saliency = self._place(3, middle, patch.saliency, self.patch)
        weighted = self._place(4, middle, patch.weighted, self.weighted)
        self._outline(weighted, patch.window[None], strong=True)
        x1, y1, x2, y2, height, width = patch.window.tolist()
        centre = scaled.at((x1 + x2) / 2 / width, (y1 + y2) / 2 / height)
        self._connect(centre, picture.at(0, 0.5), fine, dot=True)
        self._connect(picture.at(1, 0.5), saliency.at(0, 0.5), fine, arrow=True)
        self._connect(saliency.at(1, 0.5), weighted.at(0, 0.5), fine, arrow=True)
        x = (saliency.at(1, 0)[0] + weighted.x) / 2
        for text, shift in ((f"p={patch.score:.2f}", -0.6), (f"x {patch.weight:.2f}", 0.6)):
            self.page.write(x, middle + shift * self.line, text, TEXT, weighted.x - saliency.at(1, 0)[0], "center")
        return weighted

    def _place(self, column: int, middle: float, picture: Tensor, size: Size) -> _Spot:
        """Place a picture at the left of its column, its vertical centre at `middle`."""
        spot = _Spot(self.lefts[column], round(middle - size[0] / 2), *size)
        self.page.place(resized(picture, Fit(*size, 0, 0)), spot.x, spot.y)
        return spot

    def _outline(self, spot: _Spot, windows: Tensor, strong: bool) -> None:
        """Outline windows `(n, 6)` on a picture: pale and thin, or white between dark lines."""
        from matplotlib.patches import Rectangle

        white = 255, 255, 255
        strokes = ((PAGE, 3, 1.0), (white, 1, 1.0)) if strong else ((white, 1, 0.6),)
        for x1, y1, x2, y2, height, width in windows.tolist():
            (left, top), (right, bottom) = spot.at(x1 / width, y1 / height), spot.at(x2 / width, y2 / height)
            for colour, line_width, alpha in strokes:
                outline = Rectangle((left + 0.5, top + 0.5), right - left - 1, bottom - top - 1, fill=False, zorder=1)
                outline.set(edgecolor=shade(colour), linewidth=line_width, alpha=alpha, transform=self.page.transform)
                self.page.add(outline)

    def _connect(self, start: Point, end: Point, width: float, dot: bool = False, arrow: bool = False) -> None:
        """Draw a curve that leaves and arrives horizontally, with a dot at its start or an arrowhead at its end."""
        from matplotlib.patches import Circle, PathPatch, Polygon
        from matplotlib.path import Path

        tip, end = end, (end[0] - 4 * width * arrow, end[1])
        middle = (start[0] + end[0]) / 2
        curve = Path([start, (middle, start[1]), (middle, end[1]), end], [Path.MOVETO, *[Path.CURVE4] * 3])
        for colour, halo, zorder in ((PAGE, _HALO, 2), (MUTED, 0.0, 3)):  # all halos lie below all lines
            style: dict[str, Any] = {"transform": self.page.transform, "edgecolor": shade(colour), "zorder": zorder}
            filled = {**style, "facecolor": shade(colour), "linewidth": 2 * halo}
            self.page.add(PathPatch(curve, fill=False, linewidth=width + 2 * halo, capstyle="butt", **style))
            if arrow:
                self.page.add(Polygon([(end[0], tip[1] - 2 * width), tip, (end[0], tip[1] + 2 * width)], **filled))
            if dot:
                self.page.add(Circle(start, 2 * width, **filled))


def _captions(scale: ScaleSteps) -> tuple[str, str]:
    """Size of the scaled image, and how many windows it has."""
    count = _counted(scale.count, "window")
    if len(scale.kept) < scale.count:
        count += f", {len(scale.kept)} kept"
    return f"{scale.picture.shape[2]} x {scale.picture.shape[1]}", count


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _within(picture: Tensor, height: float, width: float) -> Size:
    """The largest size with the picture's aspect that fits into `height` and `width`."""
    scale = min(height / picture.shape[1], width / picture.shape[2])
    return max(1, round(scale * picture.shape[1])), max(1, round(scale * picture.shape[2]))
