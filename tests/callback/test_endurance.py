"""Row 13: many validations and many samples leave memory, files and threads as they are. Run by hand with -m slow."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn
from torch.utils.data import DataLoader, Dataset

from sess_lightning import SESS, SESSCallback
from sess_lightning.metrics import DeletionAUC, EnergyPointingGame, InsertionAUC, PointingGame, SaliencyDrift
from tests.helpers.nets import seeded
from tests.helpers.training import Module, loader, trainer

PROCESS = Path("/proc/self")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROCESS.exists(), reason="memory, files and threads are read from /proc"),
]


def resident():
    """Megabytes."""
    return int((PROCESS / "statm").read_text().split()[1]) * 4096 / 2**20


class Watch(pl.Callback):
    """Resident megabytes, open files and threads after each validation."""

    def __init__(self):
        self.megabytes, self.files, self.threads = [], [], []

    def on_validation_end(self, trainer, pl_module):
        self.megabytes.append(resident())
        self.files.append(len(list((PROCESS / "fd").iterdir())))
        self.threads.append(len(list((PROCESS / "task").iterdir())))
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in pl_module.modules())


def test_a_thousand_validations_leave_all_as_it_is(tmp_path):
    """With every feature on: two loaders, pictures, files, charts, metrics that compare, a limit of time."""
    metrics = {
        "insertion": InsertionAUC(steps=3), "deletion": DeletionAUC(steps=3), "pointing": PointingGame(num_classes=4),
        "drift": SaliencyDrift(), "energy": EnergyPointingGame(),
    }  # fmt: skip
    callback = SESSCallback(
        SESS(num_scales=2, window_size=None), num_samples=2, num_images=1, every_n_epochs=20, metrics=metrics,
        max_seconds=60, save_dir=str(tmp_path / "maps"), forward_fn=lambda module, images, batch: module(images),
    )  # fmt: skip
    watch = Watch()
    t = trainer(tmp_path, callback, watch, ModelCheckpoint(tmp_path, monitor="sess/overall/dataloader_idx_0"),
                max_epochs=334, val_check_interval=1, num_sanity_val_steps=0, logger=TensorBoardLogger(tmp_path),
                enable_checkpointing=True)  # fmt: skip
    t.fit(Module(), loader(), [loader("targets"), loader("targets", seed=1)])
    assert len(watch.megabytes) == 1002
    early, end = np.median(watch.megabytes[50:70]), np.median(watch.megabytes[-20:])
    print(f"resident: {watch.megabytes[0]:.0f} MB first, {early:.0f} MB after 50, {end:.0f} MB at the end, "
          f"{max(watch.megabytes):.0f} MB at most; {watch.files[50]} to {watch.files[-1]} files, "
          f"{watch.threads[50]} to {watch.threads[-1]} threads")  # fmt: skip
    assert end < 1.02 * early
    assert len(set(watch.files[50:])) == len(set(watch.threads[50:])) == 1


class Photos(Dataset):
    """Made when they are asked for: they take no memory. Noise, which no compression makes smaller."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        return seeded(i, 3, 375, 500), i % 4


class Coarse(Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                                 nn.Linear(4, 4))  # fmt: skip


class Highest(pl.Callback):
    """Resident megabytes at most, seen at every batch."""

    def __init__(self):
        self.megabytes = 0

    def on_validation_batch_end(self, *hook):
        self.megabytes = max(self.megabytes, resident())


def test_a_thousand_followed_photos_take_little_memory(tmp_path):
    sess = SESS(lambda model, images, targets: images.mean(1), num_scales=1, window_size=None, smooth=False)
    callback = SESSCallback(sess, num_samples=1000, metrics={"drift": SaliencyDrift()}, save_dir=str(tmp_path))
    highest, module = Highest(), Coarse()
    t = trainer(tmp_path, callback, highest, max_epochs=3, num_sanity_val_steps=0, limit_train_batches=1)
    torch.ones(2**24).sum()  # what the first work takes is no part of it
    before = resident()
    t.fit(module, DataLoader(Photos(8), batch_size=4), DataLoader(Photos(1000), batch_size=8))
    assert t.callback_metrics["sess/num_samples"] == 1000
    print(f"resident: {before:.0f} MB before, {highest.megabytes - before:.0f} MB more at most")
    assert highest.megabytes - before < 1500
