"""Smooth lines over a page: S-shaped from left to right, with a dot or an arrowhead at their ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sess_lightning.render.page import PAGE, Colour

_FINE = 3  # drawn so many times larger, then reduced: Pillow's own lines have jagged edges
_STEPS = 48
_HALO = 1.2  # pixels in the page's colour around every line, which shows it on pictures of any colour

Point = tuple[float, float]


class Connector(NamedTuple):
    """One line; points are x, y in pixels of the page."""

    start: Point
    end: Point
    width: float
    dot: bool = False  # at its start
    arrow: bool = False  # at its end


def with_connectors(page: Tensor, curves: Sequence[Connector], colour: Colour) -> Tensor:
    """The page `(3, H, W)` uint8 with lines over it, which leave and arrive horizontally."""
    drawn = page.float()
    for paint, halo in ((PAGE, _HALO), (colour, 0.0)):
        cover = _cover((page.shape[1], page.shape[2]), curves, halo)
        drawn += cover * (torch.tensor(paint, dtype=torch.float32).view(3, 1, 1) - drawn)
    return drawn.round().to(torch.uint8)


def _cover(size: tuple[int, int], curves: Iterable[Connector], halo: float) -> Tensor:
    """Which share of every pixel the lines cover, `(H, W)`."""
    mask = Image.new("L", (_FINE * size[1], _FINE * size[0]))
    pen = ImageDraw.Draw(mask)
    for curve in curves:
        _draw(pen, curve, halo)
    return torch.from_numpy(np.array(mask.resize((size[1], size[0]), Image.Resampling.BOX))).float() / 255


def _draw(pen: ImageDraw.ImageDraw, curve: Connector, halo: float) -> None:
    head = 4.0 * curve.width if curve.arrow else 0.0
    end = curve.end[0] - head, curve.end[1]
    pen.polygon(_fine(_ribbon(curve.start, end, curve.width / 2 + halo)), fill=255)
    if curve.arrow:
        half = 0.5 * head + halo
        pen.polygon(_fine([(end[0] - 0.2 * head, end[1] - half), curve.end, (end[0] - 0.2 * head, end[1] + half)]), 255)
    if curve.dot:
        (x, y), radius = curve.start, 2 * curve.width + halo
        pen.ellipse(_fine([(x - radius, y - radius), (x + radius, y + radius)]), fill=255)


def _ribbon(start: Point, end: Point, half: float) -> list[Point]:
    """The outline of a cubic curve with horizontal ends, `half` to both sides of it."""
    t = np.linspace(0, 1, _STEPS + 1)
    rise = t**2 * (3 - 2 * t)
    middle = (start[0] + end[0]) / 2
    x = (1 - t) ** 3 * start[0] + 3 * t * (1 - t) * middle + t**3 * end[0]
    y = start[1] + rise * (end[1] - start[1])
    along_x, along_y = np.gradient(x), np.gradient(y)
    along_y[[0, -1]] = 0
    length = np.hypot(along_x, along_y).clip(min=1e-9)
    right_x, right_y = -half * along_y / length, half * along_x / length
    there = np.stack([x + right_x, y + right_y], 1)
    back = np.stack([x - right_x, y - right_y], 1)[::-1]
    return [(float(px), float(py)) for px, py in np.concatenate([there, back])]


def _fine(points: Iterable[Point]) -> list[Point]:
    """In the pixels of the larger drawing, whose pixel i reaches from i to i + 1."""
    return [(_FINE * x - 0.5, _FINE * y - 0.5) for x, y in points]
