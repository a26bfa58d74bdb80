"""Smooth masks and graded blur for extremal perturbations: pure tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sess_lightning.pixels import gaussian_blur

STEP = 7  # pixels between two parameters of a mask
_SIGMA = 21.0  # pixels: reach of one parameter
_COLDNESS = 20.0  # of the smooth maximum
_PER_STEP = 4  # points between two parameters where the mask is computed; bilinear between them
_MAX_BLUR = 20.0  # pixels: standard deviation where a mask is 0


class SmoothMasks:
    """Masks from parameters on a grid: the smooth maximum of what the parameters nearby spread.

    A parameter spreads its value times `exp(-2 max(d / 21 - 1/2, 0)^2)` at a distance of `d` pixels; a pixel gets
    `sum_j v_j softmax_j(20 v_j)` over the 9 x 9 parameters around it, cut to [0, 1]. Computed at four points per
    parameter and axis and enlarged bilinearly, which differs by less than .03 from computing it at every pixel and
    takes a third of the time.

    Args:
        size: height and width of the masks.
        like: a tensor with the dtype and device wanted.
    """

    def __init__(self, size: tuple[int, int], like: Tensor) -> None:
        self.size = size
        self.grid = (math.ceil(size[0] / STEP), math.ceil(size[1] / STEP))
        self._radius = 1 + math.ceil(_SIGMA / STEP)
        nodes = torch.arange(-self._radius, self._radius + 1, dtype=torch.float64)
        points = torch.arange(_PER_STEP, dtype=torch.float64) / _PER_STEP
        along = (points[:, None] - nodes) * STEP  # (s, k)
        distance = (along[:, None, :, None] ** 2 + along[None, :, None, :] ** 2).sqrt().flatten(2).flatten(0, 1)
        self._spread = torch.exp(-2 * (distance / _SIGMA - 0.5).clamp(min=0) ** 2).to(like)  # (s * s, k * k)
        # A mask's pixel x lies at x / STEP parameters, that is at x * _PER_STEP / STEP computed points.
        axes = [torch.arange(n, dtype=torch.float64) * _PER_STEP / STEP for n in size]
        counts = [cells * _PER_STEP for cells in self.grid]
        y, x = ((2 * a + 1) / n - 1 for a, n in zip(axes, counts, strict=True))
        self._sampling = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)[None].to(like)

    def __call__(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Masks `(B, H, W)` in [0, 1] of parameters `(B, *grid)`, and the points they come from: see `points`."""
        coarse = self.points(parameters)
        sampling = self._sampling.expand(len(coarse), -1, -1, -1)
        masks = F.grid_sample(coarse[:, None], sampling, padding_mode="border", align_corners=False)
        return masks[:, 0], coarse

    def points(self, parameters: Tensor) -> Tensor:
        """The masks where they are computed, `(B, 4 h, 4 w)` for a grid of `h` x `w`."""
        rows, columns = self.grid
        nearby = F.unfold(parameters[:, None], 2 * self._radius + 1, padding=self._radius)  # (B, k * k, cells)
        values = self._spread[None, :, :, None] * nearby[:, None]  # (B, s * s, k * k, cells)
        maximum = (values * (_COLDNESS * values).softmax(2)).sum(2).clamp(0, 1)
        return F.pixel_shuffle(maximum.view(-1, _PER_STEP**2, rows, columns), _PER_STEP)[:, 0]


def blur_levels(image: Tensor, count: int = 8) -> Tensor:
    """The image `(C, H, W)` at `count` levels `(count, C, H, W)`: from a blur of 20 pixels to none."""
    levels = []
    for sigma in torch.linspace(_MAX_BLUR, 0, count).tolist():
        size = 2 * math.ceil(4 * sigma) + 1
        levels.append(gaussian_blur(image, size, sigma, border="replicate") if sigma else image)
    return torch.stack(levels)


def blend(levels: Tensor, masks: Tensor) -> Tensor:
    """Images `(B, C, H, W)` as sharp as their masks `(B, H, W)` say at every pixel, interpolated between `levels`."""
    count, channels = levels.shape[:2]
    position = (masks * (count - 1)).flatten(1)[:, None]  # (B, 1, H * W)
    low = position.detach().floor().clamp(max=count - 2)
    index = (low.long() * channels + torch.arange(channels, device=low.device)[:, None]).flatten(1)
    flat = levels.flatten(2).flatten(0, 1)  # (count * C, H * W)
    column = torch.arange(flat.shape[1], device=low.device).repeat(channels)
    blurred, sharper = (flat[index + shift * channels, column].view(len(masks), channels, -1) for shift in (0, 1))
    return torch.lerp(blurred, sharper, position - low).view(-1, channels, *masks.shape[1:])
