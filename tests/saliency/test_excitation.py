"""Excitation backprop: examples by hand, probability kept on the way down, sums, what is refused."""

import pytest
import torch
import torchvision
from torch import nn

from sess_lightning.saliency import ExcitationBackprop
from tests.helpers.nets import seeded


def linear(weight, bias=False):
    layer = nn.Linear(len(weight[0]), len(weight), bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def head(*layers):
    """A network whose target layer `0` is a 2 x 2 image of one channel, as it is."""
    return nn.Sequential(nn.Identity(), nn.Flatten(), *layers)


IMAGE = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def explained(net, contrastive=False, target=0):
    return ExcitationBackprop("0", contrastive)(net, IMAGE, torch.tensor([target])).maps[0]


def test_one_layer_by_hand():
    """Weights 1, -1, 2, 0 over 1, 2, 3, 4: shares 1/7, 0, 6/7, 0."""
    net = head(linear([[1.0, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
    torch.testing.assert_close(explained(net), torch.tensor([[1 / 7, 0], [6 / 7, 0]]))


def test_contrast_by_hand():
    """Negated, only the second weight counts: its share 1 is subtracted and cut."""
    net = head(linear([[1.0, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
    torch.testing.assert_close(explained(net, True), torch.tensor([[1 / 7, 0], [6 / 7, 0]]))
    both = head(linear([[1.0, 1.0], [1.0, -1.0]]))
    both.insert(2, linear([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]]))  # sums 5 and 5
    # Class 1: all to the first sum, none to the second; not class 1: the other way round.
    torch.testing.assert_close(explained(both, True, 1), torch.tensor([[1 / 5, 0], [0, 4 / 5]]))


def test_two_layers_by_hand_and_the_bias_takes_no_part():
    first, last = linear([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]], bias=True), linear([[3.0, 1.0]] * 2)
    with torch.no_grad():
        first.bias.copy_(torch.tensor([1.0, -3.0]))  # hidden 4 and 4
    net = head(first, nn.ReLU(), last)
    # Of the class 3/4 goes to the first hidden neuron, split 1 : 2, and 1/4 to the second, split 3 : 4.
    expected = torch.tensor([[1 / 4, 1 / 2], [3 / 28, 1 / 7]])
    torch.testing.assert_close(explained(net), expected)


class Residual(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form
        self.scale = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.constant_(self.scale.weight, 3.0)

    def forward(self, x):
        y = self.scale(x)
        if self.form == "+=":
            y += x
        elif self.form == "add_":
            y.add_(x)
        else:
            y = x + y if self.form == "+" else torch.add(y, x)
        return y


@pytest.mark.parametrize("form", ["+", "+=", "add_", "torch.add"])
def test_a_sum_is_split_in_proportion(form):
    """x + 3 x: all of it comes from x, wherever it went through; a double count would give twice the share."""
    net = nn.Sequential(nn.Identity(), Residual(form), nn.Flatten(), linear([[1.0, 1.0, 1.0, 1.0]] * 2))
    torch.testing.assert_close(explained(net), IMAGE[0, 0] / 10)


def test_class_0_of_one_logit_is_what_speaks_against():
    net = head(linear([[1.0, -1.0, 2.0, -1.0]]))
    torch.testing.assert_close(explained(net, target=0), torch.tensor([[0, 1 / 3], [0, 2 / 3]]))
    torch.testing.assert_close(explained(net, target=1), torch.tensor([[1 / 7, 0], [6 / 7, 0]]))


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["relu", "layer1", "layer2", "layer3", None]),
        ("vgg11_bn", ["features.10", None]),
        ("googlenet", ["inception4a", None]),
        ("densenet121", [None]),
    ],
)
def test_probability_is_kept_on_the_way_down(name, layers):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {"init_weights": False} if name == "googlenet" else {}
        model = torchvision.models.get_model(name, weights=None, num_classes=10, **options).eval()
    images, targets = seeded(0, 2, 3, 96, 128), torch.tensor([3, 7])
    for layer in layers:
        explanation = ExcitationBackprop(layer)(model, images, targets)
        torch.testing.assert_close(explanation.maps.sum((1, 2)), torch.ones(2), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(explanation.logits, model(images))


def test_half_precision_stays_finite():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2)).to(torch.bfloat16)
    maps = ExcitationBackprop("1")(net, torch.zeros(1, 3, 8, 8, dtype=torch.bfloat16), torch.tensor([0])).maps
    assert torch.isfinite(maps).all()


def test_attention_above_the_layer_is_refused():
    model = torchvision.models.VisionTransformer(32, 16, 2, 2, 16, 32, num_classes=4)
    with pytest.raises(ValueError, match=r"no rule for attention.*Take GradCAM"):
        ExcitationBackprop()(model, seeded(0, 1, 3, 32, 32), torch.tensor([1]))


def test_no_layer_above_is_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="Choose an earlier target_layer"):
        ExcitationBackprop("0")(net, seeded(0, 1, 3, 8, 8), torch.tensor([1]))
