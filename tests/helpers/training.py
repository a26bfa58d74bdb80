"""A small module, its loaders and a trainer: what tests of the callback train."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from sess_lightning import SESS
from tests.helpers.nets import seeded, small_cnn

METRICS = {"insertion_auc", "deletion_auc", "overall"}


POINTING = {"pointing_acc"}


BOOKS = {"sess/seconds", "sess/num_samples", "sess/valid_fraction"}


RELIANCE = {"sess/object_reliance", "sess/background_reliance"}  # where there are objects


def keys(names, validations=2):
    """What is logged by this many validations: drift needs two, reliance needs objects, alarms need five right ones."""
    drift = {"drift"} if validations > 1 else set()
    found = {f"sess/{base}{name}" for name in {*names} | drift for base in ("", "base_")} | BOOKS
    return found | (RELIANCE if {*names} >= POINTING else set())


class Pictures(Dataset):
    """32 x 32 pictures, given in any of the usual forms."""

    def __init__(self, form="labels", count=12, seed=0):
        self.images, self.form = seeded(seed, count, 3, 32, 32), form
        self.labels = torch.arange(count) % 4

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, label = self.images[i], self.labels[i]
        target = {"boxes": torch.tensor([[2.0, 3.0, 30.0, 29.0]]), "labels": label[None]}
        return {
            "labels": (image, label),
            "targets": (image, target),
            "dict": {"pixel_values": image, "labels": label},
            "images": image,
            "odd": {"left": image, "right": image},
        }[self.form]


def collate_targets(items):
    return torch.stack([image for image, _ in items]), [target for _, target in items]


class Module(pl.LightningModule):
    """Trains on `(images, labels)`; validation does nothing with its batch."""

    def __init__(self, **options):
        super().__init__()
        self.net = small_cnn(**options)

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        pass

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader(form="labels", **options):
    collate = collate_targets if form == "targets" else None
    return DataLoader(Pictures(form, **options), batch_size=4, collate_fn=collate)


def trainer(tmp_path, *callbacks, **options):
    defaults = {
        "accelerator": "cpu", "max_epochs": 2, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": tmp_path,
    }  # fmt: skip
    return pl.Trainer(callbacks=list(callbacks), **{**defaults, **options})


def run(tmp_path, callback, form="labels", module=None, **options):
    t = trainer(tmp_path, callback, **options)
    t.fit(module or Module(), loader(), loader(form))
    return t


def sess_keys(t):
    return {key for key in t.callback_metrics if "sess/" in key}


SMALL = {"num_samples": 3, "num_images": 1}


def small_sess(method="gradcam", **options):
    return SESS(method, num_scales=2, window_size=None, **options)
