"""Input gradient and guided backpropagation on every kind of rectifier, and what they leave behind."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from sess_lightning import SESS
from sess_lightning.saliency import GuidedBackprop, InputGradient
from sess_lightning.saliency.gradient import grey
from tests.helpers.nets import seeded

IMAGES, TARGETS = seeded(0, 3, 3, 20, 24), torch.tensor([0, 2, 1])


class Net(nn.Module):
    """Two convolutions with an activation after each, called as the test likes."""

    def __init__(self, activation):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
            self.head = nn.Linear(8, 3)
        self.activation = activation

    def forward(self, x):
        x = self.activation(3 * self.first(x))
        return self.head(self.activation(3 * self.second(x)).mean((2, 3)))


class Rule(torch.autograd.Function):
    """The guided rule written down: a clamp whose gradient passes where it is positive and the input within bounds."""

    @staticmethod
    def forward(ctx, x, high):
        ctx.save_for_backward((x > 0) & (x < high))
        return x.clamp(0, high)

    @staticmethod
    def backward(ctx, gradient):
        (passes,) = ctx.saved_tensors
        return gradient * passes * (gradient > 0), None


def plain_gradient(net, images=IMAGES):
    leaf = images.clone().requires_grad_(True)
    with torch.enable_grad():
        net(leaf).gather(1, TARGETS[: len(images), None]).sum().backward()
    return leaf.grad


RELU, RELU6 = Net(lambda x: Rule.apply(x, float("inf"))), Net(lambda x: Rule.apply(x, 6.0))


@pytest.mark.parametrize(
    ("activation", "rule"),
    [
        (nn.ReLU(), RELU),
        (nn.ReLU(inplace=True), RELU),
        (F.relu, RELU),
        (torch.relu, RELU),
        (torch.relu_, RELU),
        (lambda x: F.relu(x, inplace=True), RELU),
        (lambda x: x.relu(), RELU),
        (lambda x: x.relu_(), RELU),
        (nn.ReLU6(), RELU6),
        (nn.ReLU6(inplace=True), RELU6),
        (F.relu6, RELU6),
        (lambda x: F.hardtanh(x, min_val=0.0, max_val=6.0), RELU6),
    ],
    ids=["module", "module inplace", "F.relu", "torch.relu", "torch.relu_", "F.relu inplace", "x.relu", "x.relu_",
         "ReLU6", "ReLU6 inplace", "F.relu6", "hardtanh"],
)  # fmt: skip
def test_every_rectifier_is_guided_on_every_call(activation, rule):
    expected = grey(plain_gradient(rule))
    method, net = GuidedBackprop(), Net(activation)
    for _ in range(2):  # the published code is guided the first time only
        torch.testing.assert_close(method(net, IMAGES, TARGETS).maps, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(expected, InputGradient()(net, IMAGES, TARGETS).maps, atol=1e-2)


@pytest.mark.parametrize("activation", [F.silu, nn.GELU(), nn.Hardswish(), nn.Hardtanh(), nn.LeakyReLU()])
def test_other_activations_keep_their_derivative_and_that_is_said(activation):
    net = Net(activation)
    with pytest.warns(UserWarning, match="no relu or relu6 in Net.*InputGradient"):
        maps = GuidedBackprop()(net, IMAGES, TARGETS).maps
    torch.testing.assert_close(maps, grey(plain_gradient(net)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", [InputGradient(), GuidedBackprop()], ids=["gradient", "guidedbp"])
class TestBoth:
    def expected(self, method):
        return grey(plain_gradient(RELU if isinstance(method, GuidedBackprop) else Net(nn.ReLU())))

    def test_one_target_per_sample(self, method):
        net = Net(nn.ReLU())
        together = method(net, IMAGES, TARGETS)
        for i in range(3):
            alone = method(net, IMAGES[i : i + 1], TARGETS[i : i + 1])
            torch.testing.assert_close(together.maps[i], alone.maps[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.logits, net(IMAGES).detach(), rtol=0, atol=1e-6)

    def test_nothing_is_left_behind(self, method):
        net = Net(nn.ReLU(inplace=True)).train()
        marker = torch.ones_like(net.head.bias)
        net.head.bias.grad = marker
        images = IMAGES.clone()
        method(net, images, TARGETS)
        assert net.head.bias.grad is marker
        assert net.first.weight.grad is None
        assert torch.equal(images, IMAGES)
        assert images.grad is None
        assert not images.requires_grad
        assert all(m.training for m in net.modules())
        assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in net.modules())

    def test_inference_mode(self, method):
        net = Net(nn.ReLU())
        with torch.inference_mode():
            maps = method(net, IMAGES.clone(), TARGETS.clone()).maps
        torch.testing.assert_close(maps, self.expected(method), rtol=0, atol=1e-5)

    def test_frozen_weights_and_a_trunk_without_gradients(self, method):
        class NoGradTrunk(Net):
            def forward(self, x):
                with torch.no_grad():
                    x = self.activation(3 * self.first(x))
                    x = self.activation(3 * self.second(x)).mean((2, 3))
                return self.head(x)

        net = NoGradTrunk(nn.ReLU()).requires_grad_(False)
        torch.testing.assert_close(method(net, IMAGES, TARGETS).maps, self.expected(method), rtol=0, atol=1e-5)

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpointing(self, method, reentrant):
        class Checkpointed(Net):
            def forward(self, x):
                x = checkpoint(lambda y: self.activation(3 * self.first(y)), x, use_reentrant=reentrant)
                return self.head(self.activation(3 * self.second(x)).mean((2, 3)))

        if reentrant:
            with pytest.raises(RuntimeError, match="use_reentrant=False"):
                method(Checkpointed(nn.ReLU()), IMAGES, TARGETS)
        else:
            maps = method(Checkpointed(nn.ReLU()), IMAGES, TARGETS).maps
            torch.testing.assert_close(maps, self.expected(method), rtol=0, atol=1e-5)

    def test_a_model_that_detaches_is_named(self, method):
        net = Net(nn.ReLU())
        net.first.register_forward_hook(lambda module, args, output: output.detach())
        with pytest.raises(RuntimeError, match=r"No gradient .* reaches the image.*\n?.*detaches"):
            method(net, IMAGES, TARGETS)

    def test_a_target_out_of_range(self, method):
        with pytest.raises(ValueError, match=r"0\.\.2.*but got 3"):
            method(Net(nn.ReLU()), IMAGES, torch.tensor([0, 3, 1]))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_other_dtypes(self, method, dtype):
        net = copy.deepcopy(Net(nn.ReLU())).to(dtype)
        maps = method(net, IMAGES.to(dtype), TARGETS).maps
        assert maps.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        assert (maps.double() - self.expected(method)).abs().mean() < (1e-6 if dtype == torch.float64 else 0.03)

    def test_compiled(self, method):
        net = torch.compile(Net(nn.ReLU()), backend="eager")
        net(IMAGES)
        torch.testing.assert_close(method(net, IMAGES, TARGETS).maps, self.expected(method), rtol=0, atol=1e-5)


def test_guided_on_every_patch():
    """The published code guides the first patch only: every patch must equal its own guided map."""
    image = seeded(1, 1, 3, 40, 40)
    sess = SESS("guidedbp", num_scales=2, window_size=32, smooth=False, batch_size=2)
    patch_maps = sess(Net(nn.ReLU()), image, torch.tensor([1]), keep_patches=True).patch_maps[0]
    by_rule = SESS(lambda m, x, t: GuidedBackprop()(m, x, t).maps, num_scales=2, window_size=32, smooth=False)
    expected = by_rule(Net(nn.ReLU()), image, torch.tensor([1]), keep_patches=True).patch_maps[0]
    torch.testing.assert_close(patch_maps, expected, rtol=0, atol=1e-4)
    assert len(patch_maps) > 3


@pytest.mark.parametrize("pixels", [4, 30, 480])
def test_grey_is_numpys_percentile(pixels):
    gradient = seeded(2, 2, 3, pixels // 2, 2)
    magnitude = gradient.abs().sum(1).double().numpy()
    for one, magnitudes in zip(grey(gradient), magnitude, strict=True):
        low, high = magnitudes.min(), np.percentile(magnitudes, 99)
        np.testing.assert_allclose(one.numpy(), np.clip((magnitudes - low) / (high - low), 0, 1), atol=1e-5)


def test_grey_of_a_map_with_a_few_bright_pixels_and_of_none():
    gradient = torch.zeros(2, 1, 20, 20)
    gradient[0, 0, 3, 4], gradient[0, 0, 5, 5] = -2.0, 1.0
    maps = grey(gradient)
    assert maps[0, 3, 4] == 1
    assert maps[0, 5, 5] == 0.5
    assert maps[0].count_nonzero() == 2
    assert not maps[1].any()
