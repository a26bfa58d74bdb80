"""Extremal perturbations (Fong et al., ICCV 2019): the small smooth masks that preserve the class best."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sess_lightning.checks import check_count
from sess_lightning.forwarding import model_logits
from sess_lightning.logits import class_logits
from sess_lightning.pixels import gaussian_blur
from sess_lightning.probing import default_batch_size
from sess_lightning.saliency.base import BaseMethod, Explanation, wide
from sess_lightning.saliency.extremal_mask import SmoothMasks, blend, blur_levels
from sess_lightning.saliency.gradient import gradients_throughout

_WEIGHT, _GROWTH = 300.0, 1.0035  # of the area constraint: at first, and its factor per step
_SMOOTHING = 0.09  # of the image's shorter side: standard deviation of the final blur


class ExtremalPerturbation(BaseMethod):
    """For each of some areas the mask of that area under which the class logit stays highest; their sum is the map.

    Maximised is `z_c(x blurred where the mask is low) - lambda mean((sort(mask) - reference)^2)`, where `reference` has
    the wanted share of ones, and `lambda` grows from 300 by 0.35 % a step. Blur has 8 levels from 0 to 20 pixels; masks
    are those of `SmoothMasks`; gradient steps of 0.01 with momentum .9 (dampening .9), parameters cut to [0, 1], the
    image mirrored in every second step. The masks are smoothed by a Gaussian of 9 % of the shorter side and added.

    By far the dearest method: `num_steps` forwards and backwards for every area. For SESS keep few patches:
    `SESS("extremal_perturbation", prefilter_ratio=0.99)`. Maps have the image's resolution.

    Source: Fong, Patrick and Vedaldi, "Understanding deep networks via extremal perturbations and smooth masks", with
    the settings of the authors' pointing game.

    Args:
        areas: shares of the image in (0, 1); those of the authors for VOC (COCO: .018, .025, .05, .1).
        num_steps: gradient steps; 800 as published; the masks need a few hundred to shrink to their areas.
        batch_size: masked images per forward; `None`: the device's default. At least the areas of one image.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> ExtremalPerturbation(num_steps=2)(net, torch.rand(2, 3, 32, 32), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 32, 32])
    """

    def __init__(
        self,
        areas: Sequence[float] = (0.025, 0.05, 0.1, 0.2),
        num_steps: int = 800,
        batch_size: int | None = None,
    ) -> None:
        check_count("num_steps", num_steps)
        check_count("batch_size", batch_size, optional=True)
        self.areas, self.num_steps, self.batch_size = tuple(areas), num_steps, batch_size
        if not self.areas or not all(0 < area < 1 for area in self.areas):
            raise ValueError(f"Expected argument `areas` to be shares of the image in (0, 1), but got {areas!r}.")

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        size = (images.shape[-2], images.shape[-1])
        count = self.batch_size or max(len(images), default_batch_size(images.device, size))
        together = max(1, count // len(self.areas))
        maps = []
        for part, classes in zip(images.split(together), targets.split(together), strict=True):
            maps.append(self._masks(model, part, classes).sum(1))
        sigma = _SMOOTHING * min(size)
        return Explanation(gaussian_blur(torch.cat(maps), 2 * round(4 * sigma) + 1, sigma, border="constant"))

    def _masks(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """The best mask `(N, areas, H, W)` of each area for each image."""
        pixels = wide(images)
        levels = [blur_levels(image) for image in pixels]
        generator = SmoothMasks((images.shape[-2], images.shape[-1]), pixels)
        parameters = pixels.new_ones(len(images) * len(self.areas), *generator.grid).requires_grad_()
        classes = targets.repeat_interleave(len(self.areas))
        optimizer = torch.optim.SGD([parameters], lr=0.01, momentum=0.9, dampening=0.9)
        weight = _WEIGHT
        for step in range(self.num_steps):
            with torch.enable_grad():
                masks, points = generator(parameters)
                shown = torch.cat([blend(*pair) for pair in zip(levels, masks.split(len(self.areas)), strict=True)])
                mirrored = shown.flip(-1) if step % 2 == 0 else shown
                with gradients_throughout(model):
                    logits = model_logits(model, mirrored.to(images.dtype))
                energy = class_logits(wide(logits), classes).sum() - weight * self._excess(points).sum()
                (parameters.grad,) = torch.autograd.grad(-energy, parameters)
            optimizer.step()
            with torch.no_grad():
                parameters.clamp_(0, 1)
            weight *= _GROWTH
        with torch.no_grad():
            return generator(parameters)[0].unflatten(0, (len(images), len(self.areas)))

    def _excess(self, points: Tensor) -> Tensor:
        """How far the sorted masks `(B, h, w)` are from having their areas: `(B,)`, the areas in turn."""
        ordered = points.flatten(1).sort(1).values
        share = torch.arange(ordered.shape[1], device=points.device) / ordered.shape[1]
        wanted = torch.stack([(share >= 1 - area).to(points) for area in self.areas])
        return ((ordered - wanted.repeat(len(points) // len(self.areas), 1)) ** 2).mean(1)

    def __repr__(self) -> str:
        return f"ExtremalPerturbation(areas={self.areas}, num_steps={self.num_steps})"
