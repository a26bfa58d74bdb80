"""Noisy linear imputation: removed pixels become weighted means of their neighbours, and a little noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_TOLERANCE = 1e-5  # of the residual, as a share of the first guess's largest; see `NoisyLinearImputation`
_CHECKED_EVERY = 10  # iterations: asking an accelerator whether it is done takes it longer than one of them
_COARSEST = 8  # pixels of the shorter side below which no coarser picture is made for the first guess


@dataclass(frozen=True)
class NoisyLinearImputation:
    """ROAD's replacement of removed pixels, as `baseline=` of `perturbation_curve` and of the metrics built on it.

    Each removed pixel is the weighted mean of its 8 neighbours, 1/6 for the direct and 1/12 for the diagonal ones;
    outside of the image there is none, and the others weigh more. With plain baselines the shape of what is removed
    tells the class by itself; here it can hardly be seen, so that both orders of removal rank methods alike.

    The linear system of each step is solved by conjugate gradients, from a first guess made on coarser pictures, to
    within 1e-3 of the image's range. It takes longer than the forwards on a CPU. Where all pixels are removed, which
    the paper does not do, the image's mean colour remains.

    Args:
        noise: standard deviation of the noise, in units of the (normalised) image; .01 is the authors'.
        seed: of the noise, which is the same for every image of one size, every step and every device.

    Raises:
        ValueError: if `noise` is negative or not finite.

    Source: Rong et al., "A consistent and efficient evaluation strategy for attribution methods", ICML 2022.

    Example:
        >>> image = torch.tensor([[[[0.0, 9.0, 6.0]]]])
        >>> NoisyLinearImputation(noise=0).impute(image, torch.tensor([[[False, True, False]]]))
        tensor([[[[0., 3., 6.]]]])
    """

    noise: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if not (isinstance(self.noise, (int, float)) and 0 <= self.noise < math.inf):
            raise ValueError(f"Expected argument `noise` to be 0 or a positive number, but got {self.noise!r}.")

    @torch.no_grad()
    def impute(self, images: Tensor, removed: Tensor) -> Tensor:
        """Replace pixels.

        Args:
            images: `(N, C, H, W)`.
            removed: `(N, H, W)` bool.

        Returns:
            `(N, C, H, W)`, of the type of the images; what is not removed stays as it is, bit for bit.
        """
        wide = images if images.dtype == torch.float64 else images.float()
        unknown = removed[:, None]
        mean = wide.mean((2, 3), keepdim=True)  # without it the numbers are smaller, and rounding matters less
        filled = _filled(wide - mean, unknown) + mean
        generator = torch.Generator().manual_seed(self.seed)
        noise = self.noise * torch.randn(wide.shape[1:], generator=generator).to(wide)
        return torch.where(unknown, (filled + noise).to(images.dtype), images)


def _filled(images: Tensor, unknown: Tensor) -> Tensor:
    """Solves the system for images `(N, C, H, W)` and masks `(N, 1, H, W)`; zeros where all pixels are unknown."""
    images = torch.where(unknown, 0, images)
    guess = torch.where(unknown, _coarse_guess(images, unknown), images)
    # The matrix is symmetric: its rows are not divided by the sum of the weights inside the image.
    total = _neighbours(torch.ones_like(images[:1, :1]))
    free = (unknown & ~unknown.all((2, 3), keepdim=True)).to(images)

    def applied(x: Tensor) -> Tensor:
        return free * (total * x - _neighbours(x))

    scale = images.square().sum((2, 3), keepdim=True) / (~unknown).sum((2, 3), keepdim=True).clamp(min=1)
    goal = _TOLERANCE**2 * scale * free.sum((2, 3), keepdim=True)
    return guess + _conjugate_gradients(applied, -applied(guess), total, goal)


def _coarse_guess(images: Tensor, unknown: Tensor) -> Tensor:
    """The solution on a picture of half the size, enlarged: nearly right where wide areas are unknown."""
    height, width = images.shape[-2:]
    if min(height, width) <= _COARSEST:
        return torch.zeros_like(images)
    known = F.avg_pool2d((~unknown).to(images), 2, ceil_mode=True)
    coarse = F.avg_pool2d(images, 2, ceil_mode=True) / torch.where(known > 0, known, 1)
    return F.interpolate(_filled(coarse, known == 0), size=(height, width), mode="bilinear", align_corners=False)


def _neighbours(x: Tensor) -> Tensor:
    """Weighted sum of the 8 neighbours of each pixel of `(N, C, H, W)`, zeros outside."""
    padded = F.pad(x, (1, 1, 1, 1))
    # Of three rows: the outer product of (1, 2, 1) with itself has the weights 1 and 2 around a 4.
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    both = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    return (both - 4 * x) / 12


def _conjugate_gradients(applied: Callable[[Tensor], Tensor], residual: Tensor, total: Tensor, goal: Tensor) -> Tensor:
    """Solves `applied(x) = residual` from zeros, for each image and channel, until its squares sum up to `goal`."""
    x = torch.zeros_like(residual)
    weighted = residual / total  # preconditioned by the diagonal
    direction = weighted
    product = _dot(residual, weighted)
    for iteration in range(10 * max(x.shape[-2:])):
        if iteration % _CHECKED_EVERY == 0 and bool((product <= goal).all()):
            break
        image = applied(direction)
        step = _ratio(product, _dot(direction, image))
        x = x + step * direction
        residual = residual - step * image
        weighted = residual / total
        last, product = product, _dot(residual, weighted)
        direction = weighted + _ratio(product, last) * direction
    return x


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Zero where `b` is: that system is solved already."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1), 0)
