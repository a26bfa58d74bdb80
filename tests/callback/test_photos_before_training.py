"""`SESSCallback(photos=)`: what is wrong with photos, classes or the window is said before the training."""

import lightning.pytorch as pl
import pytest
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from sess_lightning import SESS, SESSCallback
from tests.helpers.photo_folder import QUICK, watching, write_photos
from tests.helpers.training import Module, Pictures, loader, run, trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five boxed photos of three classes, 80 x 100."""
    return write_photos(tmp_path_factory.mktemp("own") / "photos", 5)


class Untrained(Module):
    def training_step(self, batch, batch_idx):
        raise AssertionError("training has begun")


def test_what_is_wrong_is_said_before_training(folder, tmp_path):
    def fit(callback, validation=None, **options):
        trainer(tmp_path, callback, **options).fit(Untrained(), loader(), validation or loader())

    broken = write_photos(tmp_path / "broken", -3)
    for options in ({}, {"num_sanity_val_steps": 0}):
        with pytest.raises(ValueError, match=r"photo 2\.png of .*Could not read the photo"):
            fit(watching(broken, num_samples=3), **options)
        with pytest.raises(ValueError, match=r"the model has no class 'class 2'.*Nearest: class"):
            fit(watching(folder, class_names=["class 0", "class 1"]), **options)
        with pytest.raises(ValueError, match=r"`indices` to be numbers of `photos`, 0\.\.4, but got 5"):
            fit(watching(folder, indices=[0, 5]), **options)
    with pytest.raises(ValueError, match=r"0\.\.1, but photo \S+ of .* has class [23]"):
        trainer(tmp_path, watching(folder)).fit(Module(num_classes=2), loader(), loader())
    mixed = DataLoader(Pictures(), batch_size=4, collate_fn=lambda items: ([items[0][0], items[1][0][:, 1:]], [0, 1]))
    with pytest.raises(ValueError, match=r"these have several sizes.*Pass SESS\(window_size=\)"):
        fit(watching(folder), mixed)
    odd = DataLoader(Pictures("odd"), batch_size=4)
    with pytest.raises(ValueError, match=r"the batch cannot be read: .*Or pass SESS\(window_size=\)"):
        fit(watching(folder), odd)
    callback = watching(folder, 32)
    run(tmp_path, callback, "odd")  # the batches are left alone
    assert len(callback.last_result) == 4


def noted(module):
    """The sizes of all that a module is called with, and whether it trains; kept elsewhere, as a probe restores it."""
    calls = []
    module.register_forward_pre_hook(lambda module, images: calls.append((tuple(images[0].shape), module.training)))
    return calls


@pytest.mark.parametrize("options", [{}, {"forward_fn": lambda module, images, batch: module(images)}])
def test_classes_and_window_are_tried_before_training_without_a_sanity_check(folder, tmp_path, options):
    def fit(module, window):
        callback = watching(folder, window, **options)
        trainer(tmp_path, callback, num_sanity_val_steps=0).fit(module, loader(), loader())

    module = Untrained(num_classes=2)
    calls = noted(module)
    with pytest.raises(ValueError, match=r"0\.\.1, but photo \S+ of .* has class 2"):
        fit(module, 32)
    assert {(*size[1:], training) for size, training in calls} == {(3, 32, 32, False)}
    assert module.training
    with pytest.raises(AssertionError, match="training has begun"):  # three classes are enough
        fit(Untrained(num_classes=3), 32)
    narrow = Untrained()
    narrow.net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        fit(narrow, 48)


@pytest.mark.parametrize(
    ("options", "tried"), [({}, False), ({"num_sanity_val_steps": 0}, True), ({"limit_val_batches": 0}, False)]
)
def test_a_photo_is_tried_only_where_no_sanity_check_did(folder, tmp_path, options, tried):
    """Calls of the model from the start of the training to its first step."""

    class Begins(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            calls.clear()

    module = Untrained(num_classes=3)
    calls = noted(module)
    with pytest.raises(AssertionError, match="training has begun"):
        trainer(tmp_path, Begins(), watching(folder, 32), **options).fit(module, loader(), loader())
    assert bool(calls) == tried


def test_no_photo_chosen_is_none_to_try(folder, tmp_path):
    with pytest.raises(AssertionError, match="training has begun"):
        trainer(tmp_path, watching(folder, 32, indices=[]), num_sanity_val_steps=0).fit(Untrained(), loader(), loader())


class Empty(IterableDataset):
    def __iter__(self):
        return iter(())


def test_a_window_that_cannot_be_known(folder, tmp_path):
    """No validation batch has come when the sanity check ends; with a window of its own the photos need none."""
    with pytest.raises(ValueError, match=r"no validation batch came\. Pass SESS\(window_size=\)"):
        trainer(tmp_path, watching(folder)).fit(Module(), loader(), DataLoader(Empty()))
    callback = SESSCallback(SESS(num_scales=2, window_size=32), photos=folder, **QUICK)
    trainer(tmp_path, callback).fit(Module(), loader(), DataLoader(Empty()))
    assert len(callback.last_result) == 4
