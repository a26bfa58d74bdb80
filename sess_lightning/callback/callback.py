"""`SESSCallback`: what a classifier looks at, watched during validation and logged. Schedule, samples, hooks and keys.

The maths is in `sess/` and `metrics/`; `tracker.py` gathers what one loader gives, `reporter.py` shows it.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torchmetrics import Metric

from sess_lightning.callback.explainer import Explained, Explainer, TargetRule, in_smaller_batches
from sess_lightning.callback.hits import HitRule
from sess_lightning.callback.keys import build_metrics
from sess_lightning.callback.reporter import Reporter, Settings
from sess_lightning.callback.run_text import sess_settings, settings_of
from sess_lightning.callback.sample_rows import DisplayOptions
from sess_lightning.callback.selection import SampleSelection, evaluation_loaders, loader_length
from sess_lightning.callback.tracker import LoaderTracker
from sess_lightning.callback.trainer_checks import monitor_warnings, refuse_sharding
from sess_lightning.checks import check_choice
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.logits import read_logits
from sess_lightning.probing import probe
from sess_lightning.render import normalization_misfit
from sess_lightning.samples import Samples, batch_to_samples
from sess_lightning.sess import SESS


class SESSCallback(Callback):
    """Shows in TensorBoard where the model looks and logs insertion, deletion and pointing accuracy.

    It follows the same few validation samples through training, explains them on the trainer's own device, and leaves
    the training bit-identical. `trainer.validate` and `trainer.test` log the same keys.

    **Logged**, every validation, for SESS and (with `base_` before the name) for its base method alone:

    | key | meaning | better | absent when |
    |---|---|---|---|
    | `sess/insertion_auc` | class probability while the most salient pixels are inserted | higher | no valid map |
    | `sess/deletion_auc` | class probability while the most salient pixels are deleted | lower | no valid map |
    | `sess/overall` | insertion minus deletion | higher | one of them is not measured |
    | `sess/pointing_acc` | share of samples whose peak hits an object of the class | higher | no boxes or masks |
    | `sess/seconds` | time this callback took in this validation | lower | never |
    | `sess/num_samples` | samples explained, over all processes | | never |
    | `sess/valid_fraction` | share of them whose map was neither constant nor NaN | higher | no sample |

    With several validation loaders `/dataloader_idx_i` follows each key and each tag.

    **Shown**, at `trainer.global_step`, with samples of all processes, by every logger that can (images: TensorBoard,
    W&B, MLflow, Comet; text and charts: TensorBoard); nothing with `num_images=0`:

    | tag | what | when |
    |---|---|---|
    | `sess/maps` | a row per sample: image, base map, SESS map; if misclassified, SESS of the prediction | validation |
    | `sess/curves` | mean insertion and deletion curves | validation |
    | `sess/pointing_per_class` | pointing accuracy by class, if there are two | validation |
    | `sess/evolution` | filmstrip over the epochs; PNG and GIF of it in the log folder or `save_dir` | end of `fit` |
    | `sess/run` | settings and samples, as text | first validation |
    | custom scalars | each metric with its base, insertion against deletion | first validation |

    Args:
        sess: the algorithm; `None` means `SESS(num_scales=4, window_size=None)`: 13 patches for a square image.
        num_samples: samples followed, over all processes. 32, so that a validation costs seconds.
        num_images: how many of them are drawn; 0 leaves only the numbers.
        indices: positions in the validation set to follow, instead of a choice by `seed`.
        every_n_epochs: in `fit`, draw images every so many epochs only. Metrics come every validation, as a monitor
            would otherwise compare a stale value again.
        metrics: names out of `"insertion"`, `"deletion"`, `"pointing"`, or a mapping from names to metrics, e.g.
            `{"pointing": PointingGame(tolerance=0)}`. A metric of your own is logged under its own name; it is offered
            `predict, images, saliency, targets, objects, previous` and takes those that its `update` knows.
        target: `"label"` (the predicted class where there is none), `"predicted"`, or a function
            `(samples, logits) -> targets`.
        compare_base: also explain by the base method alone.
        batch_to_samples: function from a batch to `sess_lightning.samples.Samples`, for batches of an unusual form.
        logits_fn: function from the model's output to logits `(N, K)`.
        dataloaders: numbers of the validation loaders to watch; `None` means all.
        mean: per-channel mean that the images were normalised with, for drawing only.
        std: per-channel standard deviation, likewise.
        max_seconds: in each validation: the first sample shows what one costs, and only as many are explained as fit;
            `sess/num_samples` says how many. `None` explains all.
        on_error: `"warn"`: a failure after the first good validation warns and skips that validation; `"raise"` always
            raises.
        prefix: first part of every key.
        seed: of the choice of samples.
        save_dir: folder that also gets every grid as PNG and its maps as `.npz`, and the PNG and GIF of
            `sess/evolution`.

    Attributes:
        last_result: the last validation's `Explained` of the first loader watched, on the CPU.
        last_results: the same for every loader watched.

    Raises:
        ValueError: if an argument is out of its range.
        MisconfigurationException: in `setup`, for a strategy that shards the model's weights.

    Example::

        trainer = Trainer(callbacks=[SESSCallback(), ModelCheckpoint(monitor="sess/pointing_acc", mode="max")])
    """

    def __init__(
        self,
        sess: SESS | None = None,
        num_samples: int = 32,
        num_images: int = 8,
        indices: Sequence[int] | None = None,
        every_n_epochs: int = 1,
        metrics: Sequence[str] | Mapping[str, Metric] = ("insertion", "deletion", "pointing"),
        target: str | TargetRule = "label",
        compare_base: bool = True,
        batch_to_samples: Callable[[Any], Samples] | None = None,
        logits_fn: Callable[[Any], Tensor] | None = None,
        dataloaders: Sequence[int] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        max_seconds: float | None = None,
        on_error: str = "warn",
        prefix: str = "sess",
        seed: int = 0,
        save_dir: str | None = None,
    ) -> None:
        for name, value, least in (
            ("num_samples", num_samples, 1), ("num_images", num_images, 0), ("every_n_epochs", every_n_epochs, 1)
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"Expected argument `{name}` to be at least {least}, but got {value!r}.")
        check_choice("on_error", on_error, ("warn", "raise"))
        if not callable(target):
            check_choice("target", target, ("label", "predicted"))
        self.sess = SESS(num_scales=4, window_size=None) if sess is None else sess
        self.num_samples, self.num_images, self.indices = num_samples, num_images, indices
        self.every_n_epochs = every_n_epochs
        self.metrics = build_metrics(metrics)
        self.target, self.compare_base = target, compare_base
        self.batch_to_samples = batch_to_samples
        self.logits_fn = logits_fn
        self.dataloaders = dataloaders
        self.mean, self.std = tuple(mean), tuple(std)
        self.max_seconds = max_seconds
        self.on_error = on_error
        self.prefix = prefix
        self.seed = seed
        self.save_dir = save_dir
        self.last_results: dict[int, Explained] = {}
        self._trackers: dict[int, LoaderTracker] = {}
        self.reporter = self._new_reporter()
        self._resumed: dict[int, dict[str, Any]] = {}
        self._proven = False  # one validation went well: later failures warn
        self._failed = False
        self._halved = False  # the batch size, after the device ran out of memory
        self._said: set[str] = set()

    @property
    def last_result(self) -> Explained | None:
        """What the last validation found on the first loader watched, on the CPU."""
        return self.last_results[min(self.last_results)] if self.last_results else None

    @property
    def state_key(self) -> str:
        """Tells two instances with different prefixes apart."""
        return self._generate_state_key(prefix=self.prefix)

    # ---------------------------------------------------------------------------------------------------- trainer hooks

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check what depends on the trainer; the samples are chosen anew for every `fit`, `validate` and `test`."""
        refuse_sharding(trainer.strategy)
        self._trackers = {}
        self.reporter = self._new_reporter()

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say which monitors would never see a value of this callback."""
        for warning in monitor_warnings(trainer, self.prefix):
            rank_zero_warn(warning)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the pictures of the evolution over this `fit`; its loggers are still open."""
        with self._guarded():
            self.reporter.close(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the evolution as far as it goes; the exception that ends the run is the one that is raised."""
        try:
            self.reporter.close(trainer)
        except Exception:
            rank_zero_warn(f"SESSCallback could not write `sess_evolution`:\n{traceback.format_exc()}")

    def state_dict(self) -> dict[str, Any]:
        """Which samples are followed, so that a resumed training follows the same; never their pixels."""
        return {"positions": self._resumed | {n: tracker.selection.state() for n, tracker in self._trackers.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Follow the samples of the training that is resumed."""
        self._resumed = dict(state_dict["positions"])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self._begin(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self._begin(trainer)

    def on_validation_batch_start(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._capture(trainer, batch, batch_idx, dataloader_idx)

    def on_test_batch_start(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._capture(trainer, batch, batch_idx, dataloader_idx)

    def on_validation_batch_end(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self._explain(trainer, pl_module, batch_idx, dataloader_idx)

    def on_test_batch_end(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self._explain(trainer, pl_module, batch_idx, dataloader_idx)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self._finish(trainer, pl_module)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self._finish(trainer, pl_module)

    # --------------------------------------------------------------------------------------------------- one validation

    def _begin(self, trainer: pl.Trainer) -> None:
        self._failed = False
        if trainer.sanity_checking:
            self._trackers = {}  # chosen from the first validation; the sanity check leaves nothing behind
        for loader in range(len(evaluation_loaders(trainer)[0])):
            if self.dataloaders is not None and loader not in self.dataloaders:
                continue
            if loader in self._trackers:
                self._trackers[loader].begin()
            else:  # on every process, also on one that will see no batch: all take part when values are computed
                self._trackers[loader] = self._new_tracker(trainer, loader)

    def _capture(self, trainer: pl.Trainer, batch: Any, batch_idx: int, loader: int) -> None:
        """Clone the chosen samples before `validation_step` can change its batch."""
        tracker = self._trackers.get(loader)
        if tracker is None or tracker.complete:
            return
        with self._guarded(), tracker.timed():
            samples = (self.batch_to_samples or batch_to_samples)(batch)
            picked = tracker.selection.pick(len(samples))
            if picked:
                tracker.follow(samples.select(picked), batch_idx, picked)

    def _new_tracker(self, trainer: pl.Trainer, loader: int) -> LoaderTracker:
        loaders, num_batches = evaluation_loaders(trainer)
        selection = SampleSelection(
            num_samples=1 if trainer.sanity_checking else self.num_samples,
            indices=None if trainer.sanity_checking else self.indices,
            seed=self.seed,
            length=None if trainer.sanity_checking else loader_length(loaders[loader], num_batches[loader]),
            rank=0 if trainer.sanity_checking else trainer.global_rank,
            world_size=1 if trainer.sanity_checking else trainer.world_size,
        )
        if loader in self._resumed and not (trainer.sanity_checking or trainer.testing) and self.indices is None:
            selection.restore(self._resumed[loader])
        return LoaderTracker(selection, self.metrics, self.compare_base, trainer.global_rank)

    def _explain(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch_idx: int, loader: int) -> None:
        """Explain what is due at this batch, with the weights that the validation itself uses."""
        tracker = self._trackers.get(loader)
        if tracker is None or self._failed:
            return
        last = batch_idx + 1 >= evaluation_loaders(trainer)[1][loader]
        due = tracker.due(batch_idx, last)
        while due and not self._failed:
            count = tracker.affordable(len(due), self.max_seconds)
            if count < len(due) and self.max_seconds is not None and len(tracker.found):
                self._warn_once(
                    f"SESSCallback keeps to max_seconds={self.max_seconds} and explains fewer samples; see "
                    f"`{self.prefix}/num_samples`."
                )
            if count == 0:
                return
            part, due = due[:count], due[count:]
            with self._guarded(), tracker.timed(), self._probing(trainer, pl_module):
                drawn = tracker.selection.share(self.num_images) if self.reporter.draws(trainer) else 0
                self._explain_samples(tracker, pl_module, part, second=max(0, drawn - len(tracker.found)))
                self._say_once(trainer, tracker.found)

    def _explain_samples(
        self, tracker: LoaderTracker, pl_module: pl.LightningModule, numbers: list[int], second: int
    ) -> None:
        samples = tracker.samples.pick(numbers, pl_module.device)
        try:
            found, squashed = Explainer(self.sess, self.compare_base, self.target)(pl_module, samples, second)
        except torch.OutOfMemoryError:
            if self._halved:
                raise
            self._halved = True
            self.sess = in_smaller_batches(self.sess, list(samples.images), pl_module.device)
            rank_zero_warn(
                f"SESSCallback ran out of memory and goes on with SESS(batch_size={self.sess.batch_size}). Pass a "
                "smaller batch_size from the start, or fewer num_samples."
            )
            torch.cuda.empty_cache()
            found, squashed = Explainer(self.sess, self.compare_base, self.target)(pl_module, samples, second)
        tracker.update(lambda images: read_logits(pl_module(images)), found, squashed, numbers)

    def _finish(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            self._trackers = {}
            return
        several = len(evaluation_loaders(trainer)[0]) > 1
        failures = trainer.strategy.reduce(
            torch.tensor(float(self._failed), device=trainer.strategy.root_device), reduce_op="sum"
        )
        for number, tracker in sorted(self._trackers.items()):
            suffix = f"/dataloader_idx_{number}" if several else ""
            tracker.complete = True
            values: dict[str, Tensor] = {}
            if not failures:
                with self._guarded():  # what fails here fails on every process: all compute from the same states
                    values = tracker.compute(trainer.strategy)
            if not values:
                continue
            self.last_results[number] = tracker.found
            if not values.get("valid_fraction"):
                self._warn_once(
                    "SESSCallback has no valid saliency map to measure in this validation; its metrics are not logged."
                )
            self._draw(trainer, tracker, suffix, values)
            values["seconds"] = torch.full_like(values["seconds"], tracker.seconds)  # with the drawing
            for name, value in values.items():
                pl_module.log(f"{self.prefix}/{name}{suffix}", value, sync_dist=True, add_dataloader_idx=False)
        self._proven = self._proven or not failures

    def _draw(self, trainer: pl.Trainer, tracker: LoaderTracker, suffix: str, values: Iterable[str]) -> None:
        """Tell the loggers more than numbers, about samples of all processes."""

        def settings() -> Settings:
            return sess_settings(self.sess, list(tracker.samples.images)), settings_of(self, leave_out=("sess",))

        with self._guarded(), tracker.timed():
            self.reporter.report(trainer, tracker, suffix, values, settings)
            for complaint in self.reporter.complaints():
                self._warn_once(complaint)

    def _new_reporter(self) -> Reporter:
        display = DisplayOptions(self.mean, self.std, HitRule(self.metrics).tolerance)
        return Reporter(self.prefix, self.num_images, self.every_n_epochs, display, self.save_dir)

    # ------------------------------------------------------------------------------------------------- around the model

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """A monitor must not kill a run that it has watched well before."""
        try:
            yield
        except Exception:
            if not self._proven or self.on_error == "raise":
                raise
            self._failed = True
            rank_zero_warn(f"SESSCallback failed and skips this validation:\n{traceback.format_exc()}")

    @contextmanager
    def _probing(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Iterator[None]:
        """The model under a probe, in the trainer's precision, its output turned into logits."""
        hook = None
        if self.logits_fn is not None:
            logits_fn = self.logits_fn
            hook = pl_module.register_forward_hook(lambda module, args, output: logits_fn(output))
        try:
            with probe(pl_module, trainer.precision_plugin.forward_context()):
                yield
        finally:
            if hook is not None:
                hook.remove()

    def _say_once(self, trainer: pl.Trainer, found: Explained) -> None:
        layer = getattr(self.sess.method, "resolved_layer", None)
        if layer and layer not in self._said:
            self._said.add(layer)
            rank_zero_info(f"SESSCallback explains layer '{layer}' by {type(self.sess.method).__name__}.")
        misfit = normalization_misfit(found.images, self.mean, self.std)
        if misfit:
            self._warn_once(f"SESSCallback: {misfit}")

    def _warn_once(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            rank_zero_warn(message)
