"""What holds of every method that has a name: finite maps, no trace on the model, the cost that the docs say."""

import re

import pytest
import torch
from torch import nn

from sess_lightning import SESS
from sess_lightning.forwarding import memory_format
from sess_lightning.probing import probe
from sess_lightning.saliency import (
    RISE,
    XRAI,
    AugmentedGradCAM,
    ExtremalPerturbation,
    SmoothGrad,
    SmoothGradCAMPlusPlus,
    method_names,
)
from sess_lightning.saliency.registry import resolve_method
from tests.helpers.nets import assert_untouched, fingerprint, seeded

# The same methods with less work, where a test asks nothing of their amount.
SHORT = {
    "augmented_gradcam": lambda: AugmentedGradCAM(num_copies=3, num_steps=3),
    "extremal_perturbation": lambda: ExtremalPerturbation(num_steps=3),
    "rise": lambda: RISE(num_masks=20),
    "smooth_gradcam++": lambda: SmoothGradCAMPlusPlus(num_samples=2),
    "smoothgrad": lambda: SmoothGrad(num_samples=2),
    "xrai": lambda: XRAI(steps=3, algorithm="fast"),
}
CHANNELS = 32
# Seconds each at full size: run by hand.
FULL_SIZE = [
    pytest.param(name, marks=pytest.mark.slow if name in ("extremal_perturbation", "augmented_gradcam", "xrai") else ())
    for name in method_names()
]


class Tiny(nn.Module):
    """Batch norm, dropout, an in-place activation: things that a careless method would disturb."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.Conv2d(8, CHANNELS, 3, stride=2, padding=1), nn.ReLU(inplace=True),
        )  # fmt: skip
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(CHANNELS, 4))

    def forward(self, x):
        return self.head(self.trunk(x))


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tiny().train()
        model(torch.randn(4, 3, 64, 64)).sum().backward()  # gradients and running statistics to lose
        model.trunk[0].weight.requires_grad_(False)
        model.trunk[1].eval()
        model.trunk[3].register_forward_hook(lambda module, args, output: None)
        with torch.no_grad():
            model.trunk[3].bias += 0.1  # every channel alive
            model.head[3].weight *= 30  # classes that masks can tell apart
        return model


def skip_without_its_library(name):
    if name == "integrated_gradients":
        pytest.importorskip("captum")
    if name == "xrai":
        pytest.importorskip("saliency")


def short(name):
    skip_without_its_library(name)
    return SHORT.get(name, lambda: resolve_method(name))()


def documented_costs(root):
    """name: forwards, backwards to the layer, backwards to the pixels, as docs/methods.md says."""
    text = (root / "docs" / "methods.md").read_text()
    section = text.split("## What a patch costs")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| (\d+) \| (\d+) \|", section, re.MULTILINE)
    return {name: (forwards.strip(), int(layer), int(pixels)) for name, forwards, layer, pixels in rows}


def predicted(net, images):
    """In eval mode; the net's own modes stay."""
    with probe(net):
        return net(images).argmax(1)


class Meter:
    """Counts images that pass forwards, and gradients that pass backwards, by how far they go."""

    def __init__(self, model):
        self.forwards = self.backwards = self.to_pixels = 0
        model.register_forward_hook(self.on_logits)
        model.trunk[0].register_forward_hook(self.on_first)

    def on_logits(self, module, args, output):
        self.forwards += len(output)
        if output.requires_grad:
            output.register_hook(lambda gradient: self.add("backwards", len(gradient)))

    def on_first(self, module, args, output):
        if output.requires_grad:
            output.register_hook(lambda gradient: self.add("to_pixels", len(gradient)))

    def add(self, name, count):
        setattr(self, name, getattr(self, name) + count)

    def reset(self):
        self.forwards = self.backwards = self.to_pixels = 0


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_run_costs_what_the_docs_say_and_is_finite(name, net, root):
    skip_without_its_library(name)
    method, images = resolve_method(name), seeded(0, 1, 3, 64, 64)
    target = predicted(net, images)
    if hasattr(method, "resolved_layer"):
        method(net, images, target)  # the first call also looks for the layer
    memory_format(net, images)  # found out once, too
    meter = Meter(net)
    maps = method(net, images, target).maps
    assert torch.isfinite(maps).all()
    assert maps.ndim == 3
    assert maps.amax() > maps.amin()
    forwards, to_layer, to_pixels = documented_costs(root)[name]
    count = sum(CHANNELS if part.strip() == "channels" else int(part) for part in forwards.split("+"))
    assert (meter.forwards, meter.backwards - meter.to_pixels, meter.to_pixels) == (count, to_layer, to_pixels)


def test_every_name_is_documented(root):
    assert sorted(documented_costs(root)) == method_names()
    first_table = (root / "docs" / "methods.md").read_text().split("## What a patch costs")[0]
    assert sorted(re.findall(r"^\| `([a-z_+]+)` \|", first_table, re.MULTILINE)) == method_names()
    readme = (root / "README.md").read_text()
    table = readme.split("| `method=` | passes a patch |")[1].split("\n\n")[0]
    assert sorted(re.findall(r'`"([a-z_+]+)"`', table)) == method_names()
    assert f"SESS over {len(method_names())} base methods" in readme


@pytest.mark.parametrize("name", method_names())
def test_one_pass_says_so(name, root):
    skip_without_its_library(name)
    forwards, _, to_pixels = documented_costs(root)[name]
    assert resolve_method(name).single_pass == (forwards == "1" and to_pixels == 0)


@pytest.mark.parametrize("name", method_names())
def test_sess_with_it_leaves_no_trace(name, net):
    images, targets = seeded(0, 2, 3, 64, 80), torch.tensor([0, 3])
    before = fingerprint(net)
    result = SESS(short(name), num_scales=2, window_size=64, prefilter_ratio=0.5)(net, images, targets)
    assert torch.isfinite(result.maps).all()
    assert result.maps.shape == (2, 64, 80)
    assert_untouched(net, before)


class StopHereError(Exception):
    pass


@pytest.mark.parametrize("fail_at", [1, 3])
@pytest.mark.parametrize("name", method_names())
def test_an_exception_in_the_model_leaves_no_trace(name, fail_at, net):
    calls = 0

    def stop(module, args):
        nonlocal calls
        calls += 1
        if calls == fail_at:
            raise StopHereError

    method = short(name)
    net.head[3].register_forward_pre_hook(stop)
    before = fingerprint(net)
    try:
        method(net, seeded(0, 2, 3, 64, 64), torch.tensor([0, 3]))
    except StopHereError:
        failed = True
    else:
        failed = False
    assert failed or fail_at > 1
    assert_untouched(net, before)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_each_image_has_its_own_class_and_the_same_call_the_same_bits(name, net):
    images = seeded(0, 3, 3, 64, 64)
    targets = torch.cat([predicted(net, images[:1]), torch.tensor([3, 1])])
    together = short(name)(net, images, targets).maps
    assert torch.equal(together, short(name)(net, images, targets).maps)
    alone = torch.cat([short(name)(net, images[i : i + 1], targets[i : i + 1]).maps for i in range(3)])
    scale = together.abs().amax()
    torch.testing.assert_close(together / scale, alone / scale, rtol=0, atol=1e-4 if name in LOOSE else 1e-5)
    other = short(name)(net, images, (targets + 1) % 4).maps
    assert (other[0] - together[0]).abs().max() > 1e-7


# Rounding decides the order of nearly equal regions, and steps of an optimiser add up.
LOOSE = {"extremal_perturbation", "xrai"}
