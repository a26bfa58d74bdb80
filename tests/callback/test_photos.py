"""`SESSCallback(photos=)`: photos of one's own are watched in fit, validate and test, whatever the validation gives."""

import csv
import json
import pickle
import re

import jsonargparse
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.models import get_model
from torchvision.transforms import v2

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.keys import PHOTOS
from sess_lightning.cli import summary
from sess_lightning.data import CocoPhotos
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from tests.helpers.data_trees import write_photo
from tests.helpers.nets import seeded
from tests.helpers.photo_folder import QUICK, watching, write_photos
from tests.helpers.processes import two_devices
from tests.helpers.training import (
    BOOKS,
    METRICS,
    POINTING,
    RELIANCE,
    Module,
    Pictures,
    keys,
    loader,
    run,
    sess_keys,
    trainer,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five boxed photos of three classes, 80 x 100."""
    return write_photos(tmp_path_factory.mktemp("own") / "photos", 5)


def test_photos_are_watched_instead_of_batches(folder, tmp_path):
    callback = watching(str(folder))
    t = run(tmp_path, callback)
    assert sess_keys(t) == keys(METRICS | POINTING)  # the batches have no boxes
    assert t.callback_metrics["sess/num_samples"] == 4
    found = callback.last_result
    assert {tuple(image.shape) for image in found.images} == {(3, 80, 100)}
    assert set(callback.last_results) == {PHOTOS}


def test_the_numbers_are_those_of_the_photos_as_batches(folder, tmp_path):
    """The same photos out of a loader, explained with the same window: nothing else may differ."""
    sess, module = SESS(num_scales=2, window_size=32), Module()
    data = CocoPhotos(str(folder), batch_size=2)
    t = trainer(tmp_path, SESSCallback(sess, num_images=0))
    t.validate(module, datamodule=data, verbose=False)
    as_batches = {key: float(t.callback_metrics[key]) for key in sess_keys(t)}
    for window in (32, None):  # None: that of the batches, 32 x 32
        t = trainer(tmp_path, SESSCallback(SESS(num_scales=2, window_size=window), photos=folder, num_images=0))
        t.validate(module, loader(), verbose=False)
        assert sess_keys(t) == set(as_batches)
        for key in set(as_batches) - {"sess/seconds"}:
            assert float(t.callback_metrics[key]) == pytest.approx(as_batches[key], abs=1e-6), key
    t.test(module, loader(), verbose=False)
    assert float(t.callback_metrics["sess/pointing_acc"]) == as_batches["sess/pointing_acc"]


def test_beside_batches_the_photos_have_a_prefix(folder, tmp_path):
    callback = watching(folder, dataloaders=[0])
    t = run(tmp_path, callback)
    numbers = {key.removeprefix("sess/") for key in keys(METRICS)}
    boxed = {key.removeprefix("sess/") for key in keys(METRICS | POINTING)}
    assert sess_keys(t) == {f"sess/{name}" for name in numbers} | {f"sess/photos/{name}" for name in boxed}
    assert set(callback.last_results) == {0, PHOTOS}
    assert callback.last_result is callback.last_results[0]


def test_photos_alone_have_no_suffix_where_there_are_several_loaders(folder, tmp_path):
    t = trainer(tmp_path, watching(folder))
    t.validate(Module(), [loader(), loader("targets")], verbose=False)
    assert sess_keys(t) == keys(METRICS | POINTING, 1)


def test_several_loaders_and_photos(folder, tmp_path):
    t = trainer(tmp_path, watching(folder, dataloaders=[1], metrics=["pointing"], compare_base=False))
    t.validate(Module(), [loader(), loader("targets")], verbose=False)
    names = {"pointing_acc", *(key.removeprefix("sess/") for key in BOOKS | RELIANCE)}
    expected = {f"sess/{name}/dataloader_idx_1" for name in names} | {f"sess/photos/{name}" for name in names}
    assert sess_keys(t) == expected


def test_the_window_of_batches_is_as_without_photos(folder, tmp_path):
    """Two loaders with images of two sizes, each its own window."""
    large = DataLoader(TensorDataset(seeded(1, 4, 3, 48, 48), torch.arange(4)), batch_size=2)
    results = []
    for options in ({}, {"photos": folder}):
        callback = SESSCallback(SESS(num_scales=2, window_size=None), dataloaders=[0, 1], **QUICK, **options)
        trainer(tmp_path, callback).validate(Module(), [loader(), large], verbose=False)
        results.append(callback.last_results)
    plain, beside = results
    for number in (0, 1):
        for one, other in zip(plain[number].windows, beside[number].windows, strict=True):
            assert torch.equal(one, other)


class Averaged(pl.Callback):
    """Validates with other weights and puts the own back at the end, as callbacks that average weights do."""

    def on_validation_epoch_start(self, trainer, pl_module):
        self.own = {k: v.clone() for k, v in pl_module.state_dict().items()}
        with torch.no_grad():
            for p in pl_module.parameters():
                p.neg_()

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.load_state_dict(self.own)


class Streamed(IterableDataset):
    """Validation images whose number is not known."""

    def __iter__(self):
        return ((image, label) for image, label in zip(seeded(0, 6, 3, 32, 32), range(6), strict=True))


@pytest.mark.parametrize("validation", [loader, lambda: DataLoader(Streamed(), batch_size=2)])
def test_the_weights_are_those_of_the_validation(folder, tmp_path, validation):
    results = []
    for callbacks in ([Averaged(), watching(folder)], [watching(folder), Averaged()]):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module = Module()
        t = trainer(tmp_path, *callbacks)
        t.validate(module, validation(), verbose=False)
        results.append(next(one for one in callbacks if isinstance(one, SESSCallback)).last_result)
    with torch.no_grad():
        for p in module.parameters():
            p.neg_()
    plain = watching(folder)
    trainer(tmp_path, plain).validate(module, validation(), verbose=False)
    for found in results:
        assert torch.equal(found.maps[0], plain.last_result.maps[0])
        assert torch.equal(found.scores, plain.last_result.scores)


def test_training_is_bit_identical(folder, tmp_path):
    class Drawing(Dataset):
        """Photos that are drawn at random when they are read."""

        def __len__(self):
            return 3

        def __getitem__(self, i):
            return torch.rand(3, 40, 50), i

    states = []
    shuffled = DataLoader(Drawing(), shuffle=True)
    tried = {"num_sanity_val_steps": 0}  # the model is run on a photo before training
    for photos, options in ((None, {}), (folder, {}), (Drawing(), {}), (shuffled, {}), (shuffled, tried)):
        pl.seed_everything(1, verbose=False)
        module = Module()
        t = trainer(tmp_path, *([] if photos is None else [watching(photos, 32 if options else None)]), **options)
        t.fit(module, DataLoader(Pictures(), batch_size=4, shuffle=True), loader())
        states.append(module.state_dict())
    for state in states[1:]:
        for name, value in state.items():
            assert torch.equal(value, states[0][name]), name


def test_a_training_that_is_resumed_follows_the_same_photos(tmp_path):
    """By name: photos that come in between do not shift them."""
    folder = write_photos(tmp_path / "photos", 8)
    first = watching(folder, num_samples=3, seed=5)
    t = trainer(tmp_path, first, max_epochs=1)
    t.fit(Module(), loader(), loader())
    t.save_checkpoint(tmp_path / "a.ckpt")
    before = [image.sum() for image in first.last_result.images]
    content = json.loads((folder / "annotations.json").read_text())
    for one in content["images"]:
        one["id"] += 1
    for one in content["annotations"]:
        one["image_id"] += 1
    (folder / "images" / "new.png").write_bytes((folder / "images" / "0.png").read_bytes())
    content["images"].append({"id": 0, "file_name": "new.png"})
    (folder / "annotations.json").write_text(json.dumps(content))
    again = watching(folder, num_samples=3, seed=5)
    trainer(tmp_path, again, max_epochs=2).fit(Module(), loader(), loader(), ckpt_path=tmp_path / "a.ckpt")
    assert [image.sum() for image in again.last_result.images] == before
    other = watching(folder, num_samples=4, seed=5)
    with pytest.warns(match=r"chooses the photos to follow anew.* num_samples changed"):
        trainer(tmp_path, other, max_epochs=2).fit(Module(), loader(), loader(), ckpt_path=tmp_path / "a.ckpt")
    assert len(other.last_result) == 4


def test_monitors_of_photos(folder, tmp_path):
    for key, options, said in (
        ("sess/photos/pointing_acc", {}, r"with `photos` the key is 'sess/pointing_acc'"),
        ("sess/pointing_acc", {"dataloaders": [0]}, "batches hold no boxes"),
        ("sess/photos/pointing", {"dataloaders": [0]}, "which this SESSCallback never logs"),
    ):
        best = ModelCheckpoint(tmp_path / "best", monitor=key, mode="max")
        with pytest.raises(Exception, match=said):
            trainer(tmp_path, watching(folder, **options), best, enable_checkpointing=True).fit(
                Module(), loader(), loader()
            )
    plain = sorted((folder / "images").glob("*.png"))
    best = ModelCheckpoint(tmp_path / "best", monitor="sess/pointing_acc", mode="max")
    with pytest.raises(Exception, match="the photos hold no boxes"):
        trainer(tmp_path, watching(plain), best, enable_checkpointing=True).fit(Module(), loader(), loader())
    best = ModelCheckpoint(tmp_path / "best", monitor="sess/photos/pointing_acc", mode="max")
    callback = watching(folder, dataloaders=[0])
    trainer(tmp_path, callback, best, enable_checkpointing=True).fit(Module(), loader(), loader())
    assert best.best_model_score is not None


class FineTuned(pl.LightningModule):
    """A torchvision network with a new head, as in any tutorial."""

    def __init__(self):
        super().__init__()
        self.net = get_model("mobilenet_v3_small", weights=None)
        self.net.classifier[-1] = nn.Linear(1024, 3)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def test_fine_tuning_on_class_folders_while_boxed_photos_are_watched(folder, tmp_path):
    """One line more than without it; the folders name the classes, in another order than the photos count them."""
    for i, name in enumerate(("class 2", "class 0", "class 1")):
        for j in range(2):
            write_photo(tmp_path / "crops" / name / f"{j}.png", 70, 90, 2 * i + j)
    floats = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    data = ImageFolder(str(tmp_path / "crops"), v2.Compose([v2.Resize(64), v2.CenterCrop(64), *floats]))
    best = ModelCheckpoint(tmp_path / "best", "{sess/pointing_acc:.2f}", monitor="sess/pointing_acc", mode="max")
    callback = SESSCallback(photos=str(folder), num_images=2, save_dir=str(tmp_path / "pictures"))
    t = trainer(tmp_path, callback, best, enable_checkpointing=True, logger=CSVLogger(tmp_path / "log"), max_epochs=1)
    t.fit(FineTuned(), DataLoader(data, batch_size=3, shuffle=True), DataLoader(data, batch_size=3))
    assert t.callback_metrics["sess/num_samples"] == 5
    assert best.best_model_score == t.callback_metrics["sess/pointing_acc"]
    assert callback.last_result.targets.tolist() == [1, 1, 0, 0, 2]
    (log,) = (tmp_path / "log").rglob("metrics.csv")
    assert any(row["sess/pointing_acc"] for row in csv.DictReader(log.open()))
    assert list((tmp_path / "pictures").rglob("sess_evolution*.gif"))


class Save(pl.Callback):
    """Writes what was logged, as spawned processes take their trainer with them."""

    def __init__(self, file):
        self.file = file

    def on_validation_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            self.file.write_text(json.dumps({k: float(v) for k, v in trainer.callback_metrics.items()}))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_log_and_draw_what_one_does(folder, tmp_path):
    """Three of five photos: the first process has two of them."""
    values = []
    for name, options in (("one", {}), ("two", two_devices())):
        callback = watching(folder, num_samples=3, num_images=3, save_dir=str(tmp_path / name))
        t = trainer(tmp_path, callback, Save(tmp_path / f"{name}.json"), **options)
        t.validate(Module(), loader(), verbose=False)
        values.append(json.loads((tmp_path / f"{name}.json").read_text()))
    one, two = values
    assert set(one) == set(two) == keys(METRICS | POINTING, 1)
    assert two["sess/num_samples"] == 3
    for key in set(one) - {"sess/seconds"}:
        assert two[key] == pytest.approx(one[key], abs=1e-5), key
    first, second = (np.load(next((tmp_path / name).rglob("*.npz"))) for name in ("one", "two"))
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=1e-5)


def test_the_text_of_the_run_says_what_is_watched(folder, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    t = trainer(tmp_path, watching(folder, num_samples=2), logger=logger, max_epochs=1)
    t.fit(Module(), loader(), loader())
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    text = events.Tensors("sess/run/text_summary")[0].tensor_proto.string_val[0].decode().replace("\\", "")
    assert f"| photos | the COCO-format folder {folder} |" in text
    assert f"| class_names | 3, from the COCO-format folder {folder}: class 0, class 1, class 2 |" in text
    assert "| sample | photo | label |" in text
    assert len(re.findall(r"^\| \d \| \d\.png \| class \d \|", text, flags=re.MULTILINE)) == 2


def test_photos_in_yaml(folder, tmp_path):
    """`photos: path`, as an argument of the callback in a file of settings."""
    parser = jsonargparse.ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_class_arguments(SESSCallback, "watch")
    settings = {"photos": str(folder), "class_names": ["class 1", "class 0", "class 2"], "num_samples": 2}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"watch": settings}))
    callback = parser.instantiate_classes(parser.parse_args([f"--config={tmp_path / 'config.yaml'}"])).watch
    run(tmp_path, callback)
    assert len(callback.last_result) == 2
    assert callback.photos == str(folder)


def test_photos_keep_to_max_seconds_and_models_that_take_a_batch(folder, tmp_path):
    """At least one photo is explained; `forward_fn` gets a batch of the photo itself."""
    seen = []

    def forward_fn(module, images, batch):
        seen.append((len(images), len(batch[0]), [target["labels"].tolist() for target in batch[1]][:1]))
        return module(images)

    callback = watching(folder, max_seconds=1e-6, forward_fn=forward_fn, num_samples=5)
    with pytest.warns(match="have time for 1 of 5 samples"):
        run(tmp_path, callback)
    assert len(callback.last_result) == 1
    assert all(images == batch and classes == [[0, 1]] for images, batch, classes in seen)


def test_the_summary_has_a_table_of_photos_beside_batches(folder, tmp_path):
    t = run(tmp_path, watching(folder, dataloaders=[0]))
    lines = [line.split() for line in summary(t).splitlines()]
    assert ["sess", "insertion", "deletion", "overall"] in lines
    assert ["sess/photos", "insertion", "deletion", "overall", "pointing"] in lines
    shown = next(line for line in lines[lines.index(["sess/photos", *lines[1][1:], "pointing"]) :] if line[0] == "SESS")
    assert shown[-1] == f"{float(t.callback_metrics['sess/photos/pointing_acc']):.3f}"


def test_one_boxed_photo_behind_others_is_enough_for_pointing(tmp_path):
    """The sanity check explains the first photo alone, and knows of the others."""
    target = {"boxes": torch.tensor([[2.0, 3.0, 30.0, 29.0]]), "labels": torch.tensor([1])}
    photos = [(seeded(0, 3, 40, 50), 2), (seeded(1, 3, 50, 40), target)]
    best = ModelCheckpoint(tmp_path / "best", monitor="sess/pointing_acc", mode="max")
    callback = watching(photos)
    trainer(tmp_path, callback, best, enable_checkpointing=True).fit(Module(), loader(), loader())
    assert best.best_model_score in (0, 1)
    again = pickle.loads(pickle.dumps(callback))
    assert torch.equal(again.last_result.maps[1], callback.last_result.maps[1])
