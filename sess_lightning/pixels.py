"""Pixels of images and maps: resizing, min-max normalisation, Gaussian blur."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int]
SMOOTHING = (11, 5.0)  # kernel size and sigma of the Gaussian that smooths SESS maps (Sec. 3 of the paper)


def resize(images: Tensor, size: Size) -> Tensor:
    """Resize `(N, C, H, W)` bilinearly with antialiasing, as torchvision does; the same tensor if the size is right.

    Where nothing shrinks, antialiasing changes no pixel by more than 1e-7 and would cost half as much again. Computed
    in float32 (float64 for float64 input): interpolation in half precision would shift grey values.
    """
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    wide = images if images.dtype == torch.float64 else images.float()
    shrinks = size[0] < images.shape[-2] or size[1] < images.shape[-1]
    return F.interpolate(wide, size=size, mode="bilinear", align_corners=False, antialias=shrinks).to(images.dtype)


def source_pixels(pixels: Tensor, resized: int, source: int, clamped: bool = True) -> tuple[Tensor, Tensor]:
    """Where pixels of a resized axis lie between those of its source: bilinear resizing with half-pixel centres.

    Whole numbers decide which pixel comes before: a float that misses one by 1e-14 would name the one before that.

    Args:
        pixels: `(N,)` long, indices along the resized axis.
        resized: pixels along the resized axis.
        source: pixels along the source.
        clamped: whether positions beyond the centres of the first and last pixel of the source are moved there.

    Returns:
        The pixel of the source before each, `(N,)` long, and how far behind it each lies, `(N,)` float64 in [0, 1).

    Example:
        >>> source_pixels(torch.arange(4), 4, 2)
        (tensor([0, 0, 0, 1]), tensor([0.0000, 0.2500, 0.7500, 0.0000], dtype=torch.float64))
    """
    # (pixel + 1/2) source / resized - 1/2, in units of 1 / (2 resized)
    position, unit = (2 * pixels + 1) * source - resized, 2 * resized
    if clamped:
        position = position.clamp(0, (source - 1) * unit)
    before = position.div(unit, rounding_mode="floor")
    return before, (position - before * unit).double() / unit


def minmax(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Min-max normalise each map; a constant or non-finite map becomes zeros.

    Args:
        maps: `(..., H, W)`, floating point.

    Returns:
        The maps in [0, 1], and `valid` `(...)`: False where the map was constant or not finite.

    Example:
        >>> minmax(torch.tensor([[[1.0, 3.0]], [[2.0, 2.0]]]))
        (tensor([[[0., 1.]],
        <BLANKLINE>
                [[0., 0.]]]), tensor([ True, False]))
    """
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    spread = high - low
    valid = torch.isfinite(spread) & (spread > 0)
    scaled = (maps - low) / torch.where(valid, spread, 1)
    return torch.where(valid, scaled, 0), valid[..., 0, 0]


def gaussian_blur(images: Tensor, kernel_size: int, sigma: float, border: str = "reflect") -> Tensor:
    """Separable Gaussian, by default with a reflected border that does not repeat the edge (OpenCV's REFLECT_101).

    Args:
        images: `(..., H, W)`, floating point.
        kernel_size: odd; shrunk to the largest odd size up to `2 * min(H, W) - 1`, which a reflected border allows.
        sigma: standard deviation in pixels of the sampled Gaussian, whose sum is normalised to 1.
        border: `"reflect"`, `"replicate"` or `"constant"` (zeros).
    """
    radius = kernel_size // 2
    if border == "reflect":
        radius = min(radius, min(images.shape[-2:]) - 1)
    weights = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    return separable_filter(images, (weights / weights.sum()).tolist(), border)


def separable_filter(images: Tensor, taps: Sequence[float], border: str) -> Tensor:
    """Correlate the rows, then the columns, with the same taps.

    A sum of shifted copies instead of a convolution: exact in float32 on every device.

    Args:
        images: `(..., H, W)`, floating point.
        taps: weights of the filter, an odd number; the one in the middle belongs to the pixel itself.
        border: `"reflect"`, `"replicate"` or `"constant"` (zeros).

    Returns:
        `(..., H, W)`, the same size.
    """
    radius = len(taps) // 2
    planes = images.reshape(-1, 1, *images.shape[-2:])  # padding other than with zeros wants four dimensions
    for axis, pad in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        length = planes.shape[axis]
        padded = F.pad(planes, pad, mode=border) if radius else planes
        planes = padded.narrow(axis, 0, length) * taps[0]
        for i, tap in enumerate(taps[1:], start=1):  # pixel x takes padded pixel x + i, so original x + i - radius
            planes = planes.add_(padded.narrow(axis, i, length), alpha=tap)
    return planes.reshape(images.shape)
