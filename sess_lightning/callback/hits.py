"""Hit or miss of one map, decided by a copy of the pointing metric in use, so that pictures agree with the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor
from torchmetrics import Metric

from sess_lightning.callback.explainer import Explained
from sess_lightning.metrics import PointingGame, chance_of_hit
from sess_lightning.metrics.objects import Objects, is_empty


class HitRule:
    """Decides for one map at a time whether it is a hit, by a copy of the pointing metric.

    Args:
        metrics: the metrics of the callback. The one named `"pointing"` is copied, else the first `PointingGame`; where
            there is none, `PointingGame(tolerance=0)` decides.

    Attributes:
        measured: whether one of `metrics` is a pointing metric.
        tolerance: tolerance of the metric in pixels.

    Example:
        >>> objects = {"boxes": torch.tensor([[0, 0, 9, 9]]), "labels": torch.tensor([3])}
        >>> hit_rule = HitRule({"pointing": PointingGame(tolerance=0)})
        >>> hit_rule(torch.eye(20).flip(0), 3, objects), hit_rule(torch.eye(20), 3, objects)
        (False, True)
        >>> hit_rule(torch.eye(20), 4, objects) is None
        True
    """

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        games = {name: metric for name, metric in metrics.items() if isinstance(metric, PointingGame)}
        self.measured = bool(games)
        chosen = games.get("pointing") or next(iter(games.values()), PointingGame(tolerance=0))
        self._game = deepcopy(chosen)
        self.tolerance = float(chosen.tolerance)

    def __call__(self, saliency: Tensor, target: int, objects: Objects | None, valid: bool = True) -> bool | None:
        """Whether the peak of a map `(H, W)` is a hit; `None` where the sample counts as neither.

        A map that is not valid is a miss.
        """
        if objects is None or is_empty(objects):
            return None
        self._game.reset()
        self._game.update([saliency], torch.tensor([target]), [objects], [valid])
        if not self._game.pointing_total.sum():
            return None
        return bool(self._game.pointing_correct.sum())

    def judge(self, found: Explained) -> None:
        """Set `hits` and `base_hits` of results on the CPU, whose base maps may be missing."""
        targets = found.targets.tolist()
        rows = zip(found.maps, targets, found.objects, found.valid.tolist(), strict=True)
        found.hits = [self(*row) for row in rows]
        base_rows = zip(found.base_maps, targets, found.objects, found.base_valid.tolist(), strict=False)
        found.base_hits = [self(*row) for row in base_rows]

    def chance(self, target: int, objects: Objects | None, size: tuple[int, int]) -> float | None:
        """The chance that a random pixel of an image of this size hits, by the same metric.

        `None` where the sample counts as neither, or the metric is no plain mean over all samples, or there is none.
        """
        if not self.measured or self._game.average != "micro" or self._game.subset != "all":
            return None
        return chance_of_hit(objects, target, size, self.tolerance)
