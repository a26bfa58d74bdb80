"""Gradient checkpointing of models whose modules are called several times; who is blamed where it cannot work."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sess_lightning.saliency import (
    ExcitationBackprop,
    GradCAM,
    GradCAMPlusPlus,
    GroupCAM,
    GuidedBackprop,
    InputGradient,
)
from tests.helpers.nets import seeded

IMAGES, TARGETS = seeded(0, 2, 3, 12, 12), torch.tensor([1, 2])
# What lies in each checkpoint: convolutions by number, the activation behind them (a), pooling and classifier (p).
CUTS = ["0a1a2a3ap", "0a1|a2a3ap", "0a|1a2a|3ap", "0|a1a|2|a3|ap", "0a1a|2a3a|p"]


class Net(nn.Module):
    """Four convolutions behind each other with one activation module for all, or one each, in checkpoints."""

    def __init__(self, cuts, shared, kind=None):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.convs = nn.ModuleList(nn.Conv2d(6 if i else 3, 6, 3, padding=1) for i in range(4))
            self.classifier = nn.Linear(6, 4)
        self.activations = nn.ModuleList([nn.ReLU()] * 4 if shared else [nn.ReLU() for _ in range(4)])
        self.cuts, self.kind = cuts.split("|"), kind

    def forward(self, x):
        for cut in self.cuts:
            x = self.run(cut, x) if self.kind is None else checkpoint(self.run, cut, x, use_reentrant=self.kind)
        return x

    def run(self, cut, x):
        number = int(next((c for c in cut if c.isdigit()), 0))
        for step in cut:
            if step == "p":
                x = self.classifier(x.mean((2, 3)))
            elif step == "a":
                x = self.activations[number](x)
            else:
                number = int(step)
                x = self.convs[number](x)
        return x


@pytest.mark.parametrize("shared", [True, False], ids=["one activation", "four"])
@pytest.mark.parametrize("layer", ["convs.0", "convs.1", "convs.2", "convs.3", None])
@pytest.mark.parametrize("cuts", CUTS)
def test_maps_are_those_without_checkpointing(cuts, layer, shared):
    methods = [lambda: GradCAM(layer), lambda: GradCAMPlusPlus(layer), lambda: GroupCAM(layer, groups=3)]
    if layer is None:
        methods = [methods[0], InputGradient, GuidedBackprop]
    for make in methods:
        expected = make()(Net(cuts, shared), IMAGES, TARGETS).maps
        model, method = Net(cuts, shared, kind=False), make()
        for _ in range(3):  # later calls know where gradients are switched
            assert torch.equal(method(model, IMAGES, TARGETS).maps, expected)


@pytest.mark.parametrize("shared", [True, False])
def test_reentrant_checkpointing_is_blamed_where_it_is_the_cause(shared):
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        GradCAM("convs.1")(Net("0a1a2a3ap", shared, kind=True), IMAGES, TARGETS)


def test_a_method_that_replaces_derivatives_is_blamed_for_itself():
    expected = ExcitationBackprop("convs.2")(Net("0a1a2a3ap", True), IMAGES, TARGETS).maps
    assert expected.any()
    with pytest.raises(RuntimeError, match="excitation backprop") as raised:
        ExcitationBackprop("convs.2")(Net("0a1a2a3ap", True, kind=False), IMAGES, TARGETS)
    assert "if self.training" in str(raised.value)
    assert "reentrant" not in str(raised.value)


def test_a_part_that_runs_another_way_the_second_time_is_blamed_for_itself():
    class Fickle(Net):
        runs = 0

        def run(self, cut, x):
            self.runs += 1
            return super().run(cut if self.runs == 1 else cut.replace("a2", "2a"), x)

    with pytest.raises(RuntimeError, match="went another way than the first time") as raised:
        GradCAM("convs.1")(Fickle("0a1a2a3ap", True, kind=False), IMAGES, TARGETS)
    assert "reentrant" not in str(raised.value)
