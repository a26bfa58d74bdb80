"""Insertion and deletion: the mean area under the curve while pixels appear, or vanish."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sess_lightning.metrics.perturbation import Mode, area_under_curve, perturbation_curve
from sess_lightning.metrics.perturbation_metric import Inputs, PerturbationMetric

__all__ = ["DeletionAUC", "InsertionAUC", "area_under_curve", "perturbation_curve"]


class _PerturbationAUC(PerturbationMetric):
    """Mean area under `perturbation_curve`; the states are named after the mode."""

    mode: ClassVar[Mode]

    def _add_states(self) -> None:
        self._add_sum(f"{self.mode}_sum")
        self._add_sum(f"{self.mode}_curve", self.steps + 1)
        self._add_count(f"{self.mode}_total")

    def _measure(self, inputs: Inputs) -> None:
        areas = []
        worst = 0.0 if self.higher_is_better else 1.0
        for group in self._curves(inputs, self.mode, worst=worst):
            curve = F.interpolate(group[None], size=self.steps + 1, mode="linear", align_corners=True)[0]
            areas.append(area_under_curve(group))
            self._increase(f"{self.mode}_sum", areas[-1].sum())
            self._increase(f"{self.mode}_curve", curve.sum(0))
            self._increase(f"{self.mode}_total", len(group))
        self.last_areas = torch.cat(areas)

    def compute(self) -> Tensor:
        """Returns the mean area, a scalar in [0, 1]; NaN without samples."""
        return getattr(self, f"{self.mode}_sum") / getattr(self, f"{self.mode}_total")

    def mean_curve(self) -> Tensor:
        """Returns the mean curve of all samples of all processes, for plotting. Collective call.

        Returns:
            `(steps + 1,)`, over the share of steps done, 0 to 1; NaN without samples. Curves of other lengths (small
            images, or `pixels_per_step`) are resampled linearly.
        """
        with self._synced():
            return getattr(self, f"{self.mode}_curve") / getattr(self, f"{self.mode}_total")


class InsertionAUC(_PerturbationAUC):
    """Mean area under the insertion curve: pixels appear on a blurred image, most salient first. Higher is better.

    As input to `update` and `forward`:

    - `predict`: images `(N, C, H, W)` to logits `(N, K)`
    - `images`: `(B, C, H, W)`, or a list of `(C, H, W)`
    - `saliency`: `(B, H, W)`, or a list of `(H, W)`
    - `targets`: `(B,)`
    - `valid`: optional, `(B,)` bool: which maps carry information, see `update`

    As output of `compute` and `forward`: a scalar in [0, 1]. `mean_curve()` gives the curve behind it.

    Args:
        steps: at most so many steps; 28 is the paper's.
        pixels_per_step: pixels of one step instead of `steps`, which then only sets the points of `mean_curve`.
        protocol: `"groupcam"` or `"rise"`.
        baseline: `None` (blur), `"zeros"`, `"blur"`, `"road"`, a tensor, a callable or a `NoisyLinearImputation`.
        blur_kernel_size: `None`: the protocol's.
        blur_sigma: `None`: the protocol's.
        activation: `"softmax"`, `"sigmoid"` or `None`.
        batch_size: perturbed images per forward; `None` = 4 of 224 x 224 on a CPU, 64 on an accelerator.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    Source: see `perturbation_curve`, which explains every argument.

    Example:
        >>> image = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
        >>> bright = lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)
        >>> metric = InsertionAUC(steps=4, baseline="zeros", activation=None)
        >>> metric(bright, image[None], image, torch.tensor([0]))
        tensor(0.8750)
        >>> metric.mean_curve()
        tensor([0., 1., 1., 1., 1.])
    """

    mode = "insertion"
    insertion_sum: Tensor
    insertion_curve: Tensor
    insertion_total: Tensor


class DeletionAUC(_PerturbationAUC):
    """Mean area under the deletion curve: pixels vanish, most salient first. Lower is better.

    As input to `update` and `forward`, arguments and output: as `InsertionAUC`, but `baseline=None` means zeros, the
    mean colour of normalised images.

    Example:
        >>> image = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
        >>> bright = lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)
        >>> metric = DeletionAUC(steps=4, activation=None)
        >>> metric(bright, image[None], image, torch.tensor([0]))
        tensor(0.1250)
    """

    higher_is_better = False
    mode = "deletion"
    deletion_sum: Tensor
    deletion_curve: Tensor
    deletion_total: Tensor
