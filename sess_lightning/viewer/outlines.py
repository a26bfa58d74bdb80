"""Outlines of masks as polygons of few points."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sess_lightning.pixels import resize

MOST_POINTS = 64  # of one outline
MOST_PARTS = 8  # of one mask: the longest ones
_LONGEST_MASK = 256  # pixels: larger ones are made smaller first

_Points = npt.NDArray[np.float64]


def outlines(mask: Tensor, size: tuple[int, int]) -> list[list[float]]:
    """The outlines of the parts and holes of a mask, the longest first.

    Args:
        mask: `(H, W)`, not 0 inside.
        size: height and width of the image whose pixels the points are in; the mask's may be others.

    Returns:
        For each outline `[x, y, x, y, ...]` along the edges of pixels; at most `MOST_PARTS` of `MOST_POINTS` points.

    Example:
        >>> mask = torch.zeros(4, 6)
        >>> mask[1:3, 2:5] = 1
        >>> outlines(mask, (4, 6))
        [[2.0, 1.0, 5.0, 1.0, 5.0, 3.0, 2.0, 3.0]]
    """
    small = _reduced(mask)
    scale = np.array([size[1] / small.shape[1], size[0] / small.shape[0]])
    loops = sorted(_loops(small), key=len, reverse=True)[:MOST_PARTS]
    return [[round(float(one), 1) for one in (_simplified(loop) * scale).ravel()] for loop in loops]


def _reduced(mask: Tensor) -> npt.NDArray[np.bool_]:
    inside = mask.detach().cpu() != 0
    longest = max(inside.shape)
    if longest > _LONGEST_MASK:
        height, width = (max(1, round(side * _LONGEST_MASK / longest)) for side in inside.shape)
        share = resize(inside[None, None].float(), (height, width))[0, 0]
        inside = share >= torch.minimum(share.max(), torch.tensor(0.5))  # what is thin does not vanish
        inside &= share > 0
    return np.asarray(inside.numpy(), dtype=np.bool_)


def _loops(inside: npt.NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """Closed ways along the edges between inside and outside, the inside on the right; corners only."""
    wide = np.pad(inside, 1)
    core = wide[1:-1, 1:-1]
    sides = (  # a side of a pixel: what lies beyond it, and its way from corner to corner, as x, y
        (wide[:-2, 1:-1], (0, 0), (1, 0)), (wide[1:-1, 2:], (1, 0), (1, 1)),
        (wide[2:, 1:-1], (1, 1), (0, 1)), (wide[1:-1, :-2], (0, 1), (0, 0)),
    )  # fmt: skip
    ways: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for beyond, start, end in sides:
        for y, x in np.argwhere(core & ~beyond).tolist():
            ways[x + start[0], y + start[1]].append((x + end[0], y + end[1]))
    loops = []
    while ways:
        loop = [next(iter(ways))]
        while loop[-1] in ways:
            ends = ways[loop[-1]]
            following = ends.pop()
            if not ends:
                del ways[loop[-1]]
            if len(loop) > 1 and _straight(loop[-2], loop[-1], following):
                loop.pop()
            loop.append(following)
        loops.append(loop[:-1])  # it ends where it began
    return loops


def _straight(a: tuple[int, int], b: tuple[int, int], c: tuple[int, int]) -> bool:
    return (a[0] == b[0] == c[0]) or (a[1] == b[1] == c[1])


def _simplified(loop: list[tuple[int, int]]) -> _Points:
    """At most `MOST_POINTS` of the points, by Douglas and Peucker's rule with the tolerance that this takes."""
    points = np.array(loop, dtype=np.float64)
    tolerance = 0.5
    kept = points
    while len(kept) > MOST_POINTS:
        kept, tolerance = _peucker(points, tolerance), tolerance * 1.5
    return kept


def _peucker(points: _Points, tolerance: float) -> _Points:
    """The points without which the closed line would move by more than `tolerance`."""
    closed = np.concatenate([points, points[:1]])
    far = int(((points - points[0]) ** 2).sum(1).argmax())
    keep = np.zeros(len(closed), dtype=bool)
    keep[[0, far]] = True
    parts = [(0, far), (far, len(points))]
    while parts:
        begin, end = parts.pop()
        if end - begin < 2:
            continue
        distances = _distances(closed[begin + 1 : end], closed[begin], closed[end])
        middle = begin + 1 + int(distances.argmax())
        if distances[middle - begin - 1] > tolerance:
            keep[middle] = True
            parts += [(begin, middle), (middle, end)]
    return np.asarray(points[keep[:-1]])


def _distances(points: _Points, begin: _Points, end: _Points) -> _Points:
    """Distance of each point from the line through two others, or from the point that these are."""
    along = end - begin
    length = float(np.hypot(*along))
    away = points - begin
    if length == 0:
        return np.asarray(np.hypot(away[:, 0], away[:, 1]))
    return np.asarray(np.abs(along[0] * away[:, 1] - along[1] * away[:, 0]) / length)
