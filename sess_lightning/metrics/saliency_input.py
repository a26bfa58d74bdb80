"""Reads the saliency maps that metrics are given: a tensor `(N, H, W)`, or a list of `(H, W)` of any sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def split_maps(saliency: Tensor | Sequence[Tensor], name: str = "saliency") -> list[Tensor]:
    """Returns one map `(H, W)` per sample: float64 and float32 as they are, other types converted to float32.

    Args:
        saliency: `(N, H, W)`, or a list of `(H, W)`.
        name: name of the argument in error messages.

    Raises:
        TypeError: if `saliency` is neither a tensor nor a list of tensors, or complex.
        ValueError: if a map has not two dimensions, or no pixels.

    Example:
        >>> [tuple(m.shape) for m in split_maps(torch.zeros(2, 3, 4))]
        [(3, 4), (3, 4)]
    """
    if not isinstance(saliency, (Tensor, list, tuple)):
        raise TypeError(
            f"Expected argument `{name}` to be a tensor (N, H, W) or a list of (H, W), "
            f"but got {type(saliency).__name__}."
        )
    if isinstance(saliency, Tensor) and saliency.ndim != 3:
        hint = f" Drop the channel, e.g. {name}[:, 0]." if saliency.ndim == 4 else f" For one map pass {name}[None]."
        raise ValueError(f"Expected argument `{name}` to have shape (N, H, W), but got {tuple(saliency.shape)}.{hint}")
    return [_checked(one, f"map {number} of argument `{name}`") for number, one in enumerate(saliency)]


def resize_map(saliency: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map `(h, w)` to another size: bilinear, half-pixel centres, no antialias, as TorchRay.

    Example:
        >>> resize_map(torch.tensor([[0.0, 1.0]]), (1, 4))
        tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    if tuple(saliency.shape) == tuple(size):
        return saliency
    return F.interpolate(saliency[None, None], size=tuple(size), mode="bilinear", align_corners=False)[0, 0]


def check_same_count(name: str, count: int, expected: int) -> None:
    """Raise a `ValueError` unless the argument `name` has one entry for each of the `expected` saliency maps."""
    if count != expected:
        raise ValueError(
            f"Expected argument `{name}` to have one entry for each of the {expected} maps of `saliency`, "
            f"but got {count}."
        )


def check_pairs(name: str, others: Sequence[Tensor], maps: Sequence[Tensor]) -> None:
    """Raise a `ValueError` unless the maps of the argument `name` are those of the same samples, by number and size."""
    check_same_count(name, len(others), len(maps))
    for number, (one, other) in enumerate(zip(maps, others, strict=True)):
        if one.shape != other.shape:
            raise ValueError(
                f"Expected map {number} of argument `{name}` to have the size of the sample's map in `saliency`, "
                f"{tuple(one.shape)}, but got {tuple(other.shape)}. Only maps of the same sample can be compared."
            )


def check_masks(masks: Tensor | Sequence[Tensor], maps: Sequence[Tensor]) -> list[Tensor]:
    """Returns the masks `(H, W)` of maps as bool, each on the device of its map.

    Raises:
        ValueError: if masks and maps differ in number or size.
    """
    check_same_count("masks", len(masks), len(maps))
    for number, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        if mask.shape != one.shape:
            raise ValueError(
                f"Expected mask {number} of argument `masks` to have the size of its map, {tuple(one.shape)}, but got "
                f"{tuple(mask.shape)}. Resize the map to the mask."
            )
    return [mask.to(one.device) != 0 for one, mask in zip(maps, masks, strict=True)]


def check_valid(valid: Tensor | Sequence[bool] | None, count: int) -> list[bool]:
    """Whether each of `count` maps carries information: all, unless the argument `valid` says otherwise."""
    if valid is None:
        return [True] * count
    check_same_count("valid", len(valid), count)
    return [bool(one) for one in valid]


def random_map(like: Tensor) -> Tensor:
    """Uniform noise `(H, W)` in place of a map without information, the same for every map of one size.

    Drawn on the CPU by a generator of its own, so that it is the same on every device and changes no random state.
    """
    return torch.rand(like.shape, generator=torch.Generator().manual_seed(0)).to(like)


def _checked(one: Any, name: str) -> Tensor:
    if not isinstance(one, Tensor) or one.is_complex():
        kind = f"a tensor of dtype {one.dtype}" if isinstance(one, Tensor) else type(one).__name__
        raise TypeError(f"Expected {name} to be a real tensor (H, W), but got {kind}.")
    if one.ndim != 2 or one.numel() == 0:
        raise ValueError(f"Expected {name} to have shape (H, W) with at least one pixel, but got {tuple(one.shape)}.")
    one = one.detach()
    return one if one.is_floating_point() and one.itemsize >= 4 else one.float()
