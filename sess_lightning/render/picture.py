"""Checks of pictures `(3, H, W)` uint8 and of maps, and conversion from and to Pillow."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def check_picture(name: str, picture: Tensor) -> None:
    """Raise a `ValueError` unless `picture` is `(3, H, W)` uint8 with at least one pixel."""
    if not isinstance(picture, Tensor) or picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] != 3:
        got = f"{tuple(picture.shape)} {picture.dtype}" if isinstance(picture, Tensor) else type(picture).__name__
        raise ValueError(
            f"Expected argument `{name}` to be a picture, (3, H, W) uint8, but got {got}. "
            "`denormalize` makes one of a normalised image."
        )
    if picture.numel() == 0:
        raise ValueError(
            f"Expected argument `{name}` to have at least one pixel, but got shape {tuple(picture.shape)}."
        )


def check_finite(
    name: str, values: Tensor, shape: str, dims: int, *, exact: bool = False, floating: bool = True
) -> None:
    """Raise a `ValueError` unless `values` is finite, not empty, and has at least (or `exact`ly) `dims` dimensions."""
    if not isinstance(values, Tensor) or values.is_complex() or (floating and not values.is_floating_point()):
        kind, got = ("floating point" if floating else "real"), getattr(values, "dtype", type(values).__name__)
        raise ValueError(
            f"Expected argument `{name}` to be a {kind} tensor {shape}, but got {got}. Convert it with .float()."
        )
    if values.ndim < dims or (exact and values.ndim != dims) or 0 in values.shape[-dims:]:
        raise ValueError(f"Expected argument `{name}` to have shape {shape} and pixels, but got {tuple(values.shape)}.")
    if not torch.isfinite(values).all():
        raise ValueError(
            f"Expected argument `{name}` to be finite, but it holds NaN or infinity. "
            "Find where they come from, or leave this one out: a picture would hide them."
        )


def as_pixels(image: Image.Image) -> Tensor:
    """Convert a Pillow picture to `(3, height, width)` uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def as_pillow(picture: Tensor) -> Image.Image:
    """Convert a picture `(3, height, width)` uint8 on the CPU to Pillow, e.g. to show it in a notebook or save it."""
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
