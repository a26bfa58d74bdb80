"""Pyramid sizes, window positions and patches (Algorithm 1, lines 4-9): pure geometry.

Everything here is integer arithmetic on image sizes, so that the same image always gives the same windows in the same
order: scale by scale, row by row from the top left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from torch import Tensor

from sess_lightning.pixels import Size, resize

# The paper's short sides are 224 + 64 i: the window grows by 64/224 = 2/7 of itself from scale to scale.
_GROWTH_NUMERATOR, _GROWTH_DENOMINATOR = 2, 7


class Window(NamedTuple):
    """One window: its corners, `x2` and `y2` exclusive, in an image scaled to `(scaled_h, scaled_w)` pixels."""

    x1: int
    y1: int
    x2: int
    y2: int
    scaled_h: int
    scaled_w: int


def pyramid_sizes(image: Size, window: Size, num_scales: int) -> list[Size]:
    """Sizes `(h, w)` of the scaled images: the image covers the window times `1 + 2/7 i`, its aspect kept.

    Args:
        image: height and width of the image.
        window: height and width of the window; a square window of 224 gives the paper's short sides 224 + 64 i.
        num_scales: how many scales, `n` in the paper.

    Example:
        >>> pyramid_sizes((375, 500), (224, 224), 3)
        [(224, 298), (288, 384), (352, 469)]
    """
    factors = [_GROWTH_DENOMINATOR + _GROWTH_NUMERATOR * i for i in range(num_scales)]
    covered = [(_round_div(window[0] * f), _round_div(window[1] * f)) for f in factors]
    return [_cover(image, target) for target in covered]


def short_side_sizes(image: Size, scales: Sequence[int]) -> list[Size]:
    """Sizes `(h, w)` of the image scaled to each of the short sides in `scales`, its aspect kept.

    Example:
        >>> short_side_sizes((375, 500), [352, 608])
        [(352, 469), (608, 810)]
    """
    return [_cover(image, (side, side)) for side in scales]


def relative_sizes(image: Size, window: Size, scales: Sequence[float]) -> list[Size]:
    """Sizes `(h, w)` of the scaled images: the image covers the window times each of `scales`, its aspect kept.

    Example:
        >>> relative_sizes((375, 500), (224, 224), [1.0, 1.5])
        [(224, 298), (336, 448)]
    """
    return [_cover(image, (math.floor(window[0] * s + 0.5), math.floor(window[1] * s + 0.5))) for s in scales]


def window_starts(length: int, window: int, step: int) -> list[int]:
    """Where the windows begin along one axis; the last one is moved back to end at the border.

    Args:
        length: pixels along the axis, at least `window`.
        window: pixels of a window.
        step: distance of two windows, from 1 to `window`.

    Example:
        >>> window_starts(500, 224, 224)
        [0, 224, 276]
    """
    count = -(-(length - window) // step) + 1
    return [min(i * step, length - window) for i in range(count)]


@lru_cache(maxsize=128)
def sliding_windows(sizes: tuple[Size, ...], window: Size, step: Size) -> tuple[Window, ...]:
    """All windows of all scaled images, in extraction order: scale, then row, then column.

    Args:
        sizes: heights and widths of the scaled images; each must cover the window.
        window: height and width of the window.
        step: vertical and horizontal distance of two windows.

    Raises:
        ValueError: if a scaled image is smaller than the window.

    Example:
        >>> len(sliding_windows(((224, 224), (288, 288)), (224, 224), (224, 224)))
        5
    """
    windows = []
    for height, width in sizes:
        if height < window[0] or width < window[1]:
            raise ValueError(
                f"Expected every scaled image to cover the window of {window[0]} x {window[1]} pixels, but one is "
                f"{height} x {width}. Leave out the smaller values of `scales` or pass a smaller `window_size`."
            )
        for y in window_starts(height, window[0], step[0]):
            for x in window_starts(width, window[1], step[1]):
                windows.append(Window(x, y, x + window[1], y + window[0], height, width))
    return tuple(windows)


def iter_patches(image: Tensor, windows: Sequence[Window]) -> Iterator[Tensor]:
    """Yield the patch `(C, h, w)` of every window, as a view of the scaled image it lies in.

    Each scale is computed when its first window is reached and let go with its last: one scaled image lives at a time.

    Args:
        image: `(C, H, W)`, floating point.
        windows: in extraction order (windows of one scale follow each other), or any part of them.
    """
    scaled, size = image[None], tuple(image.shape[-2:])
    for window in windows:
        wanted = (window.scaled_h, window.scaled_w)
        if wanted != size:
            scaled, size = resize(image[None], wanted), wanted
        yield scaled[0, :, window.y1 : window.y2, window.x1 : window.x2]


def _round_div(value: int) -> int:
    return (2 * value + _GROWTH_DENOMINATOR) // (2 * _GROWTH_DENOMINATOR)


def _cover(image: Size, target: Size) -> Size:
    """Smallest size with the image's aspect (the longer side rounded down, as torchvision) that covers `target`."""
    height, width = image
    if target[0] * width >= target[1] * height:
        return target[0], target[0] * width // height
    return target[1] * height // width, target[1]
