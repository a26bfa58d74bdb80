"""Where everything stands on the page of `process_figure`: six columns from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

from sess_lightning.pixels import Size
from sess_lightning.render.page import Layout

# In heights of a patch:
_WHOLE = (2.6, 2.8)  # height and width that the image and the fused map may have
_SCALED_WIDTH = 2.8  # likewise the largest scaled image
_PLACED_WIDTH = 1.6  # likewise the image under one weighted map
_GAPS = (0.5, 0.6, 0.35, 0.95, 1.1)  # between the columns
_HEADINGS = 3.6  # lines above the pictures: title, headings of two lines


class _Text(Layout):
    """Text that can be read although patches are small."""

    @property
    def font_size(self) -> int:
        """Of all text, in pixels."""
        return max(11, round(self.height / 5.6))


class Spot(NamedTuple):
    """Where one picture stands, in pixels of the page."""

    x: int
    y: int
    height: int
    width: int

    @property
    def left(self) -> tuple[float, float]:
        """The middle of its left edge, x and y."""
        return self.x, self.y + self.height / 2

    @property
    def right(self) -> tuple[float, float]:
        """The middle of its right edge, x and y."""
        return self.x + self.width, self.y + self.height / 2


class Strip(NamedTuple):
    """Where one patch stands on its way."""

    patch: Spot
    saliency: Spot
    placed: Spot


class Group(NamedTuple):
    """Where one scale stands, with its patches beside it."""

    scaled: Spot
    strips: list[Strip]


class Sheet(NamedTuple):
    """The whole page, in pixels."""

    text: Layout
    columns: list[int]  # left edges of image, scales, patches, maps, weighted maps and fused map; the page's right edge
    bottom: int  # of the pictures
    image: Spot
    groups: list[Group]
    fused: Spot

    @property
    def height(self) -> int:
        """Below the pictures are a line on what is not shown, and the legend."""
        return self.bottom + round(2.6 * self.text.line)


def sheet_for(image: Size, window: Size, scaled: Sequence[Size], patches: Sequence[int], unit: int) -> Sheet:
    """Measure the page.

    Args:
        image: height and width of the image.
        window: height and width of a window.
        scaled: height and width of every scale that is shown; they keep their proportions.
        patches: of each of them, how many patches are shown.
        unit: height of a patch on the page.
    """
    text = _Text(unit, unit, 1)
    pitch = unit + text.gap
    heights = [max(1, count) * pitch + text.line for count in patches]
    body = sum(heights)
    whole = _within(image, (min(_WHOLE[0] * unit, body), _WHOLE[1] * unit))
    factor = min(
        min((room - 2 * text.line - text.gap) / height, _SCALED_WIDTH * unit / width)
        for room, (height, width) in zip(heights, scaled, strict=True)
    )
    sizes = [(max(1, round(factor * height)), max(1, round(factor * width))) for height, width in scaled]
    patch = (unit, max(1, round(unit * window[1] / window[0])))
    placed = _within(image, (unit, _PLACED_WIDTH * unit))
    widths = [whole[1], max(width for _, width in sizes), patch[1], patch[1], placed[1], whole[1]]
    margin, top = 2 * text.gap, round(_HEADINGS * text.line)
    steps = [width + round(gap * unit) for width, gap in zip(widths, (*_GAPS, 0), strict=True)]
    columns = list(accumulate(steps, initial=margin))
    columns[-1] += margin

    def centred(column: int, y: float, room: float, size: Size) -> Spot:
        left = columns[column] + (widths[column] - size[1]) // 2
        return Spot(left, round(y + (room - size[0]) / 2), *size)

    groups = []
    for start, room, size, count in zip(accumulate(heights, initial=top), heights, sizes, patches, strict=False):
        strips = [
            Strip(
                *(
                    centred(column, start + i * pitch, unit, part)
                    for column, part in ((2, patch), (3, patch), (4, placed))
                )
            )
            for i in range(count)
        ]
        groups.append(Group(centred(1, start, room - 3 * text.line, size), strips))
    middle = (top, body - text.line)
    return Sheet(text, columns, top + body - text.line, centred(0, *middle, whole), groups, centred(5, *middle, whole))


def _within(image: Size, most: tuple[float, float]) -> Size:
    """The largest size with the image's aspect that fits."""
    scale = min(most[0] / image[0], most[1] / image[1])
    return max(1, round(scale * image[0])), max(1, round(scale * image[1]))
