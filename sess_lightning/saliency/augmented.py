"""Augmented Grad-CAM (Morbidelli et al., ICASSP 2020): one fine map from the coarse maps of many turned copies."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sess_lightning.checks import check_count
from sess_lightning.forwarding import laid_out
from sess_lightning.layers import Reshape
from sess_lightning.saliency.base import Explanation, wide
from sess_lightning.saliency.masking import forward_count, pair_batches
from sess_lightning.saliency.target_layer import LayerMethod

_ANGLE = 0.5  # radians, to both sides
_SHIFT = 30 / 224  # of the side, to both sides: 30 pixels at 224
_VARIATION, _ENERGY = 0.2, 0.01  # weights of the total variation and of the square of the map
_POINTS = 4  # of the fine map along each axis of a coarse cell, averaged to what the cell sees
_RATE = 1e-3  # of Adam
_EPS = 1e-2  # of Adam: gradients far below it are rounding, which its usual 1e-8 would take for directions


class AugmentedGradCAM(LayerMethod):
    """The fine map `h` that explains the Grad-CAM maps `g_l` of turned and shifted copies of the image.

    Minimised from zero by Adam (learning rate 0.001) is `sum_l ||D A_l h - g_l||^2 + 0.2 TV(h) + 0.01 ||h||^2`:
    `A_l` turns and shifts as copy `l` was, `D` averages to the layer's grid, `TV` sums absolute differences of
    neighbours (as `sqrt(d^2 + .001^2)`: a kink at 0 would let rounding decide). The `g_l` of an image are divided by
    their largest value. Angles are drawn within .5 radians, shifts within 30 pixels of 224, by a generator of the
    method's own, the same for every image, call and device. `num_copies` forwards and head-only backwards an image,
    then `num_steps` steps without the network. Maps have the image's resolution; what is negative is cut.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch.
        num_copies: 100 as published.
        num_steps: of the minimisation; 200 as published.
        seed: of angles and shifts.
        reshape: function from the layer's output to `(N, C, h, w)`, as for `GradCAM`.
        batch_size: copies per forward; `None`: as many as are explained at a time, at least 4 of 224 x 224 pixels or
            the like.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> AugmentedGradCAM("1", num_copies=3)(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 8, 8])
    """

    def __init__(
        self,
        target_layer: str | nn.Module | None = None,
        num_copies: int = 100,
        num_steps: int = 200,
        seed: int = 0,
        reshape: Reshape | None = None,
        batch_size: int | None = None,
    ) -> None:
        check_count("num_copies", num_copies)
        check_count("num_steps", num_steps)
        check_count("batch_size", batch_size, optional=True)
        super().__init__(target_layer, reshape)
        self.num_copies, self.num_steps, self.seed, self.batch_size = num_copies, num_steps, seed, batch_size

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        size = (images.shape[-2], images.shape[-1])
        motions = self.motions(size).to(wide(images))
        coarse = self._coarse(model, images, targets, motions)
        maps = [_fine(maps, motions, size, self.num_steps) for maps in coarse]
        return Explanation(torch.stack(maps).relu_())

    def motions(self, size: tuple[int, int]) -> Tensor:
        """The copies' affine maps `(num_copies, 2, 3)` in float32, as `affine_grid` takes them: a turn, then a shift.

        Args:
            size: height and width of the image, whose aspect a turn must respect.
        """
        drawn = torch.rand(self.num_copies, 3, generator=torch.Generator().manual_seed(self.seed)) * 2 - 1
        angle, shift = drawn[:, 0] * _ANGLE, drawn[:, 1:] * _SHIFT * 2  # in units of half a side
        cosine, sine, aspect = angle.cos(), angle.sin(), size[0] / size[1]
        turn = torch.stack([torch.stack([cosine, sine * aspect], 1), torch.stack([-sine / aspect, cosine], 1)], 1)
        return torch.cat([turn, -turn @ shift[:, :, None]], 2)

    def _coarse(self, model: nn.Module, images: Tensor, targets: Tensor, motions: Tensor) -> Tensor:
        """Grad-CAM maps `(N, num_copies, h, w)` of all copies, the largest of an image 1."""
        maps = []
        pixels = wide(images)
        for image, copy in pair_batches(len(images), len(motions), forward_count(self.batch_size, images)):
            grid = F.affine_grid(motions[copy], [len(copy), *images.shape[1:]], align_corners=False)
            moved = F.grid_sample(pixels[image], grid, align_corners=False).to(images.dtype)
            activation, gradient, _ = self._layer.read(model, laid_out(model, moved), targets[image])
            maps.append((gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu_())
        coarse = torch.cat(maps).unflatten(0, (len(images), len(motions)))
        largest = coarse.amax((1, 2, 3), keepdim=True)
        return coarse / torch.where(largest > 0, largest, 1)

    def __repr__(self) -> str:
        return (
            f"AugmentedGradCAM(target_layer={self.target_layer!r}, num_copies={self.num_copies}, "
            f"num_steps={self.num_steps}, seed={self.seed})"
        )


def _fine(coarse: Tensor, motions: Tensor, size: tuple[int, int], num_steps: int) -> Tensor:
    """The map `(H, W)` whose moved and averaged copies are nearest to the maps `(L, h, w)`."""
    rows, columns = (
        cells * math.ceil(min(_POINTS, n / cells)) for cells, n in zip(coarse.shape[1:], size, strict=True)
    )
    grid = F.affine_grid(motions, [len(motions), 1, rows, columns], align_corners=False)
    flat = grid.reshape(1, -1, columns, 2)  # all copies in one image: their maps share the fine map
    fine = coarse.new_zeros(1, 1, *size).requires_grad_()
    optimizer = torch.optim.Adam([fine], lr=_RATE, eps=_EPS)
    for _ in range(num_steps):
        with torch.enable_grad():
            moved = F.grid_sample(fine, flat, align_corners=False).view(len(motions), 1, rows, columns)
            seen = F.adaptive_avg_pool2d(moved, (coarse.shape[1], coarse.shape[2]))[:, 0]
            variation = sum((fine.diff(dim=axis) ** 2 + _RATE**2).sqrt().sum() for axis in (-2, -1))
            loss = ((seen - coarse) ** 2).sum() + _VARIATION * variation + _ENERGY * (fine**2).sum()
            (fine.grad,) = torch.autograd.grad(loss, fine)
        optimizer.step()
    return fine.detach()[0, 0]
