"""Rows 26 and 27: every logger that can show images gets them, with the real packages where they are installed."""

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.loggers import log_image
from tests.helpers.training import METRICS, keys, run, sess_keys

GRID = torch.arange(3 * 4 * 5, dtype=torch.uint8).reshape(3, 4, 5)


def callback():
    return SESSCallback(SESS(num_scales=2, window_size=None), num_samples=3, num_images=1)


class Recorder:
    """Stands for a logger's experiment and remembers its calls."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs))


def fake(name, **attributes):
    experiment = Recorder()
    logger = type(name, (DummyLogger,), {"experiment": property(lambda self: experiment)})()
    for key, value in attributes.items():
        setattr(logger, key, value)
    return logger, experiment


def test_each_gets_the_picture_its_way():
    tensorboard, board = fake("TensorBoardLogger")
    comet, comet_experiment = fake("CometLogger")
    mlflow, client = fake("MLFlowLogger", run_id="r1")
    wandb, _ = fake("WandbLogger")
    sent = []
    wandb.log_image = lambda key, images, step: sent.append((key, images, step))
    csv, _ = fake("CSVLogger")
    assert log_image([tensorboard, comet, mlflow, wandb, csv], "sess/maps", GRID, 7) == ["CSVLogger"]
    ((name, (tag, image), kwargs),) = board.calls
    assert (name, tag, kwargs) == ("add_image", "sess/maps", {"global_step": 7})
    assert torch.equal(image, GRID)
    ((name, (image,), kwargs),) = comet_experiment.calls
    assert (name, image.shape, kwargs) == ("log_image", (4, 5, 3), {"name": "sess/maps", "step": 7})
    ((name, (run_id, image), kwargs),) = client.calls
    assert (name, run_id, image.shape, kwargs) == ("log_image", "r1", (4, 5, 3), {"key": "sess_maps", "step": 7})
    ((key, (image,), step),) = sent
    assert (key, image.shape, step) == ("sess/maps", (4, 5, 3), 7)


def test_a_subclass_of_a_known_logger_is_known():
    mine = type("MyBoard", (type(fake("TensorBoardLogger")[0]),), {})()
    assert log_image([mine], "sess/maps", GRID, 0) == []


def test_one_warning_for_those_that_cannot(tmp_path, recwarn):
    t = run(tmp_path, callback(), max_epochs=3, logger=[CSVLogger(tmp_path), TensorBoardLogger(tmp_path)])
    assert sess_keys(t) == keys(METRICS)
    assert sum("cannot show images in CSVLogger" in str(w.message) for w in recwarn) == 1


def test_wandb_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="test")
    t = run(tmp_path, callback(), logger=logger)
    summary = dict(logger.experiment.summary)
    wandb.finish()
    assert summary["sess/num_samples"] == 3
    assert summary["sess/maps"]["count"] == 1
    assert summary["trainer/global_step"] == t.global_step - 1 or summary["trainer/global_step"] == t.global_step
    pictures = list(tmp_path.rglob("media/images/sess/maps*.png"))
    assert len(pictures) == 2  # one each epoch


def test_mlflow_in_a_local_folder(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(tracking_uri=f"file:{tmp_path / 'mlruns'}")
    run(tmp_path, callback(), logger=logger)
    data = logger.experiment.get_run(logger.run_id).data
    assert data.metrics["sess/num_samples"] == 3
    pictures = [path for path in (tmp_path / "mlruns").rglob("*.png") if "sess_maps" in path.name]
    assert len(pictures) == 2
