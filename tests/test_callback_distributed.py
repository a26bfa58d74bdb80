"""SESSCallback on two gloo processes gives the numbers of one process on the same samples."""

import json

import lightning.pytorch as pl
import pytest
import torch
from test_callback import METRICS, POINTING, Module, Pictures, collate_targets, keys, trainer
from torch.utils.data import DataLoader

from sess_lightning import SESSCallback


class Save(pl.Callback):
    """Writes what was logged, as spawned processes take their trainer with them."""

    def __init__(self, file):
        self.file = file

    def on_validation_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            self.file.write_text(json.dumps({k: float(v) for k, v in trainer.callback_metrics.items()}))


def validate(tmp_path, **options):
    file = tmp_path / "metrics.json"
    callbacks = (SESSCallback(indices=[0, 1, 2, 5, 7]), Save(file))
    t = trainer(tmp_path, *callbacks, **options)
    loader = DataLoader(Pictures("targets"), batch_size=3, collate_fn=collate_targets)
    t.validate(Module(), loader, verbose=False)
    return json.loads(file.read_text())


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_log_what_one_logs(tmp_path):
    one = validate(tmp_path)
    two = validate(tmp_path, strategy="ddp_spawn", devices=2)
    assert set(two) == set(one) == keys(METRICS | POINTING)
    assert two["sess/num_samples"] == 5
    for key in set(one) - {"sess/seconds"}:
        assert two[key] == pytest.approx(one[key], abs=1e-5), key
