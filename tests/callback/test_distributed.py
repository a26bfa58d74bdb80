"""SESSCallback on two gloo processes gives the numbers of one process on the same samples."""

import json

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sess_lightning import SESSCallback
from tests.helpers.processes import two_devices
from tests.helpers.training import METRICS, POINTING, Module, Pictures, collate_targets, keys, trainer


class Save(pl.Callback):
    """Writes what was logged, as spawned processes take their trainer with them."""

    def __init__(self, file):
        self.file = file

    def on_validation_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            self.file.write_text(json.dumps({k: float(v) for k, v in trainer.callback_metrics.items()}))


def validate(tmp_path, callback=None, count=12, **options):
    file = tmp_path / "metrics.json"
    callback = callback or SESSCallback(indices=[0, 1, 2, 5, 7])
    t = trainer(tmp_path, callback, Save(file), **options)
    loader = DataLoader(Pictures("targets", count=count), batch_size=3, collate_fn=collate_targets)
    t.validate(Module(), loader, verbose=False)
    return json.loads(file.read_text())


needs_gloo = pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")


@needs_gloo
def test_two_processes_log_what_one_logs(tmp_path):
    one = validate(tmp_path)
    two = validate(tmp_path, **two_devices())
    assert set(two) == set(one) == keys(METRICS | POINTING, 1)
    assert two["sess/num_samples"] == 5
    for key in set(one) - {"sess/seconds"}:
        assert two[key] == pytest.approx(one[key], abs=1e-5), key


@needs_gloo
def test_a_process_without_samples_is_harmless(tmp_path):
    """Row 20: it takes part in every synchronisation and adds nothing."""
    options = {"indices": [0, 2], "num_images": 2}  # both go to the first of two processes
    one = validate(tmp_path, SESSCallback(**options))
    two = validate(tmp_path, SESSCallback(**options), **two_devices())
    assert two["sess/num_samples"] == 2
    for key in set(one) - {"sess/seconds"}:
        assert two[key] == pytest.approx(one[key], abs=1e-5), key


@needs_gloo
def test_pictures_show_samples_of_all_processes_and_are_written_by_one(tmp_path):
    """Of the samples 0 to 3 each process has two: the picture has all four, in the order of the data set."""
    callback = SESSCallback(indices=[0, 1, 2, 3], num_images=4, save_dir=str(tmp_path / "two"))
    validate(tmp_path, callback, **two_devices())
    alone = SESSCallback(indices=[0, 1, 2, 3], num_images=4, save_dir=str(tmp_path / "one"))
    validate(tmp_path, alone)
    (two,), (one,) = (list((tmp_path / name / "sess_maps").glob("*.npz")) for name in ("two", "one"))
    first, second = np.load(one), np.load(two)
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_allclose(first[name], second[name], atol=1e-5)


@needs_gloo
def test_a_padded_sampler_repeats_samples(tmp_path):
    """Row 21: of 3 samples on 2 processes Lightning's sampler gives one twice, and so it counts twice."""
    values = validate(tmp_path, SESSCallback(num_samples=8), count=3, **two_devices())
    assert values["sess/num_samples"] == 4
