"""Bit-identity for models whose forward itself writes, logs or counts; see `test_bit_identical.py` for the matrix."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from sess_lightning import SESSCallback
from tests.helpers.nets import seeded
from tests.helpers.odd_nets import InPlace, Odd, Stateful, Views
from tests.helpers.training import small_sess


class Training(pl.LightningModule):
    """Trains a network and logs from its steps."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0].clone()), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("loss", F.cross_entropy(self(batch[0].clone()), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)


class LogsInForward(Training):
    """Logs numbers and metrics of every forward."""

    def __init__(self, net):
        super().__init__(net)
        self.mean, self.accuracy = MeanMetric(), MulticlassAccuracy(4, average="micro")

    def forward(self, x):
        logits = self.net(x)
        if not self.training:
            self.mean.update(logits.mean())
            self.log("brightness", x.mean(), on_epoch=True)
            self.log_dict({"highest": logits.max(), "mean": self.mean}, on_epoch=True)
        return logits

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.accuracy(self.net(batch[0].clone()), batch[1])
        self.log("accuracy", self.accuracy)


class Nested(Training):
    """A LightningModule that logs, inside another."""

    def __init__(self, net):
        super().__init__(LogsInForward(net))

    def on_validation_start(self):
        self.net._trainer, self.net._current_fx_name = self.trainer, "validation_step"


def observed():
    """A network for eager quantisation-aware training: fake quantisation with observers that write in every mode."""
    from torch.ao.quantization import DeQuantStub, QuantStub, get_default_qat_qconfig, prepare_qat

    net = nn.Sequential(QuantStub(), Odd().trunk, nn.Flatten(), Odd().head, DeQuantStub()).train()
    net.qconfig = get_default_qat_qconfig("fbgemm")
    return prepare_qat(net)


CASES = {
    "buffers written in eval mode": lambda: Training(Stateful()),
    "logging in forward": lambda: LogsInForward(Odd()),
    "logging in the forward of a part": lambda: Nested(Odd()),
    "input changed in place": lambda: Training(InPlace()),
    "views": lambda: Training(Views()),
    "quantisation-aware training": lambda: Training(observed()),
}


def run(name, tmp_path, watched):
    pl.seed_everything(7, verbose=False)
    module = CASES[name]()
    callback = SESSCallback(small_sess(), num_samples=3, num_images=1)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, callbacks=[callback] if watched else [],
    )  # fmt: skip
    data = TensorDataset(seeded(1, 8, 3, 16, 16), torch.arange(8) % 4)
    trainer.fit(module, DataLoader(data, batch_size=4, shuffle=True), DataLoader(data, batch_size=4))
    if watched:
        assert trainer.callback_metrics["sess/num_samples"] == 3
    logged = {key: value for key, value in trainer.callback_metrics.items() if not key.startswith("sess/")}
    net = module.net
    attributes = (net.calls, net.total, len(net.seen), net.noise.get_state()) if isinstance(net, Stateful) else ()
    return module.state_dict(), trainer.optimizers[0].state_dict(), logged, attributes


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_watched_training_ends_where_the_unwatched_ends(name, tmp_path):
    if name == "quantisation-aware training" and "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("needs fbgemm")
    weights, optimizer, logged, attributes = run(name, tmp_path, watched=False)
    weights_2, optimizer_2, logged_2, attributes_2 = run(name, tmp_path, watched=True)
    assert weights.keys() == weights_2.keys()
    assert all(torch.equal(weights[key], weights_2[key]) for key in weights)
    for number, state in optimizer["state"].items():
        assert all(torch.equal(value, optimizer_2["state"][number][key]) for key, value in state.items())
    assert len(logged) >= 1
    assert logged == logged_2
    assert all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
        for a, b in zip(attributes, attributes_2, strict=True)
    )
