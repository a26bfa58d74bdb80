"""Every method on networks as people write them: as on the plain network that computes the same."""

import pytest
import torch
from torch import nn

from sess_lightning import SESS
from sess_lightning.saliency import RISE, ExtremalPerturbation, SmoothGrad, SmoothGradCAMPlusPlus
from sess_lightning.saliency.augmented import AugmentedGradCAM
from tests.helpers.nets import seeded, small_cnn
from tests.helpers.odd_nets import InPlace, InPlaceData, Odd, OneRow, OutOfPlace, Squeezes, SqueezesToNorm, Views

TARGET = torch.tensor([1])
METHODS = {
    "gradcam": "gradcam",
    "gradcam++": "gradcam++",
    "gradient": "gradient",
    "guidedbp": "guidedbp",
    "groupcam": "groupcam",
    "scorecam": "scorecam",
    "excitation_bp": "excitation_bp",
    "rise": RISE(num_masks=9),
    "smoothgrad": SmoothGrad(num_samples=3),
    "smooth_gradcam++": SmoothGradCAMPlusPlus(num_samples=3),
    "augmented": AugmentedGradCAM(num_copies=3, num_steps=3),
    "extremal": ExtremalPerturbation(areas=(0.2,), num_steps=2),
    "integrated_gradients": "integrated_gradients",
    "foreign": lambda model, images, targets: _twice(model, images, targets),
}


def _twice(model, images, targets):
    """A foreign method that needs its images again after a forward."""
    with torch.no_grad():
        model(images)
        score = model(images).gather(1, targets[:, None])[:, 0]
    return images.abs().sum(1) * score[:, None, None]


def explained(model, method, batch_size=2):
    """5 patches: the last batch holds one."""
    images = seeded(0, 1, 3, 24, 24).clamp(-0.4, 0.9)
    before = images.clone()
    result = SESS(method, num_scales=2, window_size=16, batch_size=batch_size)(model.eval(), images, TARGET)
    assert torch.equal(images, before)
    return result


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("kind", "plain"), [(Views, Odd), (InPlace, OutOfPlace), (InPlaceData, OutOfPlace), (Squeezes, Odd)]
)
def test_maps_and_scores_are_those_of_the_plain_network(kind, plain, name):
    if kind is InPlaceData and name in ("extremal", "gradient", "guidedbp", "smoothgrad", "integrated_gradients"):
        pytest.skip("a write behind autograd's back is no part of the gradient, as in the model's own training")
    if name in ("integrated_gradients",):
        pytest.importorskip("captum")
    found, expected = explained(kind(), METHODS[name]), explained(plain(), METHODS[name])
    assert torch.allclose(found.scores[0], expected.scores[0], atol=1e-6)
    assert bool(found.valid) == bool(expected.valid)
    assert torch.allclose(found.maps, expected.maps, atol=1e-4)


@pytest.mark.parametrize("name", ["gradcam", "gradient", "groupcam", "rise", "foreign", "integrated_gradients"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_network_that_fails_for_one_image_gets_two(name, batch_size):
    if name == "integrated_gradients":
        pytest.importorskip("captum")
    found = explained(SqueezesToNorm(), METHODS[name], batch_size)
    expected = explained(SqueezesToNorm(), METHODS[name], batch_size=5)  # none is alone
    assert torch.allclose(found.maps, expected.maps, atol=1e-4)


def test_a_network_that_averages_over_the_batch_is_refused():
    with pytest.raises(ValueError, match="one row of logits for each of"):
        explained(OneRow(), "gradcam")


class Frozen(Odd):
    """A trunk under inference mode, from which no gradient comes, up to the layer of this number."""

    def __init__(self, end):
        super().__init__()
        self.end = end

    def forward(self, x):
        with torch.inference_mode():
            x = self.trunk[: self.end](x)
        return self.head(self.trunk[self.end :](x).flatten(1))


class FrozenWhole(Odd):
    def forward(self, x):
        with torch.inference_mode():
            return super().forward(x)


def test_the_last_layer_of_a_trunk_under_inference_mode_is_read():
    found, expected = explained(Frozen(5), "gradcam"), explained(Odd(), "gradcam")
    assert torch.allclose(found.maps, expected.maps, atol=1e-5)


@pytest.mark.parametrize("net", [Frozen(6), FrozenWhole()])
@pytest.mark.parametrize("name", ["gradcam", "gradient"])
def test_gradients_out_of_inference_mode_are_refused_with_the_way_out(net, name):
    with pytest.raises(RuntimeError, match=r"(?s)inference mode.*(?i:rise)"):
        explained(net, name)


@pytest.mark.parametrize("compiled", [torch.jit.script, lambda net: torch.jit.trace(net, seeded(0, 2, 3, 16, 16))])
@pytest.mark.parametrize("part", [False, True])
def test_a_scripted_network_names_the_methods_that_work(compiled, part):
    net = compiled(small_cnn().eval())
    net = nn.Sequential(net) if part else net
    with pytest.raises(ValueError, match=r"TorchScript.*GradCAM.*'rise'"):
        explained(net, "gradcam")
    for name in ("rise", "gradient", "smoothgrad"):
        found, expected = explained(net, METHODS[name]), explained(small_cnn(), METHODS[name])
        assert torch.allclose(found.maps, expected.maps, atol=1e-4)
    with pytest.raises(ValueError, match=r"0\.\.3"):
        RISE(num_masks=2)(net, seeded(0, 1, 3, 16, 16), torch.tensor([9]))


def quantised():
    """A network whose convolution computes in int8, as eager and FX quantisation make it."""
    from torch.ao.nn import quantized

    torch.backends.quantized.engine = "fbgemm"
    return nn.Sequential(
        quantized.Quantize(torch.tensor(0.05), torch.tensor(128), torch.quint8), quantized.Conv2d(3, 8, 3),
        quantized.DeQuantize(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="needs fbgemm")
@pytest.mark.filterwarnings("ignore")
def test_an_int8_network_names_the_methods_that_work():
    net = quantised()
    for name in ("gradcam", "gradient", "groupcam", "scorecam", "excitation_bp"):
        with pytest.raises(ValueError, match=r"int8.*'rise'"):
            explained(net, name)
    assert torch.isfinite(explained(net, METHODS["rise"]).maps).all()
