"""Fits that follow the worst and the newly wrong samples, and a plain loop over the loader to hold them against."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from sess_lightning import SESSCallback
from sess_lightning.metrics import DeletionAUC, InsertionAUC, PointingGame
from tests.helpers.nets import seeded, small_cnn
from tests.helpers.training import Pictures, loader, small_sess, trainer

ALL = ("random", "worst", "new_errors")
COUNT = 22
CALLS = {
    "self(x)": lambda m, x: m(x),
    "self.net(x)": lambda m, x: m.net(x),
    "keyword": lambda m, x: m(x=x),
    "parts in turn": lambda m, x: m.net[-1](m.net[:-1](x)),
    "net.forward(x)": lambda m, x: m.net.forward(x),
    "two calls, the plain one first": lambda m, x: (m(x) + m(x.flip(3))) / 2,
    "two calls, the plain one last": lambda m, x: (m(x.flip(3)) + m(x)) / 2,
    "changed in place": lambda m, x: m(x).mul_(-3),
}


class CallingModule(pl.LightningModule):
    """Trains on labels; its step calls the network as it is told."""

    def __init__(self, call=CALLS["self(x)"], norm=True):
        super().__init__()
        self.net, self.call, self.forwards = small_cnn(norm=norm), call, 0

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.forwards += 1
        images, labels = batch
        loss = F.cross_entropy(self.call(self, images), labels.clamp(min=0))
        self.log("val", loss)
        return loss

    test_step = validation_step

    def on_train_epoch_end(self):
        """Other classes are preferred in every epoch, so that some samples become wrong."""
        bias = list(self.parameters())[-1]
        bias.data += 0.3 * seeded(self.current_epoch, len(bias))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


class Reference(Callback):
    """A plain loop over the loader, with the weights of each validation: losses and errors by sample."""

    def __init__(self, images, labels):
        self.images, self.labels, self.rows = images, labels, []

    def on_validation_start(self, trainer, pl_module):
        if not trainer.sanity_checking:
            with torch.no_grad():
                logits = pl_module.net(self.images)  # in eval mode, as Lightning has set it
                loss = F.cross_entropy(logits, self.labels, reduction="none")
                self.rows.append((loss.tolist(), (logits.argmax(1) != self.labels).tolist()))

    def worst(self, number, count):
        losses, _ = self.rows[number]
        return sorted(range(len(losses)), key=lambda i: -losses[i])[:count]

    def new_errors(self, number, count):
        losses, wrong = self.rows[number]
        before = self.rows[number - 1][1] if number else [True] * len(wrong)
        new = [i for i in range(len(wrong)) if wrong[i] and not before[i]]
        return sorted(new, key=lambda i: -losses[i])[:count]


class Keeping(SESSCallback):
    """Keeps what every validation showed."""

    def _values(self, *arguments):
        found = super()._values(*arguments)
        self.__dict__.setdefault("kept", []).append(self._trackers[0].notable)
        return found


def ours(folder, follow=ALL, **options):
    given = {"num_samples": 5, "num_images": 3, "save_dir": str(folder), "follow": follow, **options}
    return Keeping(given.pop("sess", None) or small_sess(), **given)


def finding(folder, follow=ALL, **options):
    """What finds samples in every validation and draws those of the first alone: drawing takes most of the time.

    The metrics call the network, as they always do, in fewer steps.
    """
    metrics = {"insertion": InsertionAUC(steps=5), "deletion": DeletionAUC(steps=5), "pointing": PointingGame()}
    return ours(folder, follow, **{"every_n_epochs": 99, "metrics": metrics, **options})


def data(count=COUNT, seed=1):
    pictures = Pictures(count=count, seed=seed)
    return pictures.images, pictures.labels


def fit(folder, callback, call=CALLS["self(x)"], module=None, shuffle=False, **options):
    images, labels = data()
    reference = Reference(images, labels)
    torch.manual_seed(3)
    module = module or CallingModule(call)
    t = trainer(folder, reference, *([callback] if callback else []), **{"max_epochs": 3, **options})
    validation = DataLoader(TensorDataset(images, labels), batch_size=4, shuffle=shuffle)
    t.fit(module, loader(count=16), validation)
    return t, module, reference


def numbers(found, images):
    """Which images were found."""
    return [next(i for i in range(len(images)) if torch.equal(images[i], one)) for one in found.images]


def assert_as_the_plain_loop(callback, reference, count=3):
    assert len(callback.kept) == len(reference.rows)
    for number, notable in enumerate(callback.kept):
        assert numbers(notable.found["worst"], reference.images) == reference.worst(number, count)
        assert numbers(notable.found["new_errors"], reference.images) == reference.new_errors(number, count)
        losses = [reference.rows[number][0][i] for i in reference.worst(number, count)]
        assert notable.losses["worst"] == pytest.approx(losses, rel=1e-4)
