"""Training with the callback ends bit for bit where training without it ends: the matrix, covered in pairs."""

import random
from itertools import combinations, product
from typing import NamedTuple

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch import callbacks as lightning_callbacks
from torch import nn
from torch.nn import functional as F
from torch.nn.modules import module as module_hooks
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from sess_lightning import SESS, SESSCallback
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import seeded

EMAWeightAveraging = getattr(lightning_callbacks, "EMAWeightAveraging", None)  # came with Lightning 2.6


class Case(NamedTuple):
    entry: str
    trunk: str
    precision: str
    inference_mode: bool
    compiled: str
    workers: int
    fails: bool
    follows: bool


LEVELS = Case(
    ("fit", "validate", "test"),
    ("batch-norm", "frozen batch-norm", "dropout", "in-place ReLU", "frozen backbone", "no_grad trunk",
     "checkpointing", "averaging before", "averaging after"),
    ("32-true", "bf16-mixed", "bf16-true"), (True, False), ("no", "module", "submodule"), (0, 2), (False, True),
    (False, True),
)  # fmt: skip

CASES = [
    Case("fit", "batch-norm", "32-true", True, "submodule", 2, False, False),
    Case("test", "batch-norm", "bf16-true", False, "no", 0, True, False),
    Case("validate", "batch-norm", "bf16-mixed", False, "module", 0, True, True),
    Case("fit", "frozen batch-norm", "32-true", False, "module", 0, False, False),
    Case("test", "frozen batch-norm", "bf16-mixed", True, "no", 2, True, True),
    Case("validate", "frozen batch-norm", "bf16-true", False, "submodule", 0, False, False),
    Case("fit", "dropout", "bf16-mixed", False, "no", 2, True, False),
    Case("test", "dropout", "bf16-true", True, "submodule", 0, False, True),
    Case("test", "dropout", "bf16-mixed", True, "module", 0, False, False),
    Case("validate", "dropout", "32-true", True, "no", 0, False, True),
    Case("fit", "in-place ReLU", "32-true", False, "no", 0, False, False),
    Case("test", "in-place ReLU", "bf16-mixed", True, "submodule", 0, True, False),
    Case("validate", "in-place ReLU", "bf16-true", True, "module", 2, True, True),
    Case("fit", "frozen backbone", "bf16-true", False, "module", 0, False, True),
    Case("test", "frozen backbone", "32-true", False, "submodule", 2, True, False),
    Case("validate", "frozen backbone", "bf16-mixed", True, "no", 0, True, True),
    Case("fit", "no_grad trunk", "bf16-true", False, "submodule", 2, True, True),
    Case("test", "no_grad trunk", "bf16-mixed", True, "no", 0, False, False),
    Case("validate", "no_grad trunk", "32-true", True, "module", 0, True, True),
    Case("fit", "checkpointing", "bf16-true", True, "no", 0, True, False),
    Case("test", "checkpointing", "32-true", True, "module", 0, True, True),
    Case("validate", "checkpointing", "bf16-mixed", False, "submodule", 2, False, False),
    Case("fit", "averaging before", "32-true", True, "module", 0, False, False),
    Case("fit", "averaging before", "bf16-true", False, "no", 2, True, True),
    Case("fit", "averaging before", "bf16-mixed", True, "submodule", 0, False, True),
    Case("fit", "averaging after", "bf16-mixed", True, "module", 0, False, True),
    Case("fit", "averaging after", "bf16-true", False, "no", 2, True, False),
    Case("fit", "averaging after", "32-true", False, "submodule", 2, False, False),
]


def possible(case):
    """Weight averaging exists in fit only."""
    return case.entry == "fit" or not case.trunk.startswith("averaging")


def pairs(case):
    return set(combinations(zip(Case._fields, case, strict=True), 2))


def test_every_possible_pair_of_levels_is_in_a_case():
    wanted = set().union(*(pairs(case) for case in map(Case._make, product(*LEVELS)) if possible(case)))
    assert wanted == set().union(*map(pairs, CASES))


class Module(pl.LightningModule):
    """Two blocks and a head, as each case asks."""

    def __init__(self, case):
        super().__init__()
        torch.manual_seed(0)
        self.case = case
        norm = nn.BatchNorm2d(6) if "batch-norm" in case.trunk else nn.Identity()
        drop = nn.Dropout(0.5) if case.trunk == "dropout" else nn.Identity()
        inplace = case.trunk == "in-place ReLU"
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), norm, nn.ReLU(inplace), nn.Conv2d(6, 6, 3, 2, 1), drop, nn.ReLU(inplace)
        )
        self.head = nn.Linear(6, 4)
        if case.trunk == "frozen backbone":
            self.trunk.requires_grad_(False)
        if case.compiled == "submodule":
            self.trunk = torch.compile(self.trunk, backend="eager")

    def train(self, mode=True):
        super().train(mode)
        if self.case.trunk == "frozen batch-norm":
            self.trunk[1].eval() if self.case.compiled != "submodule" else self.trunk._orig_mod[1].eval()
        return self

    def forward(self, x):
        if self.case.trunk == "checkpointing":
            x = checkpoint(self.trunk, x, use_reentrant=False)
        elif self.case.trunk == "no_grad trunk":
            with torch.no_grad():
                x = self.trunk(x)
        else:
            x = self.trunk(x)
        return self.head(x.mean((2, 3)))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("loss", F.cross_entropy(self(batch[0]), batch[1]))

    test_step = validation_step

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]


class Failing:
    """Grad-CAM that raises in the middle of an explanation, the model under its hooks, after some good calls."""

    def __init__(self, good_calls):
        self.good_calls, self.raised = good_calls, 0

    def __call__(self, model, images, targets):
        self.good_calls -= 1
        if self.good_calls >= 0:
            return GradCAM()(model, images, targets)

        def stop(*args):
            self.raised += 1
            raise ValueError("planted")

        handle = model.head.register_forward_hook(stop)
        try:
            return GradCAM()(model, images, targets)
        finally:
            handle.remove()


class GradientsStay(pl.Callback):
    """Every `p.grad` is the same object with the same values before and after a validation: rows 1 and 12."""

    def on_validation_start(self, trainer, pl_module):
        self.before = [(p.grad, None if p.grad is None else p.grad.clone()) for p in pl_module.parameters()]
        self.modes = [m.training for m in pl_module.modules()]

    def on_validation_end(self, trainer, pl_module):
        for p, (grad, value) in zip(pl_module.parameters(), self.before, strict=True):
            assert p.grad is grad
            assert grad is None or torch.equal(grad, value)
        assert [m.training for m in pl_module.modules()] == self.modes


def loader(case, count, shuffle):
    data = TensorDataset(seeded(1, count, 3, 16, 16), torch.arange(count) % 4)
    return DataLoader(data, batch_size=2, shuffle=shuffle, num_workers=case.workers)


def run(case, tmp_path, watched):
    """Run the case and return everything that could have changed."""
    pl.seed_everything(7, verbose=False)
    module = Module(case)
    model = torch.compile(module, backend="eager") if case.compiled == "module" else module
    good_calls = (12 if case.follows else 8) if case.entry == "fit" else 1
    method = Failing(good_calls) if case.fails else GradCAM()
    # Every validation is recorded, every third is drawn as well: drawing takes longer than the training.
    written = {"save_dir": str(tmp_path), "num_images": 2, "every_n_epochs": 3}
    follow = ("random", "worst", "new_errors") if case.follows else "random"
    sess = SESS(method, num_scales=2, window_size=16)
    ours = [SESSCallback(sess, num_samples=3, follow=follow, **written)] if watched else []
    averaging = [EMAWeightAveraging(decay=0.5)] if case.trunk.startswith("averaging") else []
    callbacks = averaging + ours if case.trunk == "averaging before" else ours + averaging
    # Four batches an epoch: a validation while gradients are gathered, and one after the two steps.
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, accumulate_grad_batches=3, val_check_interval=2, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        callbacks=[*callbacks, GradientsStay()], precision=case.precision, inference_mode=case.inference_mode,
    )  # fmt: skip
    arguments = (loader(case, 8, True), loader(case, 6, False)) if case.entry == "fit" else (loader(case, 6, False),)
    try:
        options = {} if case.entry == "fit" else {"verbose": False}
        getattr(trainer, case.entry)(model, *arguments, **options)
    except ValueError as error:
        # In fit the failure comes after a good validation, and only warns.
        if case.entry == "fit" or str(error) != "planted":
            raise
    if watched and case.fails:
        assert method.raised
    if watched and case.follows and not case.fails:
        assert bool(list(tmp_path.glob("sess_worst/*.png"))) == (case.compiled != "module")
    if watched and not case.fails:
        assert trainer.callback_metrics["sess/num_samples"] == 3
    return trainer, module


def state(trainer, module):
    return {
        "weights": {k: v.clone() for k, v in module.state_dict().items()},
        "optimizers": [o.state_dict() for o in trainer.optimizers],
        "schedulers": [c.scheduler.state_dict() for c in trainer.lr_scheduler_configs],
        "scaler": trainer.precision_plugin.state_dict(),
        "gradients": [p.grad for p in module.parameters()],
        "requires_grad": [p.requires_grad for p in module.parameters()],
        "modes": [m.training for m in module.modules()],
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "hooks": [
            len(hooks) for m in module.modules()
            for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
        ] + [len(module_hooks._global_forward_pre_hooks), len(module_hooks._global_forward_hooks)],
        "random": (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()),
        "loss": trainer.callback_metrics.get("loss"),
    }  # fmt: skip


def assert_equal(one, other, path):
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{path}/{i}")
    else:
        assert one == other, path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_watched_training_ends_where_the_unwatched_ends(case, tmp_path):
    """Rows 1, 2, 3, 4, 5, 7, 8, 11, 12, 13, 14, 24 and 48 of docs/pitfalls.md."""
    if case.trunk.startswith("averaging") and EMAWeightAveraging is None:
        pytest.skip("this Lightning has no EMAWeightAveraging")
    torch._dynamo.reset()
    expected = state(*run(case, tmp_path, watched=False))
    torch._dynamo.reset()
    found = state(*run(case, tmp_path, watched=True))
    if case.fails and case.entry != "fit":  # it ended early: Lightning has neither logged nor set the modes back
        for key in ("loss", "modes"):
            del expected[key], found[key]
    assert_equal(found, expected, "")
