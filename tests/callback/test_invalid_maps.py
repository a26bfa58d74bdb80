"""Maps and networks without information under a monitor: every key has a value, and none looks better for it."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from sess_lightning import SESS, SESSCallback
from sess_lightning.metrics import PointingGame
from tests.helpers.training import METRICS, POINTING, SMALL, Module, Pictures, keys, loader, sess_keys, trainer

ALL = sorted(keys(METRICS | POINTING, 1) - {"sess/seconds", "sess/num_samples", "sess/valid_fraction"})


class History(pl.Callback):
    """The values of every validation."""

    def __init__(self):
        self.values = []

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.values.append({key: float(value) for key, value in trainer.callback_metrics.items()})


def flat(model, images, targets):
    return torch.zeros(len(images), 4, 4)


def full_of_nan(model, images, targets):
    return torch.full((len(images), 4, 4), torch.nan)


@pytest.mark.parametrize("method", [flat, full_of_nan])
def test_constant_maps_leave_all_monitors_alive(tmp_path, method):
    history = History()
    callback = SESSCallback(SESS(method, num_scales=1, window_size=None), num_samples=4, num_images=2)
    stopping = [EarlyStopping(key, mode="max", patience=9) for key in ALL]
    checkpoints = [ModelCheckpoint(tmp_path / key.replace("/", "_"), monitor=key, mode="max") for key in ALL]
    t = trainer(
        tmp_path, callback, *stopping, *checkpoints, history, enable_checkpointing=True,
        logger=TensorBoardLogger(tmp_path),
    )  # fmt: skip
    with pytest.warns(UserWarning, match="only constant saliency maps"):
        t.fit(Module(), loader(), loader("targets"))
    assert t.current_epoch == 2
    assert sess_keys(t) == keys(METRICS | POINTING, 1)  # such maps have no drift
    for values in history.values:
        assert values["sess/valid_fraction"] == 0
        assert values["sess/pointing_acc"] == values["sess/base_pointing_acc"] == 0
        assert values["sess/insertion_auc"] == values["sess/base_insertion_auc"]
    assert callback.last_result.hits == [False] * 4


class Dying(Module):
    """Outputs NaN from epoch 1 on."""

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            with torch.no_grad():
                self.net[-1].bias.fill_(torch.nan)


@pytest.mark.parametrize(("key", "mode"), [("sess/insertion_auc", "max"), ("sess/deletion_auc", "min"),
                                           ("sess/overall", "max"), ("sess/pointing_acc", "max")])  # fmt: skip
def test_a_network_that_becomes_nan_is_never_the_best(tmp_path, key, mode):
    history = History()
    metrics = {"pointing": PointingGame(tolerance=60)} if "pointing" in key else ("insertion", "deletion")
    callback = SESSCallback(metrics=metrics, **SMALL)
    checkpoint = ModelCheckpoint(tmp_path, "{epoch}", monitor=key, mode=mode)
    stopping = EarlyStopping(key, mode=mode, patience=1)
    t = trainer(tmp_path, callback, stopping, checkpoint, history, max_epochs=4, enable_checkpointing=True)
    with pytest.warns(UserWarning, match="only constant saliency maps, or such with NaN"):
        t.fit(Dying(), loader(), loader("targets"))
    assert checkpoint.best_model_path.endswith("epoch=0.ckpt")
    assert t.current_epoch == 2  # stopped by its patience, not by a NaN
    worst = {"sess/deletion_auc": 1, "sess/overall": -1}.get(key, 0)
    assert history.values[1][key] == worst
    assert history.values[1]["sess/valid_fraction"] == 0


def test_one_invalid_map_of_several_counts_against_the_network(tmp_path):
    """Left out, it would not be seen in pointing accuracy."""

    def flat_for_the_first_class(model, images, targets):
        peak = torch.zeros(len(images), 32, 32)
        peak[:, 16, 16] = (targets > 0).float()
        return peak

    callback = SESSCallback(
        SESS(flat_for_the_first_class, num_scales=1, window_size=None, smooth=False),
        num_samples=12,
        metrics={"pointing": PointingGame(tolerance=0)},
    )
    t = trainer(tmp_path, callback)
    t.validate(Module(), loader("targets"), verbose=False)
    assert t.callback_metrics["sess/valid_fraction"] == 0.75
    assert t.callback_metrics["sess/pointing_acc"] == 0.75
    assert sum(callback.last_result.hits) == 9


class Holes(Pictures):
    """The third picture holds a NaN."""

    def __getitem__(self, i):
        image, label = super().__getitem__(i)
        return (image.index_fill(2, torch.tensor([3]), torch.nan), label) if i == 2 else (image, label)


def test_images_with_nan_are_left_out_and_said_once(tmp_path):
    class Tolerant(Module):
        def forward(self, x):
            return self.net(x.nan_to_num())

    callback = SESSCallback(num_samples=12)
    t = trainer(tmp_path, callback)
    with pytest.warns(UserWarning, match="NaN or infinity, e.g. number 2 of batch 0") as caught:
        t.fit(Tolerant(), loader(), DataLoader(Holes(), batch_size=4))
    assert sum("NaN or infinity" in str(w.message) for w in caught) == 1
    assert t.callback_metrics["sess/num_samples"] == 11
    assert 2 not in [position for _, batch, position in callback.last_result.places if batch == 0]


def test_where_all_images_hold_nan_there_is_no_picture(tmp_path):
    """The numbers of the books are logged, and the text of the run, but no grid of nothing."""
    logger = TensorBoardLogger(tmp_path)
    validation = DataLoader([(torch.full((3, 32, 32), torch.nan), 0)] * 4, batch_size=4)
    t = trainer(tmp_path, SESSCallback(SESS(num_scales=1, window_size=None), **SMALL), logger=logger)
    with pytest.warns(UserWarning, match="leaves out samples whose image holds NaN"):
        t.validate(Module(), validation, verbose=False)
    assert t.callback_metrics["sess/num_samples"] == 0
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    assert events.Tags()["images"] == []
    assert events.Tags()["tensors"] == ["sess/run/text_summary"]
