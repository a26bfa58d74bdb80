"""State of one validation loader: the followed samples, their maps in this validation, the metrics."""

from __future__ import annotations

import inspect
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, NamedTuple

import torch
from lightning.pytorch.strategies import Strategy
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from sess_lightning.callback.alarm import Alarm, Evidence, can_be_judged, judge
from sess_lightning.callback.class_name_search import FoundNames
from sess_lightning.callback.cost import Timed
from sess_lightning.callback.exchange import States, release, states_of, synchronise
from sess_lightning.callback.explainer import Explained, Place
from sess_lightning.callback.hits import HitRule
from sess_lightning.callback.keys import (
    ALARMS,
    BACKGROUND_RELIANCE,
    BASE,
    KEYS,
    NUM_SAMPLES,
    OBJECT_RELIANCE,
    VALID_FRACTION,
    check_name,
    differences,
    key_name,
)
from sess_lightning.callback.notable import Notable
from sess_lightning.callback.pace import Pace
from sess_lightning.callback.sample_checks import BoxNotes
from sess_lightning.callback.sample_values import Columns, Intervals, SampleValues, intervals_of, joined
from sess_lightning.callback.selection import SampleSelection
from sess_lightning.callback.tensor_store import TensorStore
from sess_lightning.class_names import class_name
from sess_lightning.metrics import DeletionAUC, InsertionAUC, shared_curves
from sess_lightning.metrics.reliance import RelianceMetric
from sess_lightning.samples import UNKNOWN, Objects, Samples, describe
from sess_lightning.viewer.record import sample_id

Curves = dict[str, dict[str, tuple[Tensor, float]]]
# What is made in the inference mode of `validate` and `test` could not be changed in place outside of it, where metrics
# are updated.
_OUTSIDE_INFERENCE = torch.inference_mode(False)


class Measured(NamedTuple):
    """What one process has measured of a loader, for the others: numbers and the states of the metrics.

    Attributes:
        explained: number of samples explained.
        valid: number of them with a valid map.
        annotated: whether the batches hold objects; `None` if there was no batch.
        positions: of `SampleSelection`, in order.
        states: of the metrics, where there are several processes.
        values: of its samples, see `SampleValues`.
        evidence: for the alarm, likewise.
    """

    explained: int
    valid: int
    annotated: bool | None
    positions: list[int]
    states: list[States]
    values: Columns
    evidence: list[Evidence]


class LoaderTracker(Timed):
    """The followed samples of one loader, and the results of the current validation.

    Args:
        selection: choice of the samples to follow.
        metrics: metrics by name. They are cloned: every loader, SESS and the base method have their own.
        compare_base: measure the base method too.
        rank: rank of this process.
        alarm: look for what `judge` tells.
        activation: that the scores of results come from.

    Attributes:
        hit_rule: tells whether the peak of a map is a hit.
        images: those of the followed samples, with all their bits.
        places: process, batch and position in the batch of each followed sample.
        class_names: of the labels.
        photo_names: of all photos, where the samples are some of them.
        rows: with `forward_fn`, what `batch_row` took of each sample's batch.
        intervals: of this validation's numbers, over the samples of all processes; after `compute`.
        groups: of each followed sample, with `groups=`.
        alarms: what is wrong in this validation; after `compute`.
        can_be_judged: the samples are enough for a number of alarms, now or when more are right; after `compute`.
        shown: what the reporter draws of this validation, by process.
        process_seconds: that the work of each process took, before drawing.
        notable: samples shown beside those followed, on rank 0; `None` where none are looked for.
        pictured: of the first so many samples rank 0 has what the record holds of them once.
        rank: rank of this process.
        unfit: what to tell about metrics whose value cannot be logged, a sentence by kind.
    """

    @_OUTSIDE_INFERENCE
    def __init__(
        self,
        selection: SampleSelection,
        metrics: Mapping[str, Metric],
        compare_base: bool,
        rank: int = 0,
        alarm: bool = True,
        activation: str = "softmax",
    ) -> None:
        self.selection = selection
        self.hit_rule = HitRule(metrics)
        self.pace = Pace()
        self.box_notes = BoxNotes()
        self.complete = False  # all samples have been chosen
        self.broken = False  # some could not be: the next validation chooses anew
        self.checked = False  # the normalisation of the images
        self.annotated: bool | None = None  # whether the batches hold objects; unknown before the first
        self.images = TensorStore()
        self.places: list[Place] = []
        self.rows: list[Any] = []  # of the batches that the samples came in, where the model needs them
        self.groups: list[str | None] = []
        self.class_names = FoundNames()
        self.photo_names: Sequence[str] | None = None
        self.shown: list[Any] = []
        self.process_seconds: list[float] = []
        self.notable: Notable | None = None
        self.unfit: dict[str, str] = {}
        self.pictured = 0
        self.rank = rank
        self._alarm = alarm
        self._ids: list[str] = []  # of the first samples, by which records know them
        self._labels: list[int] = []
        self._objects: list[Objects | None] = []
        self._metrics = {"": _collection(metrics)}
        if compare_base:
            own = {name: one for name, one in metrics.items() if not isinstance(one, RelianceMetric)}
            self._metrics[BASE] = _collection(own)
        self._compares = any(map(_takes_previous, metrics.values()))
        # Metrics by another activation than that of the results need scores of their own.
        self._shares_scores = all(one.activation == activation for one in _reliances(metrics.values()))
        self._maps = {prefix: TensorStore() for prefix in self._metrics}
        self._earlier: list[dict[str, TensorStore]] = []  # maps of the validations before, the latest first
        self.begin()

    @_OUTSIDE_INFERENCE
    def begin(self) -> None:
        """Start a validation: discard the results of the last one, but keep its maps for metrics that compare."""
        if self._compares and len(self._maps[""]):
            # Where the last one broke off, samples behind that point are compared with the one before it.
            longer = [maps for maps in self._earlier if len(maps[""]) > len(self._maps[""])]
            self._earlier = [self._maps, *longer]
        self._maps = {prefix: TensorStore() for prefix in self._metrics}
        self._next = 0  # samples before this one have been due
        self._parts: list[Explained] = []  # without images and maps of all samples
        self._found: Explained | None = None
        self._values = SampleValues()
        self.intervals: Intervals = {}
        self.alarms: list[Alarm] = []
        self.can_be_judged = False
        self.shown = []
        self.notable = None
        self.seconds = 0.0
        self.pace.begin()
        for collection in self._metrics.values():
            release(collection)
            collection.reset()

    def follow(self, samples: Samples, batch_idx: int, positions: Sequence[int]) -> None:
        """Add samples to follow, which are at these positions of batch `batch_idx`; batches come in order."""
        self.places += [(self.rank, batch_idx, position) for position in positions]
        for image in samples.images:
            self.images.append(image)
        self._labels += [UNKNOWN] * len(samples) if samples.labels is None else samples.labels.tolist()
        self._objects += [None] * len(samples) if samples.objects is None else samples.objects

    def samples(self, numbers: Sequence[int], device: torch.device) -> Samples:
        """Returns copies of followed samples on `device`."""
        labels = torch.tensor([self._labels[number] for number in numbers], dtype=torch.long)
        mine = Samples([self.images[n] for n in numbers], labels, [self._objects[n] for n in numbers])
        return mine.pick(range(len(numbers)), device)

    def first_images(self, count: int) -> list[Tensor]:
        """Returns copies of the first `count` images of the followed samples, or of all if there are fewer."""
        return [self.images[number] for number in range(min(count, len(self.images)))]

    def size(self, number: int) -> tuple[int, int]:
        """Height and width of the image of a followed sample."""
        height, width = self.images.shape(number)[-2:]
        return height, width

    def sample_id(self, number: int) -> str:
        """The name of a followed sample in records."""
        self._ids += [sample_id(self.images[one]) for one in range(len(self._ids), number + 1)]
        return self._ids[number]

    @property
    def values(self) -> Columns:
        """Values of the samples explained in this validation, by name of the key."""
        return self._values.columns

    def due(self, batch_idx: int, last: bool) -> list[int]:
        """Returns the samples to explain at the end of this batch: its own, and at the last batch all that are left."""
        end = len(self.places) if last else bisect_right(self.places, batch_idx, key=lambda place: place[1])
        begin, self._next = self._next, max(self._next, end)
        return list(range(begin, self._next))

    @property
    def explained(self) -> int:
        """Samples explained in this validation: the first ones of those followed."""
        return len(self._maps[""])

    @property
    def found(self) -> Explained:
        """Results of this validation so far, on the CPU."""
        if self._found is None or len(self._found) < self.explained:
            with torch.inference_mode(False), torch.no_grad():
                self._found = Explained.joined(self._parts)
                self._found.images = self.images.tensors()[: self.explained]
                self._found.maps = self._maps[""].tensors()
                self._found.base_maps = self._maps[BASE].tensors() if BASE in self._maps else []
        return self._found

    def update(
        self, predict: Callable[[Tensor], Tensor], found: Explained, squashed: Tensor, numbers: list[int]
    ) -> None:
        """Update the metrics with the results of the samples `numbers`, and keep the results on the CPU."""
        for prefix, collection in self._metrics.items():
            maps, valid = (found.base_maps, found.base_valid) if prefix else (found.maps, found.valid)
            collection.to(squashed.device)
            if numbers:
                with shared_curves():
                    collection.update(
                        predict=predict,
                        images=squashed,
                        saliency=maps,
                        targets=found.targets,
                        objects=found.objects,
                        previous=self._before(prefix, numbers, squashed.device),
                        valid=valid,
                        scores=found.scores if self._shares_scores else None,
                    )
        on_host = Explained.joined([found])
        on_host.places = [self.places[number] for number in numbers]
        self.hit_rule.judge(on_host)
        for prefix, collection in self._metrics.items():
            hits = on_host.base_hits if prefix else on_host.hits
            self._values.add(prefix, collection.items(keep_base=True) if numbers else (), hits)
        for prefix, kept in self._maps.items():
            for one in on_host.base_maps if prefix else on_host.maps:
                kept.append(one)
        self._parts.append(replace(on_host, images=[], maps=[], base_maps=[]))

    def _before(self, prefix: str, numbers: list[int], device: torch.device) -> list[Tensor | None] | None:
        """Returns the last earlier map of each sample, `None` where it has none, or `None` if none of them has one."""
        before: list[Tensor | None] = []
        for number in numbers:
            known = next((maps[prefix] for maps in self._earlier if number < len(maps[prefix])), None)
            before.append(None if known is None else known[number].to(device))
        return before if any(one is not None for one in before) else None

    @_OUTSIDE_INFERENCE
    def measured(self, world_size: int) -> Measured:
        """Returns what the processes exchange at the end of a validation."""
        valid = sum(int(part.valid.sum()) for part in self._parts)
        states = [states_of(collection) for collection in self._metrics.values()] if world_size > 1 else []
        return Measured(
            self.explained,
            valid,
            self.annotated,
            sorted(self.selection.positions),
            states,
            self._values.columns,
            self._evidence() if self._alarm else [],
        )

    def _evidence(self) -> list[Evidence]:
        found, nan = self.found, float("nan")
        targets, labels, predictions = (one.tolist() for one in (found.targets, found.labels, found.predictions))
        right = [
            None if label < 0 else label == prediction for label, prediction in zip(labels, predictions, strict=True)
        ]
        # A sentence is about one class: that explained, which must be the one that is right or not.
        reliances = [
            [value if target == label else nan for value, target, label in zip(column, targets, labels, strict=True)]
            for column in (
                self.values.get(key.name, [nan] * len(found)) for key in (OBJECT_RELIANCE, BACKGROUND_RELIANCE)
            )
        ]
        groups = (self.groups or [None] * len(found))[: len(found)]
        return [Evidence(*row) for row in zip(targets, right, found.hits, *reliances, groups, strict=True)]

    @_OUTSIDE_INFERENCE
    def compute(self, strategy: Strategy, parts: Sequence[Measured]) -> dict[str, float]:
        """Returns the values by name of the key, also such as are not finite.

        Args:
            strategy: of the trainer.
            parts: `measured` of all processes.
        """
        device = strategy.root_device
        values: dict[str, Tensor] = {}
        for number, (prefix, collection) in enumerate(self._metrics.items()):
            if len(parts) > 1:
                synchronise(collection, [part.states[number] for part in parts])
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*compute.* method of metric .* was called before")
                computed = collection.to(device).compute()
            for name, value in self._scalars(computed, device):
                key = f"{prefix}{key_name(name)}"
                if key in values:  # of a metric that gives a dict of values, whose names are known only now
                    raise ValueError(f"Expected every metric to give values of other names, but {key!r} comes twice.")
                values[key] = value
            values.update(differences(values, prefix))
        found = {name: float(value) for name, value in values.items()}
        found[NUM_SAMPLES.name] = total = float(sum(part.explained for part in parts))
        if total:
            found[VALID_FRACTION.name] = sum(part.valid for part in parts) / total
        self.intervals = intervals_of(joined([part.values for part in parts]))
        evidence = [one for part in parts for one in part.evidence]
        self.alarms, count = judge(evidence, lambda target: class_name(target, self.class_names.names))
        self.can_be_judged = can_be_judged(evidence)
        if count is not None:
            found[ALARMS.name] = float(count)
        return found

    def _scalars(self, computed: Mapping[str, Any], device: torch.device) -> Iterator[tuple[str, Tensor]]:
        for name, value in computed.items():
            check_name(name)  # a metric may give a dict of values, whose names are known only now
            if isinstance(value, Tensor) and value.numel() == 1:
                yield name, value.float().reshape(())
            elif isinstance(value, Real):
                yield name, torch.tensor(float(value), device=device)
            else:
                self.unfit[f"value of {name}"] = (
                    f"does not log metric {name!r}, whose value is no number but {describe(value)}. Give it as a "
                    "metric of one value, or as several."
                )

    @_OUTSIDE_INFERENCE
    def curves(self, strategy: Strategy) -> Curves:
        """Returns mean curves `(steps + 1,)` on the CPU and their areas, by mode and `"SESS"` or `"base"`.

        Call it after `compute`, which brings in the samples of the other processes.
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


def _collection(metrics: Mapping[str, Metric]) -> MetricCollection:
    """Clones; not grouped: torchmetrics would merge metrics whose states happen to be equal after the first update."""
    return MetricCollection({name: one.clone() for name, one in metrics.items()}, compute_groups=False)


def _reliances(metrics: Iterable[Metric]) -> Iterator[RelianceMetric]:
    """All metrics of this kind, also those inside others."""
    return (one for metric in metrics for one in metric.modules() if isinstance(one, RelianceMetric))


def _takes_previous(metric: Metric) -> bool:
    """Whether `update` knows `previous`, or anything: a wrapper, which may pass it on."""
    parameters = inspect.signature(metric.update).parameters
    return "previous" in parameters or any(one.kind is one.VAR_KEYWORD for one in parameters.values())
