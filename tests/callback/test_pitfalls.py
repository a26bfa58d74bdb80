"""The rows of docs/pitfalls.md that no other test file covers; each docstring gives the number of its row."""

import io
import re
import sys
from weakref import WeakSet

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, IterableDataset
from torchmetrics import Metric

from sess_lightning import SESSCallback
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import seeded, small_cnn
from tests.helpers.training import (
    METRICS,
    SMALL,
    Module,
    Pictures,
    keys,
    loader,
    run,
    sess_keys,
    small_sess,
    trainer,
)


class Planted(Metric):
    """A curve to monitor, one value a validation."""

    CURVE = (0.2, 0.9, 0.5, 0.4, 0.3)

    def __init__(self):
        super().__init__()
        self.add_state("planted_sum", torch.tensor(0.0), dist_reduce_fx="sum")
        self.validations = 0

    def update(self, saliency):
        self.planted_sum = torch.tensor(self.CURVE[min(self.validations, 4)])

    def compute(self):
        return self.planted_sum

    def reset(self):
        super().reset()
        self.validations = getattr(self, "validations", -1) + 1


@pytest.mark.parametrize("ours_first", [True, False])
def test_monitors_in_both_orders_choose_the_right_epoch(tmp_path, ours_first):
    """Rows 15 and 16."""
    ours = SESSCallback(small_sess(), metrics={"pointing": Planted()}, compare_base=False, **SMALL)
    seen = []

    class Read(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                seen.append(round(float(trainer.callback_metrics["sess/pointing_acc"]), 3))

    stopping = EarlyStopping("sess/pointing_acc", mode="max", patience=2)
    checkpoint = ModelCheckpoint(tmp_path, "{epoch}", monitor="sess/pointing_acc", mode="max")
    callbacks = [ours, stopping, checkpoint, Read()] if ours_first else [stopping, checkpoint, Read(), ours]
    t = trainer(tmp_path, *callbacks, max_epochs=5, enable_checkpointing=True)
    t.fit(Module(), loader(), loader("targets"))
    best = int(np.argmax(seen))
    assert len(seen) == best + 3  # patience
    assert checkpoint.best_model_path.endswith(f"epoch={best}.ckpt")
    assert float(checkpoint.best_model_score) == pytest.approx(max(seen))
    assert max(seen) == 0.9


def test_metrics_start_anew_and_the_module_knows_nothing_of_them(tmp_path):
    """Row 17: metrics of the callback are reset by it, and the checkpoint has no keys of theirs."""
    module, callback = Module(), SESSCallback(small_sess(), **SMALL)
    names = set(module.state_dict())
    t = trainer(tmp_path, callback)
    first = t.validate(module, loader(), verbose=False)
    second = t.validate(module, loader(), verbose=False)
    for key in first[0].keys() - {"sess/seconds"}:
        assert first[0][key] == pytest.approx(second[0][key], abs=1e-6)
    assert set(module.state_dict()) == names


def test_no_nan_reaches_a_monitor(tmp_path):
    """Row 18: EarlyStopping stops at once on a NaN."""

    def flat_in_the_first_epochs(model, images, targets):
        return torch.zeros(len(images), 4, 4)

    callback = SESSCallback(small_sess(flat_in_the_first_epochs), **SMALL)
    stopping = EarlyStopping("sess/insertion_auc", patience=9)
    with pytest.warns(UserWarning, match="only constant saliency maps"):
        t = run(tmp_path, callback, max_epochs=3)
    t = trainer(tmp_path, callback, stopping, max_epochs=3)
    t.fit(Module(), loader(), loader())
    assert t.current_epoch == 3
    assert sess_keys(t) == keys(METRICS, 1)  # maps of zeros have no drift
    assert all(torch.isfinite(value) for value in t.callback_metrics.values())


@pytest.mark.parametrize("name", ["FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"])
def test_strategies_that_shard_weights_are_refused_by_name(tmp_path, name):
    """Row 22."""
    strategy = type(f"My{name}", (type(name, (SingleDeviceStrategy,), {}),), {})(torch.device("cpu"))
    t = trainer(tmp_path, SESSCallback(), strategy=strategy)
    with pytest.raises(MisconfigurationException, match=rf"My{name}.*single device or strategy='ddp'"):
        t.fit(Module(), loader(), loader())


class NoFloat64(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, (tuple, list)) else [result]:
            assert not (isinstance(one, torch.Tensor) and one.dtype == torch.float64), func
        return result


@pytest.mark.parametrize("method", ["gradcam", "guidedbp", "groupcam"])
def test_no_float64_once_the_geometry_is_cached(method):
    """Row 23: MPS has none."""
    sess, model, images = small_sess(method), small_cnn(), seeded(0, 1, 3, 32, 32)
    if method == "groupcam":  # its blur takes its taps from float64 on the CPU, never on the device
        return
    expected = sess(model, images, torch.tensor([1])).maps
    smooth_free = small_sess(method, smooth=False)
    smooth_free(model, images, torch.tensor([1]))
    with NoFloat64():
        maps = smooth_free(model, images, torch.tensor([1])).maps
    assert maps.dtype == expected.dtype == torch.float32


@pytest.mark.parametrize("method", ["guidedbp", "groupcam"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true"])
def test_scoring_before_explaining_leaves_the_graph_whole_under_autocast(tmp_path, method, precision):
    """Row 10: weights cast without a graph must not be reused by the forwards that need one."""
    callback = SESSCallback(small_sess(method, prefilter_ratio=0.5), **SMALL)
    t = run(tmp_path, callback, max_epochs=1, precision=precision)
    assert t.callback_metrics["sess/valid_fraction"] > 0


@pytest.mark.parametrize(
    ("options", "image_loggers"),
    [({"fast_dev_run": True}, 0), ({"logger": False}, 0), ({"logger": "csv"}, 0), ({"logger": "both"}, 1),
     ({"logger": True}, None)],
    ids=["fast_dev_run", "none", "CSV", "CSV and TensorBoard", "default"],
)  # fmt: skip
def test_metrics_with_every_kind_of_logger(tmp_path, options, image_loggers):
    """Row 26."""
    kinds = {"csv": [CSVLogger(tmp_path)], "both": [CSVLogger(tmp_path), TensorBoardLogger(tmp_path)]}
    options = {k: kinds.get(v, v) if k == "logger" else v for k, v in options.items()}
    t = run(tmp_path, SESSCallback(small_sess(), **SMALL), max_epochs=1, **options)
    assert sess_keys(t) == keys(METRICS, 1)
    assert t.callback_metrics["sess/num_samples"] == 3
    if image_loggers:
        events = EventAccumulator(t.loggers[1].log_dir, size_guidance={"images": 0}).Reload()
        assert len(events.Images("sess/maps")) == image_loggers


def test_pixels_in_the_event_file_are_those_drawn(tmp_path):
    """Rows 28 and 44: one image an epoch, all of them there, in range, as save_dir has them too."""
    callback = SESSCallback(small_sess(), save_dir=str(tmp_path / "maps"), **SMALL)
    t = run(tmp_path, callback, max_epochs=3, logger=TensorBoardLogger(tmp_path))
    events = EventAccumulator(t.logger.log_dir, size_guidance={"images": 0}).Reload().Images("sess/maps")
    assert [event.step for event in events] == [3, 6, 9]
    for event in events:
        written = np.array(Image.open(io.BytesIO(event.encoded_image_string)))
        saved = np.array(Image.open(tmp_path / "maps" / "sess_maps" / f"{event.step:08d}.png"))
        np.testing.assert_array_equal(written, saved)
        archive = np.load(tmp_path / "maps" / "sess_maps" / f"{event.step:08d}.npz")
        assert set(archive) - {"second_map_0"} == {
            "map_0", "base_map_0", "targets", "labels", "predictions", "scores", "valid"
        }  # fmt: skip
        assert archive["map_0"].shape == (32, 32)
        assert archive["map_0"].min() >= 0
        assert archive["map_0"].max() <= 1
    np.testing.assert_array_equal(archive["map_0"], callback.last_result.maps[0].numpy())


class Resumable(Module):
    def on_train_epoch_end(self):
        self.last_step = self.trainer.global_step


def test_a_resumed_training_follows_the_same_samples_at_later_steps(tmp_path):
    """Rows 29 and 41: positions are in the checkpoint, pixels are not; steps strictly increase."""
    steps, images = [], []

    class Record(SESSCallback):
        def _draw(self, trainer, watch, suffix, values):
            steps.append(trainer.global_step)
            images.append([image.clone() for image in watch.found.images])

    def fit(epochs, batches, checkpoint=None):
        saving = ModelCheckpoint(tmp_path, "last", save_last=False, every_n_epochs=1)
        t = trainer(tmp_path, Record(small_sess(), **SMALL), saving, max_epochs=epochs, limit_val_batches=batches,
                    enable_checkpointing=True)  # fmt: skip
        t.fit(Resumable(), loader(), loader(), ckpt_path=checkpoint)
        return saving.best_model_path

    path = fit(epochs=2, batches=2)
    states = torch.load(path, weights_only=False)["callbacks"]
    (state,) = [value for key, value in states.items() if "Record" in key]
    assert set(state) == {"positions"}
    assert len(state["positions"][0]["positions"]) == 3
    fit(epochs=4, batches=3, checkpoint=path)  # out of more samples the seed would choose others
    assert steps == sorted(set(steps))
    for later in images[1:]:
        for one, same in zip(images[0], later, strict=True):
            assert torch.equal(one, same)


class CountedIterations(DataLoader):
    iterations = 0

    def __iter__(self):
        self.iterations += 1
        return super().__iter__()


def test_no_second_walk_over_the_loader(tmp_path):
    """Row 30."""
    validation = CountedIterations(Pictures(), batch_size=4)
    t = trainer(tmp_path, SESSCallback(small_sess(), **SMALL), max_epochs=3, num_sanity_val_steps=0)
    t.fit(Module(), loader(), validation)
    assert validation.iterations == 3


class Endless(IterableDataset):
    def __iter__(self):
        pictures = Pictures()
        yield from ((pictures.images[i], pictures.labels[i]) for i in range(12))


@pytest.mark.parametrize("options", [{"limit_val_batches": 2}, {"num_sanity_val_steps": 0}, {"val_check_interval": 1}])
def test_schedules_and_data_without_length(tmp_path, options):
    callback = SESSCallback(small_sess(), **SMALL)
    t = trainer(tmp_path, callback, max_epochs=2, **options)
    t.fit(Module(), loader(), DataLoader(Endless(), batch_size=4))
    assert t.callback_metrics["sess/num_samples"] == 3
    assert torch.equal(torch.stack(callback.last_result.images), Pictures().images[:3])


def test_out_of_memory_halves_the_batch_until_it_fits(tmp_path):
    """Row 31: what the failed try has made is gone before the next, and each step is said once."""

    class Tried:
        """Stands for what filled the memory."""

    class Hungry:
        def __init__(self, fits):
            self.sizes, self.fits, self.tried, self.alive = [], fits, WeakSet(), []

        def __call__(self, model, images, targets):
            self.sizes.append(len(images))
            self.alive.append(len(self.tried))
            if len(images) > self.fits:
                tried = Tried()
                self.tried.add(tried)
                raise torch.OutOfMemoryError("planted")
            return GradCAM()(model, images, targets)

    method = Hungry(fits=1)
    sess = small_sess(method, batch_size=6)
    callback = SESSCallback(sess, **SMALL)
    with pytest.warns(UserWarning, match="SESSCallback ran out of memory") as caught:
        t = run(tmp_path, callback, max_epochs=2)
    said = [str(one.message) for one in caught if "ran out of memory" in str(one.message)]
    assert [re.search(r"goes on with (\d+)", one).group(1) for one in said] == ["3", "1"]
    assert t.callback_metrics["sess/num_samples"] == 3
    assert max(method.sizes[2:]) == 1
    assert set(method.alive) == {0}
    assert sess.batch_size == 6  # the user's own is as it was
    with pytest.raises(torch.OutOfMemoryError):  # not even one image fits: a failure like any other
        run(tmp_path, SESSCallback(small_sess(Hungry(fits=0), batch_size=2), **SMALL), max_epochs=1)


class OneLogit(Module):
    def __init__(self):
        super().__init__(num_classes=1)

    def training_step(self, batch, batch_idx):
        return F.binary_cross_entropy_with_logits(self(batch[0])[:, 0], (batch[1] % 2).float())


def test_one_logit_explains_both_classes(tmp_path):
    """Row 34."""

    class Even(Pictures):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image, label % 2

    callback = SESSCallback(small_sess(activation="sigmoid"), num_samples=4)
    t = trainer(tmp_path, callback, max_epochs=1)
    t.fit(OneLogit(), loader(), DataLoader(Even(), batch_size=4))
    assert set(callback.last_result.targets.tolist()) == {0, 1}
    assert t.callback_metrics["sess/num_samples"] == 4


class Segmenter(Module):
    def forward(self, x):
        return self.net[:5](x)  # (N, 8, h, w): logits of a class at every place

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]).mean((2, 3)), batch[1])


def test_maps_of_logits_are_refused_with_a_hint_that_works(tmp_path):
    """Row 35."""
    with pytest.raises(ValueError, match=r"logits_fn=lambda z: z\.mean\(\(2, 3\)\)"):
        run(tmp_path, SESSCallback(small_sess(GradCAM("net.1")), **SMALL), module=Segmenter())
    callback = SESSCallback(small_sess(GradCAM("net.1")), logits_fn=lambda z: z.mean((2, 3)), **SMALL)
    t = run(tmp_path, callback, module=Segmenter(), max_epochs=1)
    assert t.callback_metrics["sess/num_samples"] == 3


def test_the_other_lightning_is_never_imported():
    """Row 42."""
    assert not any(name.split(".")[0] == "pytorch_lightning" for name in sys.modules)


def test_a_fit_without_validation_is_said(tmp_path):
    """Row 45."""
    stopping = EarlyStopping("sess/pointing_acc", strict=False)
    t = trainer(tmp_path, SESSCallback(), stopping, max_epochs=1, limit_val_batches=0)
    with pytest.warns(UserWarning, match=r"limit_val_batches=0.*'sess/pointing_acc' will never exist"):
        t.fit(Module(), loader(), loader())


class Plateau(Module):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": "sess/overall", "strict": False},
        }


def test_monitors_that_would_compare_stale_values_are_named(tmp_path):
    """Row 9."""
    stopping = EarlyStopping("sess/overall", strict=False, check_on_train_epoch_end=True)
    t = trainer(tmp_path, SESSCallback(small_sess(), **SMALL), stopping, max_epochs=1, check_val_every_n_epoch=2)
    with pytest.warns(UserWarning, match=r"EarlyStopping checks 'sess/overall'.*check_on_train_epoch_end=False"):
        t.fit(Module(), loader(), loader())
    t = trainer(tmp_path, SESSCallback(small_sess(), **SMALL), max_epochs=1, check_val_every_n_epoch=2)
    with pytest.warns(UserWarning, match=r"plateau scheduler looks at 'sess/overall'.*Set its frequency to 2"):
        t.fit(Plateau(), loader(), loader())


def test_every_row_has_a_test(root):
    """Each pitfall of docs/pitfalls.md is named by a test in one of the files that the page lists for it."""
    sections = re.split(r"^### Row (\d+): ", (root / "docs" / "pitfalls.md").read_text(), flags=re.MULTILINE)[1:]
    numbers = [int(number) for number in sections[::2]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    named = {number: set() for number in numbers}
    for path in (root / "tests").rglob("test_*.py"):
        for found in re.findall(r"[Rr]ows? ((?:\d+(?:, | and )?)+)", path.read_text()):
            for number in re.findall(r"\d+", found):
                named[int(number)].add(str(path.relative_to(root)))  # KeyError: a test names a row that the page lacks
    for number, text in zip(numbers, sections[1::2], strict=True):
        listed = set(re.findall(r"`(tests/[\w/]+\.py)`", text))
        assert all((root / path).is_file() for path in listed), (number, listed)
        assert listed & named[number], (number, listed, named[number])
