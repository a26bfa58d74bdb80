"""Noisy linear imputation: removed pixels become weighted means of their neighbours, and a little noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_TOLERANCE, _ITERATIONS = 1e-4, 100  # of the residual, as a share of that with zeros for the removed pixels
_COARSEST = 3  # pixels of the shorter side up to which no coarser picture is made
_DAMPING = 0.8


@dataclass(frozen=True)
class NoisyLinearImputation:
    """ROAD's replacement of removed pixels, as `baseline=` of `perturbation_curve` and of the metrics built on it.

    Each removed pixel is the weighted mean of its 8 neighbours, 1/6 for the direct and 1/12 for the diagonal ones;
    outside of the image there is none, and the others weigh more. With plain baselines the shape of what is removed
    tells the class by itself; here it can hardly be seen.

    The linear system of each step is solved by conjugate gradients with multigrid, to a thousandth of the image's
    range; on a CPU that takes some 0.2 s for 224 x 224 pixels. Where all pixels are removed, which the paper does not
    do, the image's mean colour remains.

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
    grids = _grids(unknown & ~unknown.all((2, 3), keepdim=True), images.dtype)
    return images + _conjugate_gradients(grids, -grids[0].applied(images))


class _Grid(NamedTuple):
    """The system on a picture of one size. Its matrix is symmetric: rows are not divided by the sum of their weights.

    Attributes:
        free: `(N, 1, H, W)`, 1 where a pixel is sought, else 0.
        total: `(1, 1, H, W)`, sum of the weights of the neighbours inside the image.
    """

    free: Tensor
    total: Tensor

    def applied(self, x: Tensor) -> Tensor:
        """The matrix times `(N, C, H, W)`."""
        return self.free * (self.total * x - _neighbours(x))

    def smoothed(self, x: Tensor, wanted: Tensor) -> Tensor:
        """One damped step of Jacobi towards `applied(x) = wanted`."""
        return x + _DAMPING * self.free * (wanted - self.applied(x)) / self.total


def _grids(unknown: Tensor, dtype: torch.dtype) -> list[_Grid]:
    """The system, and those of pictures of half the size each; there a pixel is sought if all that it covers are."""
    free = unknown.to(dtype)
    grids = [_Grid(free, _neighbours(torch.ones_like(free[:1])))]
    while min(free.shape[-2:]) > _COARSEST:
        free = -F.max_pool2d(-free, 2, ceil_mode=True)
        grids.append(_Grid(free, _neighbours(torch.ones_like(free[:1]))))
    return grids


def _neighbours(x: Tensor) -> Tensor:
    """Weighted sum of the 8 neighbours of each pixel of `(N, C, H, W)`, zeros outside."""
    padded = F.pad(x, (1, 1, 1, 1))
    # The outer product of (1, 2, 1) with itself: 2 for direct neighbours, 1 for diagonal ones, 4 in the middle.
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    both = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    return (both - 4 * x) / 12


def _conjugate_gradients(grids: list[_Grid], residual: Tensor) -> Tensor:
    """Solves `applied(x) = residual` for each image and channel by itself, with multigrid as preconditioner."""
    x = torch.zeros_like(residual)
    direction = weighted = _multigrid(grids, residual)
    product = _dot(residual, weighted)
    goal = _TOLERANCE**2 * product
    for _ in range(_ITERATIONS):
        if bool((product <= goal).all()):
            break
        image = grids[0].applied(direction)
        step = _ratio(product, _dot(direction, image))
        x, residual = x + step * direction, residual - step * image
        weighted = _multigrid(grids, residual)
        last, product = product, _dot(residual, weighted)
        direction = weighted + _ratio(product, last) * direction
    return x


def _multigrid(grids: list[_Grid], wanted: Tensor) -> Tensor:
    """Roughly solves `applied(x) = wanted`: what is smooth on the picture of half the size, the rest by Jacobi.

    As conjugate gradients demand, it is a symmetric matrix times `wanted`: the way back mirrors the way there.
    """
    grid, *coarser = grids
    x = grid.smoothed(torch.zeros_like(wanted), wanted)
    if coarser:
        height, width = wanted.shape[-2:]
        rest = F.pad(grid.free * (wanted - grid.applied(x)), (0, width % 2, 0, height % 2)).flatten(0, 1)[:, None]
        weights = torch.tensor([0.25, 0.75, 0.75, 0.25]).to(wanted)  # bilinear interpolation by 2, and its transpose
        kernel = torch.outer(weights, weights)[None, None]
        halved = F.conv2d(rest, kernel, stride=2, padding=1)[:, 0].unflatten(0, wanted.shape[:2])
        correction = _multigrid(coarser, coarser[0].free * halved).flatten(0, 1)[:, None]
        doubled = F.conv_transpose2d(correction, kernel, stride=2, padding=1)[:, 0].unflatten(0, wanted.shape[:2])
        x = x + grid.free * doubled[..., :height, :width]
    return grid.smoothed(x, wanted)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)


def _ratio(a: Tensor, b: Tensor) -> Tensor:
    """Zero where `b` is: that system is solved already."""
    return torch.where(b > 0, a / torch.where(b > 0, b, 1), 0)
