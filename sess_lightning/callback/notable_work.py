"""The work of `SESSCallback(follow=)`: listen to every step, explain the notable samples, hand them to who shows them.

It comes behind all that the numbers are made of, and adds nothing to it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import copy
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from torch import nn

from sess_lightning.callback.explainer import Explained
from sess_lightning.callback.forward_view import ForwardView, batch_row
from sess_lightning.callback.keys import SECONDS
from sess_lightning.callback.loaders import ends_here, evaluation_loaders
from sess_lightning.callback.notable import (
    NEW_ERRORS,
    RANDOM,
    NotableSample,
    NotableSamples,
    Outcomes,
    Step,
    fingerprints,
    merged,
    outcomes,
)
from sess_lightning.callback.step_logits import StepListener, logits_sources
from sess_lightning.callback.tracker import LoaderTracker
from sess_lightning.callback.validation import Part, ValidationWork
from sess_lightning.pixels import resize
from sess_lightning.probing import probe
from sess_lightning.samples import Samples, batch_to_samples

_WAY_OUT = (
    "Call the model as a module in the step, `self(images)` or `self.model(images)`, outside of torch.compile; where "
    "that call gives no logits (N, K), pass logits_fn=, or forward_fn= for the call by which it does. Until then only "
    "the random samples are shown."
)


class _Heard(NamedTuple):
    """A batch whose step is listened to: as it came, and copies of what is read of it later."""

    batch: Any
    samples: Samples
    prints: list[int]


class NotableWork(ValidationWork):
    """The part of `SESSCallback` that finds and explains the worst and the newly wrong samples of each validation."""

    follow: tuple[str, ...]

    def _start_stage(self, world_size: int) -> None:
        super()._start_stage(world_size)
        self._listener: StepListener[Outcomes] = StepListener(self.logits_fn)
        self._heard: _Heard | None = None
        self._notable: dict[int, NotableSamples] = {}

    @property
    def _kinds(self) -> list[str]:
        return [kind for kind in self.follow if kind != RANDOM and self.num_images]

    @property
    def _shows(self) -> bool:
        """Whether anything of this validation is shown; the same on all processes."""
        return self.reporter.drawing or self.recorder.on

    def _begin_trackers(self, trainer: pl.Trainer) -> None:
        super()._begin_trackers(trainer)
        for notable in self._notable.values():
            notable.begin()

    # ------------------------------------------------------------------------------------------------- around each step

    def _listen(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, loader: int) -> None:
        """Before a step: copy what it may change, and set the hooks."""
        self._stop_listening()
        wanted = self._shows or NEW_ERRORS in self._kinds or trainer.sanity_checking
        if not self._kinds or not wanted or loader not in self._trackers or self._exchange.error:
            return
        notable = self._notable.setdefault(loader, NotableSamples(self._kinds, self.num_images, trainer.global_rank))
        with self._exchange.guarded(), notable.timed():
            samples = (self.batch_to_samples or batch_to_samples)(batch)
            if self._listener.sources is None and len(samples):
                self._find_sources(trainer, pl_module, batch, samples)
            if samples.labels is None:
                self._cannot_follow("the batches hold no labels, which a loss needs. batch_to_samples= can give them.")
            elif self._listener.sources and not trainer.sanity_checking:
                self._heard = self._kept(batch, samples)
                labels, activation = samples.labels.clone(), self.sess.activation
                self._listener.listen(
                    pl_module, samples.images, len(samples), lambda logits: outcomes(logits, labels, activation),
                    redirected=trainer.strategy.model is not pl_module,
                )  # fmt: skip

    def _find_sources(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, samples: Samples) -> None:
        """Once in a stage: where are the logits that the callback explains?"""
        image = samples.images[0][None].detach()
        model: nn.Module = pl_module
        if self.forward_fn is not None:
            model = self._view = self._view or ForwardView(pl_module, self.forward_fn)
            self._view.row = batch_row(batch, 0, len(samples))
        step = pl_module.test_step if trainer.testing else pl_module.validation_step
        reason = "no module that it calls from Python gives the logits that are explained"
        self._listener.sources = []
        try:
            with probe(pl_module, trainer.precision_plugin.forward_context()):
                own = resize(image.clone(), self.sess.window_for([image[0]]))
                self._listener.sources = logits_sources(pl_module, lambda: model(own), self.logits_fn, step)
        except Exception as error:  # explaining will raise it too, and tell what to do
            reason = f"{type(error).__name__}: {error}"
        if not self._listener.sources:
            self._cannot_follow(f"the logits of {step.__name__} cannot be read by a hook: {reason}. {_WAY_OUT}")

    def _kept(self, batch: Any, samples: Samples) -> _Heard:
        kept = copy(samples)
        if self._shows:
            images = samples.images
            kept.images = images.clone() if isinstance(images, torch.Tensor) else [image.clone() for image in images]
        return _Heard(batch, kept, fingerprints(samples.images) if NEW_ERRORS in self._kinds else [])

    def _stop_listening(self) -> None:
        self._heard = None
        self._listener.close()

    def _let_go(self) -> None:
        """Keep no module and no sample."""
        self._stop_listening()
        self._listener.sources, self._notable = None, {}

    def _take(self, trainer: pl.Trainer, batch_idx: int, loader: int) -> None:
        """After a step: remove the hooks before anything is explained, and take what they heard."""
        heard, found = self._heard, self._listener.close()
        self._heard = None
        if heard is None:
            return
        if found is None:
            step = "test_step" if trainer.testing else "validation_step"
            self._cannot_follow(f"{step} called no module that gives a row of logits for each image. {_WAY_OUT}")
            return
        count, batch = len(heard.samples), heard.batch

        def row(position: int) -> Any:
            return None if self.forward_fn is None else batch_row(batch, position, count)

        notable = self._notable[loader]
        with self._exchange.guarded(), notable.timed():
            notable.add(Step(batch_idx, heard.samples, found, heard.prints, row), keep=self._shows)

    def _cannot_follow(self, why: str) -> None:
        kinds = " and ".join(map(repr, self._kinds))
        with self._exchange.guarded():  # a warning may be an error, on rank 0 alone
            self._warn_once("follow", f"SESSCallback cannot follow {kinds}: {why}")

    # ------------------------------------------------------------------------------------------- at the end of them all

    def _explain(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch_idx: int, loader: int) -> None:
        self._take(trainer, batch_idx, loader)
        super()._explain(trainer, pl_module, batch_idx, loader)
        if ends_here(evaluation_loaders(trainer), loader, batch_idx) and self._is_known_end(trainer, loader):
            self._explain_notable(trainer, pl_module)

    def _is_known_end(self, trainer: pl.Trainer, loader: int) -> bool:
        return evaluation_loaders(trainer)[loader].num_batches != float("inf")

    def _explain_notable(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Explain them behind all samples that are measured, in the time that those have left."""
        for loader, notable in self._notable.items():
            if notable.unknown:
                self._cannot_follow(
                    "no image of this validation came in the one before, so nothing is known to be newly wrong. Does "
                    "the validation change its images at random, or take others each time?"
                )
            waiting, longest = notable.waiting(), 0.0
            while waiting and not self._exchange.error and self._seconds_left() > longest:
                part = waiting[: 1 if self.max_seconds is not None else None]
                waiting, start = waiting[len(part) :], time.perf_counter()
                with self._exchange.guarded(), notable.timed(), self._probing(trainer, pl_module) as model:
                    for run in self._together(part, self.sess, lambda one: one.samples.images[0].shape):
                        self._explain_run(self._trackers[loader], notable, model, pl_module.device, run)
                longest = max(longest, time.perf_counter() - start)

    def _seconds_left(self) -> float:
        if self.max_seconds is None:
            return float("inf")
        measured = sum(one.seconds - one.pace.excess for one in self._trackers.values())
        return self.max_seconds - measured - sum(one.seconds for one in self._notable.values())

    def _explain_run(
        self, tracker: LoaderTracker, notable: NotableSamples, model: nn.Module, device: torch.device,
        run: list[NotableSample],
    ) -> None:  # fmt: skip
        if self._view is not None:
            self._view.row = run[0].row
        samples: Samples = reduce(add, [one.samples for one in run])
        found, _ = self._explained(self.sess, model, samples.pick(range(len(run)), device), len(run))
        on_host = Explained.joined([found])
        on_host.places = [one.place for one in run]
        tracker.hit_rule.judge(on_host)
        for i, one in enumerate(run):
            notable.explained[one.place] = on_host.part(i, i + 1)

    def _finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop_listening()
        # Nothing is left, unless the last batch was not the one expected.
        self._explain_notable(trainer, pl_module)
        super()._finish(trainer, pl_module)
        if not self._exchange.error:
            for notable in self._notable.values():
                notable.end()

    def _parts(self, world_size: int) -> dict[int, Part]:
        parts = super()._parts(world_size)
        shared = {number: one.share() for number, one in self._notable.items()}
        return {number: part._replace(notable=shared.get(number)) for number, part in parts.items()}

    def _values(
        self, trainer: pl.Trainer, parts: Sequence[Mapping[int, Part]], suffixes: Mapping[int, str]
    ) -> dict[int, dict[str, float]]:
        for number in suffixes if trainer.is_global_zero and self._shows else ():
            shared = [one[number].notable for one in parts]
            given = [one for one in shared if one is not None]
            self._trackers[number].notable = merged(given, self.num_images) if given else None
        values = super()._values(trainer, parts, suffixes)
        for number, notable in self._notable.items():
            values[number][SECONDS.name] += notable.seconds
        return values
