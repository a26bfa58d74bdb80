"""Rows 26 and 27: every logger that can show images gets them, with the real packages where they are installed."""

import inspect
import sys
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.loggers import log_image, log_report
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


class Plain(Logger):
    """A logger of another package; it can show pictures by the method that its subclass has."""

    name, version, save_dir = "plain", 0, None

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Usual(Plain):
    def __init__(self):
        super().__init__()
        self.sent = []

    @rank_zero_only
    def log_image(self, key, images, step=None, **options):
        self.sent.append((key, images, step))


def test_a_logger_with_the_usual_method_gets_it_too():
    """As SwanLab's: `log_image(key, images, step=None, **options)`."""
    logger = Usual()
    other = type("Other", (Plain,), {"log_image": lambda self, picture: pytest.fail("called")})()
    assert log_image([logger, other, Plain()], "sess/maps", GRID, 7) == ["Other", "Plain"]
    ((key, (image,), step),) = logger.sent
    assert (key, image.shape, step) == ("sess/maps", (4, 5, 3), 7)


def test_dvclive_and_aim(monkeypatch):
    live, experiment = fake("DVCLiveLogger")
    aim, aim_run = fake("AimLogger")
    monkeypatch.setitem(sys.modules, "aim", SimpleNamespace(Image=lambda picture: ("aim image", picture.size)))
    assert log_image([live, aim], "sess/maps", GRID, 7) == []
    ((name, (file, image), kwargs),) = experiment.calls
    assert (name, file, image.shape, kwargs) == ("log_image", "sess/maps/7.png", (4, 5, 3), {})
    ((name, (value,), kwargs),) = aim_run.calls
    assert (name, value, kwargs) == ("track", ("aim image", (5, 4)), {"name": "sess/maps", "step": 7})


def test_the_film_of_a_run_whose_logger_has_no_folder_lies_in_the_root(tmp_path):
    run(tmp_path, callback(), max_epochs=2, logger=Usual())
    assert (tmp_path / "sess_evolution.png").is_file()
    assert (tmp_path / "sess_evolution.gif").is_file()


def test_the_film_lies_in_the_folder_for_files_of_a_logger_without_a_log_folder(tmp_path):
    logger = Usual()
    logger.save_dir = str(tmp_path / "files")
    run(tmp_path, callback(), max_epochs=2, logger=logger)
    assert (tmp_path / "files" / "sess_evolution.png").is_file()


@pytest.mark.parametrize("save_dir", [False, True])
def test_where_no_logger_shows_pictures_the_way_out_is_said(tmp_path, recwarn, save_dir):
    own = callback()
    own.save_dir = str(tmp_path / "pictures") if save_dir else None
    run(tmp_path, own, max_epochs=2, logger=CSVLogger(tmp_path))
    said = [str(w.message) for w in recwarn if "cannot show images" in str(w.message)]
    assert said == ([] if save_dir else [said[0]])
    assert save_dir or "pass save_dir= to have `sess/maps` as PNG files" in said[0]


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


@pytest.fixture
def page(tmp_path):
    """A page with letters outside ASCII, which a console's encoding would not read."""
    file = tmp_path / "sess_report.html"
    file.write_text("<!DOCTYPE html>\n<title>größer, 日本</title>\n", encoding="utf-8")
    return file


def test_each_gets_the_report_its_way(page, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "wandb", SimpleNamespace(Html=lambda data, inject=True, data_is_not_path=False: (data, inject))
    )
    wandb, wandb_run = fake("WandbLogger")
    mlflow, client = fake("MLFlowLogger", run_id="r1")
    comet, comet_experiment = fake("CometLogger")
    others = {name: fake(name) for name in ("TensorBoardLogger", "CSVLogger", "DVCLiveLogger", "AimLogger")}
    nothing = [DummyLogger(), Usual(), Plain(), *(logger for logger, _ in others.values())]
    log_report([wandb, mlflow, *nothing, comet], "sess/report", page, 7)
    text = page.read_text(encoding="utf-8")
    assert wandb_run.calls == [("log", ({"sess/report": (text, False), "trainer/global_step": 7},), {})]
    assert client.calls == [("log_artifact", ("r1", str(page)), {})]
    options = {"file_name": "sess_report.html", "overwrite": True, "step": 7}
    assert comet_experiment.calls == [("log_asset", (str(page),), options)]
    assert [experiment.calls for _, experiment in others.values()] == [[]] * 4


def test_a_subclass_of_a_known_logger_gets_the_report(page):
    logger, experiment = fake("MLFlowLogger", run_id="r1")
    mine = type("Mine", (type(logger),), {"run_id": "r2"})()
    log_report([mine], "sess/report", page, 7)
    assert experiment.calls == [("log_artifact", ("r2", str(page)), {})]


def test_the_report_in_wandb_offline(page, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    logger = WandbLogger(save_dir=tmp_path, offline=True, project="test")
    for step in (3, 7):
        log_report([logger], "sess/report", page, step)
    summary = dict(logger.experiment.summary)
    wandb.finish()
    assert summary["sess/report"]["_type"] == "html-file"
    assert summary["trainer/global_step"] == 7
    pages = list(tmp_path.rglob("media/html/sess/report*.html"))
    assert [file.read_bytes() for file in pages] == [page.read_bytes()] * 2


def test_the_report_in_mlflow_in_a_local_folder(page, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logger = MLFlowLogger(tracking_uri=f"file:{tmp_path / 'mlruns'}")
    for step in (3, 7):
        log_report([logger], "sess/report", page, step)
    (stored,) = (tmp_path / "mlruns").rglob("sess_report.html")
    assert stored.read_bytes() == page.read_bytes()


def test_comet_has_the_method(page):
    """Its experiment needs an account; the call must at least fit."""
    comet = pytest.importorskip("comet_ml")
    signature = inspect.signature(comet.CometExperiment.log_asset)
    signature.bind(None, str(page), file_name=page.name, overwrite=True, step=7)
