"""State of one validation loader: the followed samples, their maps in this validation, the metrics."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from sess_lightning.callback.explainer import Explained, Place
from sess_lightning.callback.hits import HitRule
from sess_lightning.callback.keys import BASE, KEYS, NUM_SAMPLES, SECONDS, VALID_FRACTION, differences, key_name
from sess_lightning.callback.selection import SampleSelection
from sess_lightning.metrics import DeletionAUC, InsertionAUC
from sess_lightning.samples import Samples

Curves = dict[str, dict[str, tuple[Tensor, float]]]


class LoaderTracker:
    """The followed samples of one loader, and the results of the current validation.

    Args:
        selection: choice of the samples to follow.
        metrics: metrics by name. They are cloned: every loader, SESS and the base method have their own.
        compare_base: measure the base method too.
        rank: rank of this process.

    Attributes:
        hit_rule: tells whether the peak of a map is a hit.
        places: process, batch and position in the batch of each followed sample.
        rows: with `forward_fn`, what `batch_row` took of each sample's batch.
    """

    def __init__(
        self, selection: SampleSelection, metrics: Mapping[str, Metric], compare_base: bool, rank: int = 0
    ) -> None:
        self.selection = selection
        self.hit_rule = HitRule(metrics)
        self.complete = False  # all samples have been chosen
        self.annotated: bool | None = None  # whether the batches hold objects; unknown before the first
        self.samples = Samples(images=[], labels=None, objects=None)
        self.places: list[Place] = []
        self.rows: list[Any] = []  # of the batches that the samples came in, where the model needs them
        self._rank = rank
        # compute_groups=False: torchmetrics would merge metrics whose states happen to be equal after the first update.
        self._metrics = {"": MetricCollection({k: m.clone() for k, m in metrics.items()}, compute_groups=False)}
        if compare_base:
            self._metrics[BASE] = self._metrics[""].clone()
        self._previous: dict[str, dict[int, Tensor]] = {}
        self._maps: dict[str, dict[int, Tensor]] = {}
        self.begin()

    def begin(self) -> None:
        """Start a validation: discard the results of the last one, but keep its maps for metrics that compare."""
        self._previous, self._maps = self._maps, {prefix: {} for prefix in self._metrics}
        self._pending = list(range(len(self.places)))
        self.found = Explained()
        self.seconds = 0.0
        for collection in self._metrics.values():
            collection.reset()

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time spent inside to `seconds`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def follow(self, samples: Samples, batch_idx: int, positions: Sequence[int]) -> None:
        """Add samples to follow, which are at these positions of batch `batch_idx`."""
        self._pending += range(len(self.places), len(self.places) + len(samples))
        self.places += [(self._rank, batch_idx, position) for position in positions]
        self.samples = self.samples + samples

    def due(self, batch_idx: int, last: bool) -> list[int]:
        """Returns the samples to explain at the end of this batch: its own, and at the last batch all that are left."""
        due = [i for i in self._pending if last or self.places[i][1] <= batch_idx]
        self._pending = [i for i in self._pending if i not in set(due)]
        return due

    def affordable(self, count: int, max_seconds: float | None) -> int:
        """Returns how many of the next `count` samples fit into `max_seconds`, by the mean time of those before.

        With none explained yet it returns 1, to measure the time of one.
        """
        if max_seconds is None:
            return count
        done = len(self.found)
        if not done:
            return 1
        return max(0, min(count, int((max_seconds - self.seconds) / (self.seconds / done))))

    def update(
        self, predict: Callable[[Tensor], Tensor], found: Explained, squashed: Tensor, numbers: list[int]
    ) -> None:
        """Update the metrics with the results of the samples `numbers`, and keep the results on the CPU."""
        for prefix, collection in self._metrics.items():
            maps, valid = (found.base_maps, found.base_valid) if prefix else (found.maps, found.valid)
            collection.to(squashed.device)
            if numbers:
                collection.update(
                    predict=predict,
                    images=squashed,
                    saliency=maps,
                    targets=found.targets,
                    objects=found.objects,
                    previous=self._before(prefix, numbers, squashed.device),
                    valid=valid,
                )
            self._maps[prefix].update({number: one.cpu() for number, one in zip(numbers, maps, strict=True)})
        on_host = Explained()
        on_host.extend(found)
        on_host.places = [self.places[number] for number in numbers]
        on_host.hits = self._outcomes(on_host, on_host.maps, on_host.valid)
        on_host.base_hits = self._outcomes(on_host, on_host.base_maps, on_host.base_valid)
        self.found.extend(on_host)

    def _outcomes(self, found: Explained, maps: Sequence[Tensor], valid: Tensor) -> list[bool | None]:
        samples = zip(maps, found.targets.tolist(), found.objects, valid.tolist(), strict=False)  # maps may be missing
        return [self.hit_rule(*sample) for sample in samples]

    def _before(self, prefix: str, numbers: list[int], device: torch.device) -> list[Tensor] | None:
        """Returns the maps of these samples one validation ago, or `None` unless all of them have one."""
        before = self._previous.get(prefix, {})
        return [before[n].to(device) for n in numbers] if all(n in before for n in numbers) else None

    def compute(self, strategy: Strategy) -> dict[str, Tensor]:
        """Returns the values to log by name of the key, the same on all processes. Collective call."""
        device = strategy.root_device
        counts = torch.tensor([len(self.found), int(self.found.valid.sum())], dtype=torch.float32, device=device)
        total, valid = strategy.reduce(counts, reduce_op="sum")
        values: dict[str, Tensor] = {}
        for prefix, collection in self._metrics.items():
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*compute.* method of metric .* was called before")
                computed = collection.to(device).compute()
            values.update({f"{prefix}{key_name(name)}": value for name, value in _scalars(computed)})
            values.update(differences(values, prefix))
        values = {name: value for name, value in values.items() if torch.isfinite(value)}
        values[SECONDS.name] = torch.tensor(self.seconds, device=device)
        values[NUM_SAMPLES.name] = total
        if total:
            values[VALID_FRACTION.name] = valid / total
        return values

    def curves(self, strategy: Strategy) -> Curves:
        """Returns mean curves `(steps + 1,)` on the CPU and their areas, by mode and `"SESS"` or `"base"`.

        Collective call, after `compute`.
        """
        curves: Curves = {}
        for prefix, collection in self._metrics.items():
            for metric in collection.to(strategy.root_device).values():
                if isinstance(metric, (InsertionAUC, DeletionAUC)):
                    curve = metric.mean_curve().float().cpu()
                    if torch.isfinite(curve).all():
                        known = curves.setdefault(metric.mode, {})
                        known.setdefault("base" if prefix else "SESS", (curve, float(metric.compute())))
        return {key.title: curves[key.title] for key in KEYS if key.title in curves}


def _scalars(computed: Mapping[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, value in computed.items():
        if isinstance(value, Tensor) and value.numel() == 1:
            yield name, value.float().reshape(())
