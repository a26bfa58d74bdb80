"""Rows of docs/pitfalls.md about kinds of models and of their outputs; more of them are in test_pitfalls.py."""

import weakref

import pytest
import torch
import torchvision
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from sess_lightning import SESSCallback
from sess_lightning.layers import tokens_to_grid
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import seeded
from tests.helpers.training import SMALL, Module, loader, run, small_sess, trainer


class TwoOptimizers(Module):
    automatic_optimization = False

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.manual_backward(loss)
        for optimizer in self.optimizers():
            optimizer.step()
            optimizer.zero_grad()

    def configure_optimizers(self):
        return [torch.optim.SGD(part.parameters(), lr=0.1) for part in (self.net[:4], self.net[4:])]


def test_images_of_two_optimizers_lie_at_global_step(tmp_path):
    """Row 29: `trainer.global_step` counts the steps of both; the title says the epoch."""
    t = run(tmp_path, SESSCallback(small_sess(), **SMALL), module=TwoOptimizers(), logger=TensorBoardLogger(tmp_path))
    events = EventAccumulator(t.logger.log_dir, size_guidance={"images": 0}).Reload()
    assert [image.step for image in events.Images("sess/maps")] == [6, 12]


@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_one_and_of_many_channels(tmp_path, channels):
    data = [(seeded(i, channels, 32, 32), i % 4) for i in range(6)]
    options = {"mean": [0.0] * channels, "std": [1.0] * channels}
    callback = SESSCallback(small_sess(), save_dir=str(tmp_path / "out"), **SMALL, **options)
    module = Module(channels=channels)
    t = trainer(tmp_path, callback, max_epochs=1)
    t.fit(module, DataLoader(data, batch_size=3), DataLoader(data, batch_size=3))
    assert t.callback_metrics["sess/num_samples"] == 3
    assert len(list((tmp_path / "out" / "sess_maps").glob("*.png"))) == 1


class HuggingFace(Module):
    class Output:
        def __init__(self, logits):
            self.logits = logits

    def forward(self, x):
        return self.Output(self.net(x))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]).logits, batch[1])


def test_outputs_with_logits(tmp_path):
    """Row 33."""
    t = run(tmp_path, SESSCallback(small_sess(), **SMALL), module=HuggingFace(), max_epochs=1)
    assert t.callback_metrics["sess/num_samples"] == 3


def test_reentrant_checkpointing_is_refused_in_the_sanity_check(tmp_path):
    """Row 24."""

    class Reentrant(Module):
        def forward(self, x):
            x = torch.utils.checkpoint.checkpoint(self.net[:5], x, use_reentrant=True)
            return self.net[5:](x)

    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        run(tmp_path, SESSCallback(small_sess(GradCAM("net.2")), **SMALL), module=Reentrant())


def test_nothing_of_an_explanation_is_kept_alive(tmp_path):
    """Row 13: no graph, no activation, and what is kept lies on the CPU without gradients."""
    alive = []

    class Watched(Module):
        def __init__(self):
            super().__init__()
            self.net[4] = nn.ReLU()

    module = Watched()

    def remember(layer, args, output):
        alive.append(weakref.ref(output))

    module.net[3].register_forward_hook(remember)
    callback = SESSCallback(small_sess(), **SMALL)
    t = trainer(tmp_path, callback)
    t.validate(module, loader(), verbose=False)
    assert alive
    assert not any(reference() is not None for reference in alive)
    assert not any(one.requires_grad for one in callback.last_result.maps + callback.last_result.images)


class Transformer(Module):
    def __init__(self):
        super().__init__()
        self.net = torchvision.models.VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4
        )
        nn.init.normal_(self.net.heads.head.weight)


@pytest.mark.parametrize("reshape", [None, tokens_to_grid(4, 4)], ids=["found", "given"])
def test_a_vision_transformer(tmp_path, reshape):
    """Row 37: the layer before the last attention, its tokens on their grid."""
    layer = None if reshape is None else "net.encoder.layers.encoder_layer_1.ln_1"
    callback = SESSCallback(small_sess(GradCAM(layer, reshape)), **SMALL)
    t = run(tmp_path, callback, module=Transformer(), max_epochs=1)
    assert callback.sess.method.resolved_layer == "net.encoder.layers.encoder_layer_1.ln_1"
    assert t.callback_metrics["sess/num_samples"] == 3
