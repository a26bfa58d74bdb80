"""Symmetric relevance gain: how much later the class goes if the least salient pixels are removed first."""

from __future__ import annotations

import torch
from torch import Tensor

from sess_lightning.metrics.perturbation import area_under_curve
from sess_lightning.metrics.perturbation_metric import Inputs, PerturbationMetric


class SymmetricRelevanceGain(PerturbationMetric):
    """Area with the least salient pixels removed first minus area with the most salient first. Higher is better.

    Both areas have one baseline and lie under `perturbation_curve(mode="deletion")`. A map without information scores
    0 in expectation, whatever the network's confidence and the baseline, since its order is as likely as the reverse;
    insertion minus deletion with two baselines (`sess/overall`) need not. Where the steps divide the
    pixels, the value is that of insertion minus deletion with the same baseline for both.

    As input to `update` and `forward`, and arguments: as `InsertionAUC`, but `baseline=None` means zeros, the mean
    colour of normalised images, as for `DeletionAUC`, with which it then shares one of its two curves: see
    `shared_curves`. A map that `valid` calls without information counts as a fixed random order, and NaN as the worst
    probability.

    As output of `compute` and `forward`: a scalar in [-1, 1]; NaN without samples.

    Source: Bluecher et al., "Decoupling pixel flipping and occlusion strategy for consistent XAI benchmarks", TMLR
    2024.

    Example:
        >>> image = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
        >>> bright = lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)
        >>> metric = SymmetricRelevanceGain(steps=4, activation=None)
        >>> metric(bright, image[None], image, torch.tensor([0]))
        tensor(0.7500)
    """

    plot_lower_bound = -1.0
    srg_sum: Tensor
    srg_total: Tensor

    def _add_states(self) -> None:
        self._add_sum("srg_sum")
        self._add_count("srg_total")

    def _measure(self, inputs: Inputs) -> None:
        most = self._curves(inputs, "deletion", "most", worst=1.0)
        least = self._curves(inputs, "deletion", "least", worst=0.0)
        gains = [area_under_curve(low) - area_under_curve(high) for low, high in zip(least, most, strict=True)]
        self.last_areas = torch.cat(gains)
        self._increase("srg_sum", self.last_areas.sum())
        self._increase("srg_total", len(self.last_areas))

    def compute(self) -> Tensor:
        """Returns the mean gain, a scalar in [-1, 1]; NaN without samples."""
        return self.srg_sum / self.srg_total
