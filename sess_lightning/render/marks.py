"""Marks on a picture, visible on every background: boxes, the peak of a map, the circle of its tolerance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from sess_lightning.boxes import check_boxes
from sess_lightning.render.page import Colour
from sess_lightning.render.picture import check_picture

_DARK: Colour = (12, 12, 16)
_LIGHT: Colour = (255, 255, 255)
_HIT: Colour = (0, 119, 187)  # blue and orange differ for every kind of colour vision
_MISS: Colour = (238, 119, 51)


def draw_boxes(image: Tensor, boxes: Tensor) -> Tensor:
    """Outline boxes in white between dark lines, which is visible on every background.

    Pixel (x, y) belongs to a box if floor(x1) <= x < ceil(x2), and the same for y; the white line covers the outermost
    pixels of the box.

    Args:
        image: `(3, H, W)` uint8.
        boxes: `(M, 4)` in pixels x1, y1, x2, y2; clipped to the image; boxes outside the image are left out.

    Returns:
        `(3, H, W)` uint8, a new tensor.

    Raises:
        ValueError: if a shape or type is not as above, or a box is not finite.

    Example:
        >>> image = draw_boxes(torch.zeros(3, 9, 9, dtype=torch.uint8), torch.tensor([[1, 1, 8, 8]]))
        >>> image[0, 4].tolist()
        [12, 255, 12, 0, 0, 0, 12, 255, 12]
    """
    check_picture("image", image)
    check_boxes("argument `boxes`", boxes)
    height, width = image.shape[-2:]
    limit = torch.tensor([width, height] * 2)
    edges = torch.cat([boxes[:, :2].cpu().double().floor(), boxes[:, 2:].cpu().double().ceil()], 1)
    edges = torch.minimum(edges.clamp(min=0), limit).long()
    edges = edges[(edges[:, 2:] > edges[:, :2]).all(1)]
    edges[:, 2:] -= 1  # draw_bounding_boxes draws on the last pixel too
    line = max(1, round(min(height, width) / 150))
    picture = image.clone()
    for inset, colour in ((-line, _DARK), (line, _DARK), (0, _LIGHT)):
        ring = edges + inset * torch.tensor([1, 1, -1, -1])
        ring = ring[(ring[:, 2:] >= ring[:, :2]).all(1)]
        if len(ring):
            picture = draw_bounding_boxes(picture, ring, colors=colour, width=line)
    return picture.to(image.device)


def draw_peak(image: Tensor, x: float, y: float, hit: bool | None = None, radius: float | None = None) -> Tensor:
    """Mark a point: a blue ring for a hit, an orange cross for a miss, a white ring where neither is known.

    Args:
        image: `(3, H, W)` uint8.
        x: column of the point; a whole number is the centre of a pixel.
        y: row of the point.
        hit: True for a hit, False for a miss, None for unknown.
        radius: radius of the mark in pixels; None: a 26th of the image's shorter side, at least 4.

    Returns:
        `(3, H, W)` uint8, a new tensor.

    Raises:
        ValueError: if the image is not `(3, H, W)` uint8.

    Example:
        >>> image = draw_peak(torch.zeros(3, 21, 21, dtype=torch.uint8), x=10, y=10, hit=False)
        >>> image[:, 10, 10].tolist()
        [238, 119, 51]
    """
    check_picture("image", image)
    height, width = image.shape[-2:]
    radius = peak_radius(image) if radius is None else radius
    if hit is False:  # distance to the nearer of the two diagonals of a square
        dy = (torch.arange(height, dtype=torch.float32, device=image.device) - y)[:, None]
        dx = (torch.arange(width, dtype=torch.float32, device=image.device) - x)[None]
        along, across = (dx + dy) / 2**0.5, (dx - dy) / 2**0.5
        ends = (along.abs() - radius).clamp(min=0), (across.abs() - radius).clamp(min=0)
        distance = torch.minimum(torch.hypot(across, ends[0]), torch.hypot(along, ends[1]))
    else:
        distance = (_distances(image, x, y) - radius).abs()
    stroke = max(1.5, radius / 3.2)
    colour = {True: _HIT, False: _MISS, None: _LIGHT}[hit]
    return _painted(image, distance, ((stroke / 2 + 2.2, _DARK), (stroke / 2 + 1.2, _LIGHT), (stroke / 2, colour)))


def peak_radius(image: Tensor) -> float:
    """Default radius of a mark in pixels: large enough to be seen, and hiding little of the image."""
    return max(4.0, min(image.shape[-2:]) / 26)


def draw_circle(image: Tensor, x: float, y: float, radius: float) -> Tensor:
    """Draw a thin white circle between dark lines, e.g. the distance up to which a peak counts as a hit.

    Args:
        image: `(3, H, W)` uint8.
        x: column of the centre; a whole number is the centre of a pixel.
        y: row of the centre.
        radius: radius in pixels of this image.

    Returns:
        `(3, H, W)` uint8, a new tensor.

    Raises:
        ValueError: if the image is not `(3, H, W)` uint8.

    Example:
        >>> image = draw_circle(torch.zeros(3, 21, 21, dtype=torch.uint8), x=10, y=10, radius=6)
        >>> image[0, 10, 14:19].tolist()
        [6, 134, 255, 134, 6]
    """
    check_picture("image", image)
    distance = (_distances(image, x, y) - radius).abs()
    stroke = max(2.0, min(image.shape[1:]) / 110)
    return _painted(image, distance, ((stroke / 2 + 1, _DARK), (stroke / 2, _LIGHT)))


def _distances(image: Tensor, x: float, y: float) -> Tensor:
    """Distance of every pixel from a point, `(H, W)`."""
    rows = torch.arange(image.shape[1], dtype=torch.float32, device=image.device)
    columns = torch.arange(image.shape[2], dtype=torch.float32, device=image.device)
    return torch.hypot(columns[None] - x, rows[:, None] - y)


def _painted(image: Tensor, distance: Tensor, strokes: Sequence[tuple[float, Colour]]) -> Tensor:
    """Paint strokes over the image, the first one lowest.

    Args:
        image: `(3, H, W)` uint8.
        distance: `(H, W)`, the distance of every pixel from the centre line of the strokes.
        strokes: half width and colour of each stroke.
    """
    picture = image.float()
    for reach, paint in strokes:
        cover = (reach + 0.5 - distance).clamp(0, 1)
        picture = picture + cover * (torch.tensor(paint, device=image.device).view(3, 1, 1) - picture)
    return picture.round().to(torch.uint8)
