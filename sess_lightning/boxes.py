"""Boxes of objects: brought to x1, y1, x2, y2, checked, and the pixels inside them.

Pixel (x, y) is inside a box iff `floor(x1) <= x < ceil(x2)`, and likewise for y.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_convert

_FORMATS = ("XYXY", "XYWH", "CXCYWH")


def xyxy_boxes(boxes: Any, name: str = "argument `boxes`") -> Tensor:
    """Boxes as a plain tensor of x1, y1, x2, y2.

    Args:
        boxes: `torchvision.tv_tensors.BoundingBoxes`, converted by their format; anything else holds x1, y1, x2, y2
            already and is returned as it is.
        name: what an error calls the boxes.

    Raises:
        ValueError: for a format with rotated boxes.

    Example:
        >>> xyxy_boxes(tv_tensors.BoundingBoxes([[1, 2, 3, 4]], format="XYWH", canvas_size=(9, 9)))
        tensor([[1, 2, 4, 6]])
    """
    if not isinstance(boxes, tv_tensors.BoundingBoxes):
        return torch.as_tensor(boxes)
    form = boxes.format.name
    if form not in _FORMATS:
        raise ValueError(
            f"Expected {name} to be upright, in one of the formats {', '.join(_FORMATS)}, but got BoundingBoxes of "
            f"format {form}. Pass the upright boxes around them, or masks."
        )
    plain = boxes.as_subclass(Tensor)
    return plain if form == "XYXY" else box_convert(plain, form.lower(), "xyxy")


def check_boxes(name: str, boxes: Any, *, ascending: bool = False) -> None:
    """Raise a `ValueError` unless `boxes` are `(N, 4)` and finite and, if asked for, x1 <= x2 and y1 <= y2.

    Args:
        name: what the error calls them, e.g. "argument `boxes`".
        boxes: x1, y1, x2, y2 in pixels.
        ascending: whether the order of the corners is checked too.
    """
    if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 4:
        got = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
        raise ValueError(f"Expected {name} to have shape (N, 4), but got {got}: x1, y1, x2, y2 in pixels.")
    if not torch.isfinite(boxes).all():
        raise ValueError(f"Expected {name} to be finite, but got {boxes.tolist()}. Leave such boxes out.")
    if ascending and (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(
            f"Expected {name} to be x1, y1, x2, y2 with x1 <= x2 and y1 <= y2, but got {boxes.tolist()}. "
            "Boxes given as x, y, width, height need converting, e.g. with torchvision.ops.box_convert."
        )


def pixel_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """The pixels `(N, 4)` inside boxes `(N, 4)`, long: first column and row, last ones + 1, clipped."""
    exact = boxes.float() if boxes.is_floating_point() and boxes.itemsize < 4 else boxes
    whole = torch.cat([exact[:, :2].floor(), exact[:, 2:].ceil()], 1) if exact.is_floating_point() else exact
    limits = torch.tensor([size[1], size[0], size[1], size[0]], device=boxes.device)
    return whole.clamp(min=0).minimum(limits.to(whole)).long()


def holds_pixels(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Which boxes `(N, 4)` have a pixel inside an image of `size` (height, width): `(N,)` bool.

    Example:
        >>> holds_pixels(torch.tensor([[0, 0, 2, 2], [3, 3, 3, 9], [30, 3, 40, 9]]), (10, 20))
        tensor([ True, False, False])
    """
    first, last = pixel_boxes(boxes, size).split(2, 1)
    return (last > first).all(1)
