"""The work of `SESSCallback` after the samples are chosen: explain, measure, report, log."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from itertools import groupby
from typing import NamedTuple, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor, nn

from sess_lightning.callback.alarm import Alarm
from sess_lightning.callback.cost import DRAWING, METRICS
from sess_lightning.callback.exchange import combined
from sess_lightning.callback.explainer import Explained, Explainer
from sess_lightning.callback.following import SampleFollowing
from sess_lightning.callback.forward_view import ForwardView, batch_row
from sess_lightning.callback.keys import ALARMS, PHOTOS, PHOTOS_PART, SECONDS, VALID_FRACTION, full_name, key_name
from sess_lightning.callback.loaders import ends_here, evaluation_loaders
from sess_lightning.callback.logged_value import log_value
from sess_lightning.callback.monitors import check_batches, check_values, monitors_of
from sess_lightning.callback.notable import NotablePart
from sess_lightning.callback.recording import RecordPart
from sess_lightning.callback.reporter import Settings, Shown
from sess_lightning.callback.run_text import sess_settings, settings_of
from sess_lightning.callback.sample_values import logged_intervals
from sess_lightning.callback.tracker import LoaderTracker, Measured
from sess_lightning.forwarding import model_logits
from sess_lightning.metrics.perturbation_metric import PerturbationMetric
from sess_lightning.probing import default_batch_size, probe
from sess_lightning.render import drawn_channels, normalization_misfit
from sess_lightning.samples import Samples
from sess_lightning.sess import SESS
from sess_lightning.sess.diagnosis import why_constant

_T = TypeVar("_T")
_CHECKED_IMAGES = 16  # for their normalisation: one may be all bright or all dark


class Part(NamedTuple):
    """What one process tells the others of one loader."""

    measured: Measured
    shown: Shown
    recorded: RecordPart
    seconds: float  # that its work took
    notable: NotablePart | None = None


class ValidationWork(SampleFollowing):
    """The work behind the hooks of `SESSCallback`, which holds the arguments and their meaning.

    The order in one validation: `_begin`, then for each batch `_capture` before the user's step and `_explain` after
    it, then `_finish`. `trainer.test` runs through the same four.
    """

    def _check_photos(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before training: does the model take a photo at the window, and has it outputs for the classes of all?

        Nothing where a sanity check has found it out, nor where the first validation batch tells the window.
        """
        photo = None if self._watch is None or self.sess.window_size is None else self._watch.untried()
        if self._watch is None or photo is None:
            return
        samples, batch = photo
        with self._probing(trainer, pl_module) as model:
            if self._view is not None:
                self._view.row = batch_row(batch, 0, len(samples))
            self._watch.check_outputs(self.sess, model, samples.images[0])

    def _explain(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch_idx: int, loader: int) -> None:
        """Explain the samples that are due at this batch, with the weights that the validation itself uses."""
        last = batch_idx + 1 >= evaluation_loaders(trainer)[loader].num_batches
        if loader in self._trackers:
            self._explain_due(trainer, pl_module, loader, self._trackers[loader].due(batch_idx, last))
        if PHOTOS in self._trackers and ends_here(evaluation_loaders(trainer), loader, batch_idx):
            self._explain_due(trainer, pl_module, PHOTOS, self._trackers[PHOTOS].due(0, True))

    def _explain_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loader: int, due: list[int]) -> None:
        tracker = self._trackers[loader]
        drawn = tracker.selection.share(self.num_images) if self.reporter.drawing else 0
        while due and not self._exchange.error:
            count = self._affordable(loader, len(due))
            if count == 0:
                return
            part, due = due[:count], due[count:]
            before = tracker.seconds
            with self._exchange.guarded(), tracker.timed(), self._probing(trainer, pl_module) as model:
                for numbers in self._together(part, self._sess_for(tracker), tracker.size):
                    if self._view is not None:
                        self._view.row = tracker.rows[numbers[0]]
                    second = max(0, drawn - tracker.explained)
                    self._explain_samples(tracker, model, pl_module.device, numbers, second)
                self._say_layer()
            tracker.pace.add(count, tracker.seconds - before)

    def _affordable(self, loader: int, count: int) -> int:
        """Returns how many of the next `count` samples of a loader there is time for.

        Loaders share `max_seconds`: each has an equal part of what those before it have left.
        """
        tracker = self._trackers[loader]
        if self.max_seconds is None:
            return count
        used = {number: one.seconds - one.pace.excess for number, one in self._trackers.items()}
        left = self.max_seconds * tracker.pace.aim - sum(used.values()) + used[loader]
        waiting = sum(number >= loader for number in used)
        return tracker.pace.part(count, left / waiting - used[loader])

    def _sess_for(self, tracker: LoaderTracker) -> SESS:
        """The algorithm for the samples of a loader, or for photos, whose window is that of the batches."""
        return self.sess if self._watch is None or tracker.photo_names is None else self._watch.windowed(self.sess)

    def _together(self, samples: list[_T], sess: SESS, size: Callable[[_T], Hashable]) -> list[list[_T]]:
        """Splits samples into such as can be explained at once: of one window, and with `forward_fn` of one batch."""
        if self._view is not None:
            return [[one] for one in samples]
        if sess.window_size is not None:
            return [samples]
        return [list(run) for _, run in groupby(samples, key=size)]

    def _explain_samples(
        self, tracker: LoaderTracker, model: nn.Module, device: torch.device, numbers: list[int], second: int
    ) -> None:
        samples = tracker.samples(numbers, device)
        given = self._sess_for(tracker)
        if self._watch is not None and tracker.photo_names is not None:
            self._watch.check_outputs(given, model, samples.images[0])

        found, squashed = self._explained(given, model, samples, second)
        # A copy, as a metric may need the images again and a model may write to its input.
        with self._cost.timed(METRICS):
            tracker.update(lambda images: model_logits(model, images.clone()), found, squashed, numbers)

    def _explained(self, given: SESS, model: nn.Module, samples: Samples, second: int) -> tuple[Explained, Tensor]:
        """The results of samples on the model's device, and the images squashed: see `Explainer`."""

        def work(batch_size: int) -> tuple[Explained, Tensor]:
            sess = copy(given)
            sess.batch_size = batch_size
            return Explainer(sess, self.compare_base, self.target, self._cost)(model, samples, second)

        images = list(samples.images)
        return self._limit.run(work, given.batch_size or default_batch_size(images[0].device, given.window_for(images)))

    def _finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Exchange what was measured, compute, draw and log it. Collective call.

        No rank can miss an exchange: all come here, what fails before is told in it, and whether there is a second one
        follows from the first alone.
        """
        several = len(evaluation_loaders(trainer)) > 1
        stale = f" `{self.prefix}/...` has no new values, so monitors skip it too." if self._logged else ""
        suffixes = {number: f"/dataloader_idx_{number}" if several else "" for number in sorted(self._trackers)}
        if PHOTOS in suffixes:
            suffixes[PHOTOS] = PHOTOS_PART if len(suffixes) > 1 else ""
            # Nothing is left, unless the last batch was not the one expected.
            self._explain_due(trainer, pl_module, PHOTOS, self._trackers[PHOTOS].due(0, True))
        first = trainer.state.fn == "fit" and not self._exchange.proven
        parts = self._exchange(lambda: self._parts(trainer.world_size), stale)
        if parts is not None and first:
            annotated = {n: {one[n][0].annotated for one in parts} for n in suffixes}  # the same everywhere
            monitors = monitors_of(trainer, self.prefix)
            self._exchange(lambda: check_batches(monitors, self.prefix, suffixes, annotated, several))
        if trainer.sanity_checking:
            self._trackers = {}
            return
        results = self._exchange(lambda: self._values(trainer, parts, suffixes), stale) if parts is not None else None
        told: dict[int, dict[str, float]] = {}
        logged: set[str] = set()
        waiting: set[str] = set()  # keys that may have a value once the network is right
        for number, suffix in suffixes.items():
            tracker = self._trackers[number]
            tracker.complete = True
            if parts is None or results is None:
                continue
            told[number] = combined([one[number] for one in results])
            self._followed[number] = tracker.selection.state([one[number][0].positions for one in parts])
            self.last_results[number] = tracker.found  # made in `_values`
            self.last_intervals[number] = tracker.intervals
            for name, value in told[number].items():
                key = full_name(name, self.prefix, suffix)
                log_value(trainer, pl_module, key, torch.tensor(value, device=trainer.strategy.root_device))
                logged.add(key)
            waiting |= {full_name(ALARMS.name, self.prefix, suffix)} if tracker.can_be_judged else set()
        # What was logged before and is not now would still be there, and monitors would take it for new.
        self._pause.renew(trainer, (self._logged | waiting) - logged)
        self._logged |= logged
        if results is not None:
            checked = (logged | waiting) if first else None
            self._exchange(lambda: self._conclude(trainer, pl_module, suffixes, told, checked))
        self._exchange.proven = self._exchange.proven or results is not None

    def _conclude(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, suffixes: Mapping[int, str],
        told: Mapping[int, Mapping[str, float]], checked: set[str] | None,
    ) -> None:  # fmt: skip
        """Warn of what there is to warn of, and record. Guarded: a warning may be an error, on one process alone.

        Args:
            trainer: of this validation.
            pl_module: that was validated.
            suffixes: by number of the loader.
            told: values by number of the loader and name of the key.
            checked: in the first validation of a fit, the keys that monitors may read.
        """
        for number, suffix in suffixes.items():
            tracker = self._trackers[number]
            self._close_pace(tracker, suffix)
            if not told[number].get(VALID_FRACTION.name):
                self._warn_of_constant_maps(trainer, pl_module, tracker)
            self.recorder.append(suffix, told[number], tracker.intervals, tracker.alarms)
            self._tell_alarms(trainer, suffix, tracker.alarms)
        if checked is not None:
            measured = map(key_name, self.metrics)
            check_values(monitors_of(trainer, self.prefix), self.prefix, checked, measured, self.alarm)
        self.recorder.report(trainer)
        self._tell_cost()

    def _parts(self, world_size: int) -> dict[int, Part]:
        """What this process tells the others, by loader."""
        parts = {}
        for number, tracker in self._trackers.items():
            with tracker.timed(), self._cost.timed(DRAWING):
                recorded = self.recorder.share(tracker)
            parts[number] = Part(tracker.measured(world_size), self.reporter.share(tracker), recorded, tracker.seconds)
        return parts

    def _values(
        self, trainer: pl.Trainer, parts: Sequence[Mapping[int, Part]], suffixes: Mapping[int, str]
    ) -> dict[int, dict[str, float]]:
        """Compute and draw what all processes have measured; returns the values by loader and name of the key."""
        self.recorder.receive(self._trackers, suffixes, [{n: part[2] for n, part in one.items()} for one in parts])
        found = {}
        for number, suffix in suffixes.items():
            tracker = self._trackers[number]
            with tracker.timed():
                values = tracker.compute(trainer.strategy, [one[number][0] for one in parts])
                self._note(tracker.unfit.items())
                self._check_normalization(tracker)
                tracker.shown = [one[number].shown for one in parts]
                tracker.process_seconds = [one[number].seconds for one in parts]
                _ = tracker.found  # made here, where a failure is one on all
                self._draw(trainer, tracker, suffix, combined([values, {SECONDS.name: 0.0}]))
                with self._cost.timed(DRAWING):
                    self.recorder.prepare(trainer, tracker, suffix, lambda: self._settings(tracker))  # noqa: B023
                values |= logged_intervals(tracker.intervals) if self.intervals else {}
            found[number] = {**values, SECONDS.name: tracker.seconds}  # with the drawing
        return found

    def _close_pace(self, tracker: LoaderTracker, suffix: str) -> None:
        """Settle how many samples the validations to come explain, and say where `max_seconds` leaves some out."""
        if self.max_seconds is None:
            return
        first, lowered = tracker.pace.limit is None, tracker.pace.close()
        before = len(tracker.places) if first else lowered
        if before is not None and tracker.explained < before:
            why = "have time for" if first else "took longer than before, and from now on have time for"
            rank_zero_warn(
                f"SESSCallback keeps to max_seconds={self.max_seconds}: validations{suffix and f' of {suffix[1:]}'} "
                f"{why} {tracker.explained} of {before} samples, always the same; see `{self.prefix}/num_samples`."
            )

    def _tell_alarms(self, trainer: pl.Trainer, suffix: str, found: Sequence[Alarm]) -> None:
        """Once for each class: the numbers of a sentence change, and later ones are in the viewer."""
        for alarm in found:
            text = f"SESSCallback, epoch {trainer.current_epoch}: {alarm.text}"
            self._warn_once(f"alarm {suffix} {alarm.key}", text)

    def _tell_cost(self) -> None:
        """Once in a fit, after its first full validation."""
        steps = [one.steps for one in self.metrics.values() if isinstance(one, PerturbationMetric)]
        seconds = sum(tracker.seconds for tracker in self._trackers.values())
        told = self._cost.message(seconds, self.num_samples, max(steps, default=None))
        if told:
            rank_zero_info(f"SESSCallback {told}")

    def _warn_of_constant_maps(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, tracker: LoaderTracker
    ) -> None:
        """Warn once that no map is valid, with the cause where this process has a sample to find it by."""
        if "no valid map" in self._said:
            return
        if not tracker.explained:
            self._warn_once(
                "no valid map",
                "SESSCallback has no valid saliency map to measure in this validation: no sample of this process was "
                "explained.",
            )
            return
        try:
            with self._probing(trainer, pl_module) as model:
                if self._view is not None:
                    self._view.row = tracker.rows[0]
                images = [tracker.images[0].to(pl_module.device)]
                reason = why_constant(
                    self._sess_for(tracker), model, images, tracker.found.targets[:1].to(pl_module.device)
                )
        except Exception as error:
            reason = f"The cause could not be found: {error}"
        self._warn_once(
            "no valid map",
            "SESSCallback got only constant saliency maps, or such with NaN, in this validation. They count as no "
            f"information: a random order for insertion and deletion, a miss for pointing. {reason}".rstrip(),
        )

    def _draw(self, trainer: pl.Trainer, tracker: LoaderTracker, suffix: str, values: Iterable[str]) -> None:
        """Send pictures, text and charts to the loggers. After a first good validation a failure only warns."""
        try:
            with self._cost.timed(DRAWING):
                self.reporter.report(trainer, tracker, suffix, values, lambda: self._settings(tracker))
            for complaint in self.reporter.complaints():
                self._warn_once(complaint, complaint)
        except Exception:
            if self._exchange.raises:
                raise
            rank_zero_warn(f"SESSCallback failed and does not draw this validation:\n{traceback.format_exc()}")

    def _settings(self, tracker: LoaderTracker) -> Settings:
        mine = settings_of(self, leave_out=("sess", "photos", "class_names"))
        mine |= {"photos": self._watch.photos.about} if self._watch is not None else {}
        mine |= {"class_names": str(tracker.class_names)}
        return sess_settings(self._sess_for(tracker), tracker.first_images(1)), mine

    # ------------------------------------------------------------------------------------------------- around the model

    @contextmanager
    def _probing(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[nn.Module]:
        """Run the model under a probe, in the trainer's precision, with `logits_fn` applied to its output.

        Yields:
            The module to explain: the user's own, or a view of it that calls `forward_fn`.
        """
        model: nn.Module = pl_module
        if self.forward_fn is not None:
            model = self._view = self._view or ForwardView(pl_module, self.forward_fn)
        hook = None
        if self.logits_fn is not None:
            logits_fn = self.logits_fn
            hook = model.register_forward_hook(lambda module, args, output: logits_fn(output))
        try:
            with probe(pl_module, trainer.precision_plugin.forward_context()):
                yield model
        finally:
            if hook is not None:
                hook.remove()

    def _say_layer(self) -> None:
        layer = getattr(self.sess.method, "resolved_layer", None)
        if layer and layer not in self._said:
            self._said.add(layer)
            rank_zero_info(f"SESSCallback explains layer '{layer}' by {type(self.sess.method).__name__}.")

    def _check_normalization(self, tracker: LoaderTracker) -> None:
        """Once for a loader: have its first images been normalised by `mean` and `std`?"""
        if tracker.checked or not tracker.explained:
            return
        tracker.checked = True
        images = tracker.first_images(_CHECKED_IMAGES)
        misfit = normalization_misfit(*drawn_channels(images, self.mean, self.std, self.bands))
        if misfit:
            bands = self.bands is None and images[0].shape[0] not in (1, 3)
            hint = " bands= says which channels are drawn as red, green and blue." if bands else ""
            self._warn_once("normalization", f"SESSCallback: {misfit}{hint}")
