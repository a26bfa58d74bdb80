"""Which samples `SESSCallback` follows: chosen once, copied out of the batches of the validation, or photos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from sess_lightning.callback.class_name_search import FoundNames, found_class_names
from sess_lightning.callback.cost import Cost
from sess_lightning.callback.exchange import Exchange
from sess_lightning.callback.explainer import Explained, TargetRule
from sess_lightning.callback.forward_view import ForwardFn, ForwardView, batch_row
from sess_lightning.callback.hits import HitRule
from sess_lightning.callback.keys import PHOTOS
from sess_lightning.callback.loaders import check_choices, evaluation_loaders
from sess_lightning.callback.monitors import MonitorPause
from sess_lightning.callback.photo_watch import PhotoWatch
from sess_lightning.callback.recording import Recorder
from sess_lightning.callback.reporter import Reporter
from sess_lightning.callback.sample_checks import check_bands, finite_images, notes_on
from sess_lightning.callback.sample_groups import groups_of, holds_groups
from sess_lightning.callback.sample_rows import DisplayOptions
from sess_lightning.callback.sample_values import Intervals
from sess_lightning.callback.selection import SampleSelection
from sess_lightning.callback.tracker import LoaderTracker
from sess_lightning.callback.watched_photos import PhotoArgument, open_photos
from sess_lightning.memory import BatchLimit
from sess_lightning.samples import Samples, batch_to_samples
from sess_lightning.sess import SESS


class SampleFollowing(Callback):
    """The part of `SESSCallback` that chooses and keeps samples: `_begin` a validation, `_capture` those of a batch.

    The arguments and their meaning are those of `SESSCallback`.
    """

    sess: SESS
    num_samples: int
    num_images: int
    indices: Sequence[int] | None
    every_n_epochs: int
    metrics: Mapping[str, Metric]
    target: str | TargetRule
    compare_base: bool
    batch_to_samples: Callable[[Any], Samples] | None
    logits_fn: Callable[[Any], Tensor] | None
    forward_fn: ForwardFn | None
    dataloaders: Sequence[int] | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    bands: tuple[int, ...] | None
    max_seconds: float | None
    on_error: str
    prefix: str
    seed: int
    save_dir: str | None
    photos: PhotoArgument | None
    _given_names: FoundNames | None
    intervals: bool
    record: bool
    alarm: bool
    groups: str | None

    def _start(self) -> None:
        """Initialise the state that outlives one validation. Call it after the arguments are set."""
        self._pause = MonitorPause()
        self._start_stage(1)
        self._limit = BatchLimit(
            "SESSCallback", "Pass SESS(batch_size=) from the start, or follow fewer num_samples.", rank_zero_warn
        )
        self._said: set[str] = set()

    def _start_stage(self, world_size: int) -> None:
        """Forget the last `fit`, `validate` or `test`: the next chooses its own samples and must prove itself."""
        self._trackers: dict[int, LoaderTracker] = {}
        self.last_results: dict[int, Explained] = {}
        self.last_intervals: dict[int, Intervals] = {}
        self._view: ForwardView | None = None  # of the module, with `forward_fn`
        self.reporter = self._new_reporter()
        self.recorder = Recorder(self.record, self.reporter, world_size, self.on_error == "raise")
        self._exchange = Exchange(world_size, self.on_error == "raise")
        self._cost = Cost()
        self._watch: PhotoWatch | None = None
        self._resumed: dict[int, dict[str, Any]] = {}  # what the checkpoint says was followed, by loader
        self._followed: dict[int, dict[str, Any]] = {}  # for the next checkpoint
        self._logged: set[str] = set()
        self._pause.end()

    def _begin(self, trainer: pl.Trainer) -> None:
        """Start a validation. Collective call."""
        self._exchange.begin()
        due = False, False
        with self._exchange.guarded():
            self._begin_trackers(trainer)
            due = self.reporter.due(trainer), self.recorder.due(trainer)
        # Rank 0 writes, so it decides: the others may have no logger. No rank can miss this call: every one comes to
        # every validation (a loader that may be empty on one is refused in `setup`), and what failed above is caught.
        self.reporter.drawing, self.recorder.on = trainer.strategy.broadcast(due)

    def _begin_trackers(self, trainer: pl.Trainer) -> None:
        self.last_results = {}  # of the validation that begins: no older one is taken for it, nor kept in memory
        self.last_intervals = {}
        self.reporter.begin()
        if trainer.sanity_checking:
            self._trackers = {}  # chosen from the first validation; the sanity check leaves nothing behind
        self._check_choices(trainer)
        for loader in self._watched(trainer):
            if loader in self._trackers and not self._trackers[loader].broken:
                self._trackers[loader].begin()
            else:
                self._trackers[loader] = self._new_tracker(trainer, loader)

    def _watched(self, trainer: pl.Trainer) -> list[int]:
        """Numbers of the loaders that are watched, and that of the photos."""
        if self.photos is not None and self.dataloaders is None:
            return [PHOTOS]
        loaders = range(len(evaluation_loaders(trainer)))
        return [
            *(number for number in loaders if self.dataloaders is None or number in self.dataloaders),
            *([PHOTOS] if self.photos is not None else []),
        ]

    def _check_choices(self, trainer: pl.Trainer) -> None:
        """Before training or at the start of a validation: are the loaders, positions and photos there?"""
        batches = self.photos is None or self.dataloaders is not None
        check_choices(trainer, self.dataloaders, self.indices if batches else None, trainer.world_size)
        if self.photos is None or self._watch is not None:
            return
        photos = open_photos(self.photos, self.mean, self.std, self.batch_to_samples)
        if evaluation_loaders(trainer):  # whose data sets may name the classes
            watch = PhotoWatch(photos, self._class_names(trainer, PHOTOS))
            watch.choose(self.num_samples, self.indices, self.seed, self._resumed.get(PHOTOS))
            watch.check()
            self._watch = watch

    def _class_names(self, trainer: pl.Trainer, number: int) -> FoundNames:
        loaders = [one.loader for one in evaluation_loaders(trainer)]
        return self._given_names or found_class_names(trainer, loaders if number == PHOTOS else [loaders[number]])

    def _capture(self, batch: Any, batch_idx: int, loader: int) -> None:
        """Clone the chosen samples before `validation_step` can change its batch."""
        if self._watch is not None and self._watch.window is None and self.sess.window_size is None:
            with self._exchange.guarded():
                self._watch.see(batch, self.batch_to_samples or batch_to_samples)
        tracker = self._trackers.get(loader)
        if tracker is None or tracker.complete or tracker.broken:
            return
        tracker.broken = True  # unless it ends well
        with self._exchange.guarded(), tracker.timed():
            samples = (self.batch_to_samples or batch_to_samples)(batch)
            self._follow(tracker, samples, tracker.selection.pick(len(samples)), batch, batch_idx)
            tracker.broken = False

    def _follow(self, tracker: LoaderTracker, samples: Samples, picked: list[int], batch: Any, batch_idx: int) -> None:
        """Take copies of the samples at these positions of a batch, or of a photo, whose number is `batch_idx`."""
        tracker.annotated = tracker.annotated or samples.objects is not None
        self._note(notes_on(samples, self.sess.activation))
        usable = finite_images(samples, picked)
        for left_out in sorted(set(picked) - set(usable)):
            where = f"photo {batch_idx}" if tracker.photo_names else f"number {left_out} of batch {batch_idx}"
            self._warn_once(
                "non-finite image",
                f"SESSCallback leaves out samples whose image holds NaN or infinity, e.g. {where}.",
            )
        if usable:
            chosen = samples.select(usable)
            check_bands(self.bands, chosen.images)
            self._note(tracker.box_notes.add(chosen))
            tracker.follow(chosen, batch_idx, usable)
            if self.groups is not None and self.alarm:
                found: list[str | None] = [None] * len(usable)
                if tracker.photo_names is None or holds_groups(batch, self.groups):  # a photo may be in none
                    found = groups_of(batch, self.groups, usable, len(samples))
                tracker.groups += found
            if self.forward_fn is not None:
                tracker.rows += [batch_row(batch, position, len(samples)) for position in usable]

    def _new_tracker(self, trainer: pl.Trainer, loader: int) -> LoaderTracker:
        if loader == PHOTOS and self._watch is not None:
            return self._photo_tracker(trainer, self._watch)
        length = None if trainer.sanity_checking else evaluation_loaders(trainer)[loader].length()
        selection = SampleSelection(
            num_samples=1 if trainer.sanity_checking else self.num_samples,
            indices=None if trainer.sanity_checking else self.indices,
            seed=self.seed,
            length=length,
            rank=0 if trainer.sanity_checking else trainer.global_rank,
            world_size=1 if trainer.sanity_checking else trainer.world_size,
        )
        if loader in self._resumed and not (trainer.sanity_checking or trainer.testing) and self.indices is None:
            differs = selection.restore(self._resumed[loader])
            if differs:
                self._warn_once(
                    f"resumed: {differs}",
                    f"SESSCallback chooses the samples to follow anew, not those of the checkpoint: {differs}.",
                )
        tracker = self._tracker_of(selection, trainer)
        tracker.class_names = self._class_names(trainer, loader)
        return tracker

    def _photo_tracker(self, trainer: pl.Trainer, watch: PhotoWatch) -> LoaderTracker:
        """All photos of this process are followed at once; the sanity check has the first one."""
        rank, world_size = (0, 1) if trainer.sanity_checking else (trainer.global_rank, trainer.world_size)
        selection = watch.selection(rank, world_size)
        tracker = self._tracker_of(selection, trainer)
        tracker.class_names, tracker.photo_names = watch.class_names, watch.photos.names
        tracker.annotated = watch.annotated
        with tracker.timed():
            for number in selection.mine[:1] if trainer.sanity_checking else selection.mine:
                samples, batch = watch.photos[number]
                self._follow(tracker, samples, [0], batch, number)
        if len(tracker.groups) and not any(tracker.groups) and self.dataloaders is None and not trainer.sanity_checking:
            self._note([("groups", f"finds no group under groups={self.groups!r} in any of the photos.")])
        tracker.complete = True
        return tracker

    def _tracker_of(self, selection: SampleSelection, trainer: pl.Trainer) -> LoaderTracker:
        return LoaderTracker(
            selection, self.metrics, self.compare_base, trainer.global_rank, self.alarm, self.sess.activation
        )

    def _new_reporter(self) -> Reporter:
        display = DisplayOptions(self.mean, self.std, HitRule(self.metrics).tolerance, bands=self.bands)
        return Reporter(self.prefix, self.num_images, self.every_n_epochs, display, self.save_dir)

    def _note(self, notes: Iterable[tuple[str, str]]) -> None:
        for kind, note in notes:
            self._warn_once(kind, f"SESSCallback {note}")

    def _warn_once(self, kind: str, message: str) -> None:
        """Warn unless something of this kind was said before: the numbers in a message may change."""
        if kind not in self._said:
            self._said.add(kind)
            rank_zero_warn(message)
