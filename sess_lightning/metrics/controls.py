"""What maps without information score on the same samples: the lines below which a number says nothing."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sess_lightning.metrics.objects import Objects, class_objects
from sess_lightning.metrics.pointing_game import check_tolerance
from sess_lightning.pixels import SMOOTHING, gaussian_blur


def noise_map(size: tuple[int, int], seed: int = 0, index: int | str = 0) -> Tensor:
    """Returns uniform noise `(H, W)` in [0, 1), float32 on the CPU: a random order of the pixels.

    Args:
        size: height and width.
        seed: of the noise.
        index: which sample it stands for; any number, or a digest of its content.

    Example:
        >>> bool((noise_map((2, 3), index=1) == noise_map((2, 3), index=1)).all())
        True
    """
    # A digest, as neighbouring seeds of one generator are not promised to be independent.
    digest = hashlib.blake2b(f"{seed} {index}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    return torch.rand(size, generator=generator)


def centre_map(size: tuple[int, int]) -> Tensor:
    """Returns a Gaussian `(H, W)`, float32, with its peak of 1 at pixel (W // 2, H // 2), as photographers aim.

    Its standard deviations are a quarter of the height and a quarter of the width.

    Args:
        size: height and width.

    Source: TorchRay's control `center` of the pointing game points there.

    Example:
        >>> centre_map((1, 4))
        tensor([[0.1353, 0.6065, 1.0000, 0.6065]])
    """
    height, width = size
    rows = (torch.arange(height, dtype=torch.float64) - height // 2) / (height / 4)
    columns = (torch.arange(width, dtype=torch.float64) - width // 2) / (width / 4)
    return torch.exp(-(rows[:, None] ** 2 + columns**2) / 2).float()


def blurred(saliency: Tensor) -> Tensor:
    """Returns maps `(..., H, W)` under SESS's own smoothing: what blur alone is worth.

    Blur by itself raises the insertion and the pointing of fine-grained maps.

    Args:
        saliency: floating point maps of one size.

    Source: the control is that of arXiv 2304.13836; the Gaussian that of SESS, Sec. 3.
    """
    return gaussian_blur(saliency, *SMOOTHING)


def hit_area(region: Tensor, tolerance: float) -> Tensor:
    """Returns the pixels at which a peak hits, by the rule of `pointing_hits`.

    Args:
        region: `(H, W)` bool, the pixels of the objects.
        tolerance: in pixels, at least 0: pixels of the region, and those strictly nearer to one than it.

    Returns:
        `(H, W)` bool.

    Raises:
        ValueError: if the tolerance is no number of pixels.

    Example:
        >>> hit_area(torch.tensor([[True, False, False, False]]), 2).int()
        tensor([[1, 1, 0, 0]], dtype=torch.int32)
    """
    check_tolerance(tolerance)
    height, width = region.shape
    square = min(tolerance, height + width) ** 2
    before = F.pad(region.cumsum(1), (1, 0))  # (H, W + 1): pixels of the region left of each column
    columns = torch.arange(width, device=region.device)
    found = region.clone()
    for dy in range(min(height, math.ceil(tolerance)) if tolerance else 0):
        # The widest dx with dx^2 + dy^2 < tolerance^2; whole numbers decide, not the root.
        dx = math.isqrt(math.ceil(square - dy**2) - 1)
        near = before[:, (columns + dx + 1).clamp(max=width)] > before[:, (columns - dx).clamp(min=0)]
        found[dy:] |= near[: height - dy]
        found[: height - dy] |= near[dy:]
    return found


def chance_of_hit(objects: Objects | None, target: int, size: tuple[int, int], tolerance: float = 15) -> float | None:
    """Returns how likely a uniformly random pixel hits an object of the class, by the rule of `PointingGame`.

    Without tolerance it is the share of the image that the objects cover, which is also what a constant map has as its
    energy.

    Args:
        objects: of the image, as `PointingGame` takes them; `None` where there are none.
        target: the class.
        size: height and width of the image that boxes refer to; masks have their own.
        tolerance: in pixels, at least 0.

    Returns:
        A number in (0, 1]; `None` where `PointingGame` skips the sample.

    Raises:
        TypeError, ValueError: if the objects or the tolerance are unfit.

    Example:
        >>> box = {"boxes": torch.tensor([[0.0, 0, 2, 1]]), "labels": torch.tensor([7])}
        >>> chance_of_hit(box, 7, (2, 4), tolerance=0), chance_of_hit(box, 7, (2, 4), tolerance=1.5)
        (0.25, 0.75)
    """
    found = class_objects(objects, target, size)
    if found is None:
        return None
    region = found.region(found.fit(torch.empty(size))).cpu()
    return float(hit_area(region, tolerance).double().mean())
