"""With several validation loaders every number is logged under its loader's key, which other callbacks can monitor."""

import csv
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from sess_lightning import SESSCallback
from tests.helpers.training import SMALL, Module, loader, sess_keys, small_sess, trainer

MONITORED = "sess/insertion_auc/dataloader_idx_1"
LOADERS = ({"seed": 1}, {"form": "targets", "seed": 2})


def fit(folder, loaders, *callbacks, epochs=3):
    """One fit over these loaders; what was logged in each validation, by key."""
    torch.manual_seed(0)
    logger = CSVLogger(folder, name="", version="")
    options = {"max_epochs": epochs, "logger": logger, "enable_checkpointing": bool(callbacks)}
    t = trainer(folder, SESSCallback(small_sess(), **SMALL), *callbacks, **options)
    t.fit(Module(), loader(), [loader(**options) for options in loaders])
    with open(Path(folder) / "metrics.csv", newline="") as file:
        rows = [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]
    return t, [row for row in rows if any(key.startswith("sess/") for key in row)]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Both loaders, and callbacks of Lightning that monitor a number of the second."""
    folder = tmp_path_factory.mktemp("both")
    checkpoint = ModelCheckpoint(folder / "best", monitor=MONITORED, mode="max")
    stopping = EarlyStopping(MONITORED, mode="max", min_delta=1.0, patience=2)
    return *fit(folder, LOADERS, checkpoint, stopping, epochs=9), checkpoint, stopping


def test_each_value_is_that_of_a_run_with_this_loader_alone(both, tmp_path):
    _, rows, _, _ = both
    for number, options in enumerate(LOADERS):
        suffix = f"/dataloader_idx_{number}"
        _, alone = fit(tmp_path / str(number), [options])
        assert len(alone) == len(rows) == 3
        for row, expected in zip(rows, alone, strict=True):
            found = {key.removesuffix(suffix): value for key, value in row.items() if key.endswith(suffix)}
            expected = {key: value for key, value in expected.items() if key.startswith("sess/")}
            assert found.keys() == expected.keys()
            for key in found.keys() - {"sess/seconds"}:
                assert found[key] == expected[key], key


def test_model_checkpoint_keeps_the_best_by_a_number_of_the_second_loader(both):
    _, rows, checkpoint, _ = both
    assert float(checkpoint.best_model_score) == pytest.approx(max(row[MONITORED] for row in rows))
    assert Path(checkpoint.best_model_path).is_file()


def test_early_stopping_stops_by_a_number_of_the_second_loader(both):
    """No probability rises by more than 1, so that two validations after the first are in vain."""
    t, _, _, stopping = both
    assert (stopping.stopped_epoch, t.current_epoch) == (2, 3)


@pytest.mark.parametrize("walk", ["validate", "test"])
def test_what_validate_and_test_return(tmp_path, walk):
    t = trainer(tmp_path, SESSCallback(small_sess(), **SMALL))
    first, second = getattr(t, walk)(Module(), [loader(**options) for options in LOADERS], verbose=False)
    assert first == second  # as of all that is logged when the epoch ends
    assert set(first) == sess_keys(t)
    assert {float(value) for key, value in first.items() if "num_samples" in key} == {3.0}


def test_a_barebones_trainer_logs_nothing(tmp_path):
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"))
    t = trainer(tmp_path, SESSCallback(small_sess(), **SMALL), barebones=True, max_epochs=1, **options)
    t.fit(Module(), loader(), [loader(), loader()])
    assert not sess_keys(t)
