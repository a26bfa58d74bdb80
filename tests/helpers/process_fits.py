"""A fit on two processes, and what the scenes of it share."""

import torch
from torchmetrics import Metric

from sess_lightning import SESSCallback
from tests.helpers.training import Module, loader, trainer

SMALL = {"num_samples": 4, "num_images": 2, "compare_base": False}


class Kept(Metric):
    """The images' means, kept one by one: lists of another length on each process."""

    full_state_update = False

    def __init__(self):
        super().__init__()
        self.add_state("means", [], dist_reduce_fx="cat")

    def update(self, images):
        self.means.append(images.mean((1, 2, 3)))

    def compute(self):
        return torch.cat(self.means if isinstance(self.means, list) else [self.means]).sum()


class Counting(SESSCallback):
    """Counts validations."""

    validations = 0

    def on_validation_start(self, trainer, pl_module):
        self.validations += not trainer.sanity_checking
        super().on_validation_start(trainer, pl_module)


def fit(folder, callback, *others, validation=None, module=None, **options):
    """A fit with this callback on both processes; returns the trainer and the module."""
    torch.manual_seed(3)
    module = module or Module()
    t = trainer(folder, *([callback] if callback else []), *others, devices=2, **{"strategy": "ddp", **options})
    t.fit(module, loader(), loader() if validation is None else validation)
    return t, module


def logged(t):
    return {key: float(value) for key, value in t.callback_metrics.items()}
