"""Saliency drift: the change of the same samples' maps since the last validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sess_lightning.metrics.base import SaliencyMetric
from sess_lightning.metrics.saliency_input import check_pairs, check_same_count, split_maps


def saliency_drift(saliency: Tensor | Sequence[Tensor], previous: Tensor | Sequence[Tensor]) -> Tensor:
    """One minus the cosine similarity of each pair of maps: `1 - <s, p> / (|s| |p|)`.

    Args:
        saliency: `(N, H, W)` or a list of `(H, W)`.
        previous: the earlier maps of the same samples, of the same sizes.

    Returns:
        `(N,)`: 0 for maps that agree up to a factor, 1 for maps without overlap, up to 2 for maps of opposite sign;
        NaN where a map is all zeros or not finite.

    Raises:
        ValueError: if the maps differ in number or size.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, compare the maps of a trained and a random
    model; here those of two epochs are compared, by the cosine similarity.

    Example:
        >>> saliency_drift(torch.tensor([[[1.0, 0.0]], [[2.0, 0.0]]]), torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]))
        tensor([1., 0.])
    """
    now, before = split_maps(saliency), split_maps(previous, "previous")
    check_pairs("previous", before, now)
    values = [1 - (_unit(one) * _unit(other.to(one))).sum() for one, other in zip(now, before, strict=True)]
    return torch.stack(values) if values else torch.zeros(0)


class SaliencyDrift(SaliencyMetric):
    """Mean drift of the maps of the same samples between two validations.

    `1 - mean over samples of <s, p> / (|s| |p|)`. Neither high nor low is better: a model drifts as long as it
    learns, and a model that does not learn does not drift.

    As input to `update` and `forward`:

    - `saliency`: `(B, H, W)`, or a list of `(H, W)`
    - `previous`: the maps of the same samples one validation ago, likewise; a list may hold None for samples without,
      and None altogether skips the batch (the first validation)

    As output of `compute` and `forward`: a scalar in [0, 1] for maps that are nowhere negative, otherwise in [0, 2];
    NaN where no sample counted. Pairs with a map of zeros or with NaN are skipped, and counted in `skipped`.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Attributes:
        last_values: `(B,)`, the drift of the last update's samples, NaN for those without; no state.

    Source: see `saliency_drift`.

    Example:
        >>> metric = SaliencyDrift()
        >>> metric(torch.tensor([[[1.0, 0.0]], [[2.0, 0.0]]]), torch.tensor([[[0.0, 1.0]], [[1.0, 0.0]]]))
        tensor(0.5000)
    """

    higher_is_better = None
    drift_sum: Tensor
    drift_total: Tensor
    drift_skipped: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._add_sum("drift_sum")
        self._add_count("drift_total")
        self._add_count("drift_skipped")
        self.last_values = torch.empty(0)

    @property
    def skipped(self) -> int:
        """Number of samples left out on this process since the last reset."""
        return int(self.drift_skipped)

    def update(self, saliency: Tensor | Sequence[Tensor], previous: Tensor | Sequence[Tensor | None] | None) -> None:
        """Compare further samples with their earlier maps; shapes are given in the docstring of the class.

        Raises:
            TypeError: if an argument is of a wrong type.
            ValueError: naming the argument, what was expected and what came.
        """
        now = split_maps(saliency)
        before = [None] * len(now) if previous is None else previous
        check_same_count("previous", len(before), len(now))
        there = [number for number, other in enumerate(before) if other is not None]
        pairs = [(now[number], other) for number, other in enumerate(before) if other is not None]
        drift = saliency_drift([one for one, _ in pairs], [other for _, other in pairs])
        self.last_values = torch.full((len(now),), torch.nan, dtype=torch.float32)
        self.last_values[there] = drift.to(self.last_values)
        counted = torch.isfinite(drift)
        self._increase("drift_sum", drift.nan_to_num().sum())
        self._increase("drift_total", counted.sum())
        self._increase("drift_skipped", len(now) - counted.sum())

    def compute(self) -> Tensor:
        """Returns the mean drift; NaN where no sample counted."""
        return self.drift_sum / self.drift_total


def _unit(one: Tensor) -> Tensor:
    """Returns the map divided by its norm; NaN for a map of zeros or with infinity."""
    scaled = one / one.abs().max()  # squares of large values would overflow
    return scaled / scaled.norm()
