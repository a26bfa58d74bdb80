"""`SESSCallback`: saliency maps and metrics of a classifier in every validation. Arguments and hooks.

The work behind the hooks is in `following.py` and `validation.py`; `tracker.py` collects the results of one loader,
`reporter.py` sends them to the loggers.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import Metric

from sess_lightning.callback.chosen_metrics import build_metrics, with_standing_metrics
from sess_lightning.callback.class_name_search import given_class_names
from sess_lightning.callback.explainer import Explained, TargetRule, on_layer
from sess_lightning.callback.forward_view import ForwardFn
from sess_lightning.callback.keys import EVOLUTION
from sess_lightning.callback.monitors import check_names, monitors_of, possible_intervals, possible_names
from sess_lightning.callback.notable import checked_follow
from sess_lightning.callback.notable_work import NotableWork
from sess_lightning.callback.sample_checks import checked_bands
from sess_lightning.callback.sample_groups import checked_key
from sess_lightning.callback.trainer_checks import monitor_warnings, refuse_empty_loaders, refuse_sharding
from sess_lightning.callback.watched_photos import PhotoArgument
from sess_lightning.checks import check_choice
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.layers import get_layer
from sess_lightning.logits import Activation
from sess_lightning.samples import Samples
from sess_lightning.sess import SESS


class SESSCallback(NotableWork):
    """Draws saliency maps to TensorBoard and logs insertion, deletion and pointing accuracy during validation.

    The same few validation samples are explained in every validation, on the trainer's own device. Training with and
    without the callback is bit-identical. `trainer.validate` and `trainer.test` log the same keys.

    **Logged**, every validation, for SESS and, with `base_` before the name, for its base method alone (but for the
    last six, which are not per method):

    | key | meaning | better | absent when |
    |---|---|---|---|
    | `sess/insertion_auc` | mean class probability, most salient pixels inserted first | higher | no sample |
    | `sess/deletion_auc` | mean class probability, most salient pixels deleted first | lower | no sample |
    | `sess/overall` | insertion minus deletion | higher | one of them is not measured |
    | `sess/pointing_acc` | share of samples whose peak hits an object of the class | higher | no object of the class |
    | `sess/srg` | least salient pixels deleted first minus most salient first | higher | not in `metrics`; no sample |
    | `sess/drift` | 1 - cosine similarity of each map to that of the validation before | | first validation |
    | `sess/object_reliance` | class probability lost without its objects | | no object; `alarm=False` |
    | `sess/background_reliance` | class probability lost without all the rest | | no object; `alarm=False` |
    | `sess/alarms` | classes told by something else than their objects | lower | fewer than 5 to judge; `alarm=False` |
    | `sess/seconds` | time the callback took in this validation | lower | never |
    | `sess/num_samples` | samples explained, over all processes | | never |
    | `sess/valid_fraction` | share of them whose map was neither constant nor NaN | higher | no sample |

    A map that is constant or NaN counts as no information: a random order of pixels for insertion and deletion, a miss
    for pointing. With several validation loaders `/dataloader_idx_i` follows each key and each tag. With `photos=` the
    keys are theirs; where batches are watched as well, those of the photos begin with `sess/photos/`.

    **Shown**, at `trainer.global_step`, with samples of all processes, by every logger that can (images: TensorBoard,
    W&B, MLflow, Comet, DVCLive, Aim, SwanLab and all with the same `log_image`; text and charts: TensorBoard); nothing
    with `num_images=0`:

    | tag | what | when |
    |---|---|---|
    | `sess/maps` | a row per sample: image, base map, SESS map; if misclassified, SESS of the prediction | validation |
    | `sess/worst` | with `follow`: samples with the highest loss of all, as in `sess/maps` | validation |
    | `sess/new_errors` | with `follow`: samples that were right one validation before, as in `sess/maps` | validation |
    | `sess/curves` | mean insertion and deletion curves | validation |
    | `sess/pointing_per_class` | pointing accuracy by class, if there are two | validation |
    | `sess/evolution` | filmstrip over the epochs; PNG and GIF of it in the log folder or `save_dir` | end of `fit` |
    | `sess/run` | settings and samples, as text | first validation |
    | `sess/intervals` | base, SESS and their difference with 95 % intervals over the samples, as text | validation |
    | `sess/alarms` | what the network looks at instead of objects, as text | where it does |
    | custom scalars | each metric with its base, insertion against deletion | first validation |

    Args:
        sess: the algorithm; `None` means `SESS(num_scales=4, window_size=None)`: 13 patches for a square image.
        num_samples: samples followed, over all processes. 32, so that a validation costs seconds.
        num_images: how many of them are drawn; 0 leaves only the numbers.
        indices: positions in the validation set to follow, instead of a choice by `seed`.
        every_n_epochs: in `fit`, draw images in the first validation and in every so many-th after it only: those of
            every so many epochs where each epoch has one validation, as by default. Metrics come every validation, as a
            monitor would otherwise compare a stale value again.
        metrics: names out of `"insertion"`, `"deletion"`, `"pointing"`, `"srg"`, or a mapping from names to metrics:
            `{"pointing": PointingGame(tolerance=0)}`. A metric of your own is logged under its own name; it is offered
            `predict, images, saliency, targets, objects, previous, valid` and takes those that its `update` knows;
            `previous` is a list of the samples' maps of the last validation, `None` for those that have none, or `None`
            if none of them has one; `valid` `(B,)` is False for maps that are constant or not finite. Its value is one
            number, or a dict of such. Those of perturbed images by name use the activation of `sess`.
        target: `"label"` (the predicted class where there is none), `"predicted"`, or a function
            `(samples, logits) -> targets`.
        compare_base: also explain by the base method alone.
        batch_to_samples: function from a batch to `sess_lightning.samples.Samples`, for batches of an unusual form.
        logits_fn: function from the model's output to logits `(N, K)`.
        forward_fn: function `(module, images, batch) -> output`, for models that are not called with images alone.
            `images` `(N, C, H, W)` are parts of one sample's image or changed versions of it, `batch` is your batch
            with that sample's row N times (tensors and lists as long as the batch; the rest as it is).
        dataloaders: numbers of the validation loaders to watch; `None` means all.
        mean: per-channel mean that the images were normalised with, for drawing only.
        std: per-channel standard deviation, likewise.
        max_seconds: time limit of each validation, for all loaders together, without the warm-up of the first sample.
            The first validation finds out how many samples fit, at least one a loader, and leaves a fifth of the time
            spare; the later ones explain the same samples, or, where the time runs out, fewer from then on and say so.
            `sess/num_samples` is their number. `None` explains all.
        on_error: `"warn"`: a failure after the first good validation of a `fit`, `validate` or `test` warns and skips
            that validation, for monitors of its keys too; `"raise"` always raises.
        prefix: first part of every key.
        seed: seed of the choice of samples.
        save_dir: folder in which every grid is also written as PNG, its maps as `.npz`, named by the step
            (`sess_maps/00000012.png` of a `fit`, `validate-00000012.png`, `test-00000012.png`; names of a second run
            end with `-v1`), and `sess/evolution` as PNG and GIF.
        intervals: also log the 95 % intervals that the summary, the text page and the titles of pictures show: `_gain`
            behind the name of a key is SESS minus base over the same samples, `_gain_low` and `_gain_high` its
            interval, `sess/pointing_acc_low` and `_high` that of pointing accuracy (bootstrap over samples, seeded).
            False, as that is up to 16 keys more with the default metrics.
        bands: channels of the images that are drawn as red, green and blue, counted from 0, e.g. `(3, 2, 1)` for
            Sentinel-2, or one that is drawn in grey; for drawing only. `None` draws the first three.
        target_layer: the layer that the base method reads: its dotted name in the LightningModule, or the module
            itself. `None` leaves the method's own, which mostly is the one found by itself.
        reshape: function from that layer's output to `(N, C, h, w)`, e.g. `sess_lightning.layers.tokens_to_grid(7, 7)`;
            `None` leaves the method's own.
        photos: photos to watch instead of validation batches, each at its own size; beside them where `dataloaders`
            says which. A folder in COCO format (`images/` and `annotations.json`), of class folders or of photos alone,
            a list of image files, a Dataset of `(image, label or detection target)`, a DataLoader, or `Samples`. Files,
            PIL images and uint8 tensors are normalised by `mean` and `std`, floating point images are taken as they
            come. `num_samples` and `indices` choose among them; the processes share them. The window is `window_size`
            of `sess`, or the size of the validation images. Classes are matched by name where both the photos' and the
            model's are known, else by number.
        class_names: names of the model's classes: a list, a mapping from index to name, or a file of them. `None` looks
            for `class_names` or `classes` of the data module, the validation data sets and the module, then for
            `id2label` of a Hugging Face config; `sess/run` says what was found.
        record: write the record that the viewer shows, in the folder of the evolution: maps and values of up to 64
            samples in every validation, at most some 200 KB each (docs/record.md). Nothing with `num_images=0`.
        alarm: where samples have boxes or masks, measure what their probability rests on (two more forwards a sample)
            and say which classes the network tells by something else than their objects: as a warning, as text, in the
            viewer, and as their number. True, as that is what people watch saliency for.
        groups: key of the batch, or of its detection targets, under which each sample's group is (a name or number), to
            be told where the network is right in one group and not in another. Photos without one are in none; with
            `alarm=False` nothing is read. `None`: there are none.
        follow: kinds of samples that are shown: `"random"`, which the numbers are measured on, always; `"worst"`, the
            `num_images` samples with the highest loss of their label in the whole validation; `"new_errors"`, as many
            of those that are wrong now and were right one validation before (known by their pixels), the highest loss
            first. The logits of the validation's own steps are read, so no forward is added to them; what is found is
            explained behind all else, in what `max_seconds` leaves. No number is measured on them. Of batches only.

    Attributes:
        last_result: `Explained` of the first watched loader in the last validation, on the CPU: copies. `None` where
            that validation was skipped.
        last_results: the same by number of the loader; photos have `sess_lightning.callback.keys.PHOTOS`.
        last_intervals: by number of the loader, `sess_lightning.intervals.Interval` (value, low, high) by name of the
            key, with `_gain` behind it for SESS minus base.

    Raises:
        ValueError: if an argument is out of its range, a metric has the name of a number of the callback's own, or a
            layer is given to a method that reads none; before the training, if a photo cannot be read or has a class
            that the model lacks (in the first validation, where there is no sanity check and no `window_size`), or
            nothing says with which window to explain photos.
        MisconfigurationException: in `setup`, for a strategy that shards the model's weights, or processes that may
            have no batch (`allow_zero_length_dataloader_with_multiple_devices`); for a monitor of a key
            that cannot have a value, before the training or after the first validation.

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
        forward_fn: ForwardFn | None = None,
        dataloaders: Sequence[int] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        max_seconds: float | None = None,
        on_error: str = "warn",
        prefix: str = "sess",
        seed: int = 0,
        save_dir: str | None = None,
        intervals: bool = False,
        bands: Sequence[int] | None = None,
        target_layer: str | nn.Module | None = None,
        reshape: Callable[[Tensor], Tensor] | None = None,
        photos: PhotoArgument | None = None,
        class_names: str | Path | Sequence[str] | Mapping[int, str] | None = None,
        record: bool = True,
        alarm: bool = True,
        groups: str | None = None,
        follow: str | Sequence[str] = ("random",),
    ) -> None:
        for name, value, least in (
            ("num_samples", num_samples, 1), ("num_images", num_images, 0), ("every_n_epochs", every_n_epochs, 1)
        ):  # fmt: skip
            if value < least:
                raise ValueError(f"Expected argument `{name}` to be at least {least}, but got {value!r}.")
        if max_seconds is not None and not max_seconds > 0:
            raise ValueError(
                f"Expected argument `max_seconds` to be more than 0, or None for no limit, but got {max_seconds!r}."
            )
        check_choice("on_error", on_error, ("warn", "raise"))
        if not callable(target):
            check_choice("target", target, ("label", "predicted"))
        self.target_layer, self.reshape = target_layer, reshape
        self.sess = on_layer(SESS(num_scales=4, window_size=None) if sess is None else sess, target_layer, reshape)
        self.num_samples, self.num_images, self.indices = num_samples, num_images, indices
        self.every_n_epochs = every_n_epochs
        activation = cast(Activation, self.sess.activation)
        self.metrics = with_standing_metrics(build_metrics(metrics, activation), alarm, activation)
        self.alarm, self.groups = alarm, checked_key(groups)
        self.target, self.compare_base = target, compare_base
        self.batch_to_samples = batch_to_samples
        self.logits_fn = logits_fn
        self.forward_fn = forward_fn
        self.dataloaders = dataloaders
        self.mean, self.std = tuple(mean), tuple(std)
        self.max_seconds = max_seconds
        self.on_error = on_error
        self.prefix = prefix
        self.seed = seed
        self.save_dir = save_dir
        self.intervals = intervals
        self.bands = checked_bands(bands)
        self.photos, self.class_names, self.record = photos, class_names, record
        self.follow = checked_follow(follow)
        if len(self.follow) > 1 and photos is not None and dataloaders is None:
            raise ValueError(
                f"Expected argument `follow` to be ('random',) where photos alone are watched, but got {self.follow}: "
                "the other kinds are found in validation batches. Name with dataloaders= which to watch beside them."
            )
        self._given_names = given_class_names(class_names)
        self._start()

    @property
    def last_result(self) -> Explained | None:
        """The results of the last validation for the first watched loader, on the CPU; `None` before."""
        return self.last_results[min(self.last_results)] if self.last_results else None

    @property
    def state_key(self) -> str:
        """Key of this callback's state in a checkpoint; with the prefix, so that several instances do not collide."""
        return self._generate_state_key(prefix=self.prefix)

    # ---------------------------------------------------------------------------------------------------- trainer hooks

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the strategy, and discard the samples: every `fit`, `validate` and `test` chooses its own."""
        refuse_sharding(trainer.strategy)
        refuse_empty_loaders(trainer, pl_module)
        self._start_stage(trainer.world_size)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the layer's name, and warn about monitors of this callback's keys that would not work in this `fit`."""
        self._exchange.begin()
        # No rank can miss it: `fit` starts on all of them.
        self._exchange(lambda: self._check_fit(trainer, pl_module))

    def _check_fit(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.target_layer is not None:
            get_layer(pl_module, self.target_layer)
        for warning in monitor_warnings(trainer, self.prefix):
            rank_zero_warn(warning)
        names = possible_names(self.metrics, self.compare_base, self.alarm)
        if names is not None:
            names |= possible_intervals(names) if self.intervals else set()
            check_names(monitors_of(trainer, self.prefix), self.prefix, names)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the loaders and photos that are known without a sanity check; say where there are none."""
        self._cost.begin()
        self._exchange.begin()
        with self._exchange.guarded():
            self._check_choices(trainer)
            self._check_photos(trainer, pl_module)
            if trainer.limit_val_batches and not trainer.enable_validation:
                rank_zero_warn(
                    "SESSCallback works during validation, but this fit has no validation loader or no "
                    "validation_step: nothing is shown or logged."
                )
        # No rank can miss it: a `fit` starts on all of them. What is wrong on one ends it everywhere.
        self._exchange(lambda: None)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let go of the module, and give paused monitors their settings back."""
        self._let_go()
        self._view = None
        self._pause.end()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the pictures of the evolution over this `fit`, while its loggers are still open."""
        self._exchange.begin()
        # No rank can miss them: `fit` ends on all of them or on none.
        self._exchange(lambda: self.reporter.close(trainer))
        self._exchange.begin()
        self._exchange(lambda: self.recorder.close(trainer))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write the evolution up to the failure; an error here only warns, so the run ends with its own exception."""
        self._stop_listening()
        self._pause.end()
        try:
            self.reporter.close(trainer)
        except Exception:
            rank_zero_warn(f"SESSCallback could not write `{self.prefix}_{EVOLUTION.name}`:\n{traceback.format_exc()}")
        self.recorder.close(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Returns the positions of the followed samples of all processes, not their pixels.

        A training that is resumed with the same `num_samples`, `seed` and number of processes follows the same.
        """
        return {"positions": self._resumed | self._followed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the positions of the samples from the training that is resumed."""
        self._resumed = dict(state_dict["positions"])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self._begin(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: D102
        self._begin(trainer)

    def on_validation_batch_start(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._capture(batch, batch_idx, dataloader_idx)
        self._listen(trainer, pl_module, batch, dataloader_idx)

    def on_test_batch_start(  # noqa: D102
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._capture(batch, batch_idx, dataloader_idx)
        self._listen(trainer, pl_module, batch, dataloader_idx)

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
