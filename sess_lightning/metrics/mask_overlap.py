"""Base of the metrics that score each map by the pixels of its objects, and take the mean over samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sess_lightning.metrics.objects import LocalisationMetric, Sample


class MaskOverlapMetric(LocalisationMetric):
    """Mean of a score over the samples that have an object of their class. Scores that are not finite are skipped.

    Attributes:
        state: first part of the names of the states, which no other class has.
    """

    state: ClassVar[str]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.skipped_state = f"{self.state}_skipped"
        self._add_sum(f"{self.state}_sum")
        self._add_count(f"{self.state}_total")
        self._add_count(self.skipped_state)

    @staticmethod
    @abstractmethod
    def _scores(saliency: Sequence[Tensor], masks: Sequence[Tensor]) -> Tensor:
        """Returns a score `(N,)` for each map `(H, W)` and its mask `(H, W)` bool."""

    def _measure(self, samples: list[Sample]) -> None:
        regions = [sample.objects.region(sample.saliency) for sample in samples]
        scores = self._scores([sample.saliency for sample in samples], regions)
        counted = torch.isfinite(scores)
        self._increase(f"{self.state}_sum", scores.nan_to_num().sum())
        self._increase(f"{self.state}_total", counted.sum())
        self._increase(self.skipped_state, (~counted).sum())

    def compute(self) -> Tensor:
        """Returns the mean score, a scalar in [0, 1]; NaN where no sample counted."""
        mean: Tensor = getattr(self, f"{self.state}_sum") / getattr(self, f"{self.state}_total")
        return mean
