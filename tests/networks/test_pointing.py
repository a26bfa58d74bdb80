"""The pointing game's networks: files in the published layout against plain networks written out by hand."""

import re

import pytest
import torch
import torchvision
from torch.nn import functional as F

from sess_lightning import SESS
from sess_lightning.classifier import LitClassifier
from sess_lightning.networks import build_network, load_network
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import seeded
from tests.helpers.published_weights import VGG_CONVOLUTIONS, published_resnet50, published_vgg16

MEAN_RGB = torch.tensor([123.68, 116.779, 103.939])


def pixels(side, seed=0):
    """A photo `(1, 3, side, side)`, RGB, 0 to 255."""
    return (seeded(seed, 1, 3, side // 8, side // 8).sigmoid() * 255).repeat_interleave(8, 2).repeat_interleave(8, 3)


def caffe_input(photo):
    return (photo - MEAN_RGB.view(1, 3, 1, 1)).flip(1)


def our_input(photo, network):
    return torchvision.transforms.v2.functional.normalize(photo / 255, list(network.mean), list(network.std))


def caffe_vgg16_features(state, x):
    """The last activation that is a map."""
    for index in VGG_CONVOLUTIONS:
        if index in (5, 10, 17, 24):
            x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = F.relu(F.conv2d(x, state[f"features.{index}.weight"], state[f"features.{index}.bias"], padding=1))
    return x


def caffe_vgg16_head(state, activation):
    """Logits `(N, K)`."""
    x = F.max_pool2d(activation, 2, 2, ceil_mode=True).flatten(1)
    for index in (0, 2, 4):
        weight, bias = state[f"classifier.{index}.weight"].flatten(1), state[f"classifier.{index}.bias"]
        x = F.linear(F.relu(x) if index else x, weight, bias)
    return x


def caffe_name(key):
    """As published: statistics of a batch norm in a module `.0`, its scale in a module `.1`."""
    module, _, kind = key.rpartition(".")
    if not re.search(r"bn\d$|downsample\.1$", module):
        return key
    return f"{module}.{0 if kind.startswith('running') else 1}.{kind}"


def caffe_resnet50(state, x):
    """Logits `(N, K)`."""

    def normalised(x, name):
        return F.batch_norm(x, *(state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))

    x = F.conv2d(x, state["conv1.weight"], state["conv1.bias"], stride=2, padding=3)
    x = F.max_pool2d(F.relu(normalised(x, "bn1")), 3, 2, ceil_mode=True)
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for number in range(blocks):
            name, stride = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
            y = F.relu(normalised(F.conv2d(x, state[f"{name}.conv1.weight"], stride=stride), f"{name}.bn1"))
            y = F.relu(normalised(F.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2"))
            y = normalised(F.conv2d(y, state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if number == 0:
                shortcut = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
                x = normalised(shortcut, f"{name}.downsample.1")
            x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "vgg16_voc.pth"
    state = published_vgg16(20)
    torch.save(state, file)
    network = load_network("pointing_vgg16", str(file))
    network.module.eval().requires_grad_(False)
    return network, state


@pytest.fixture(scope="module", params=[20, 80])
def resnet(tmp_path_factory, request):
    file = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    state = published_resnet50(request.param)
    torch.save({caffe_name(key): value for key, value in state.items()}, file)
    network = load_network("pointing_resnet50", str(file))
    network.module.eval().requires_grad_(False)
    return network, state, file


def assert_same_logits(found, expected):
    assert found.shape == (*expected.shape, 1, 1)
    torch.testing.assert_close(found[:, :, 0, 0], expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("side", [224, 200])
def test_vgg16_is_caffes(vgg, side):
    """At 200 pixels pooling has to round up: 25 becomes 13."""
    network, state = vgg
    with torch.no_grad():
        found = network.module(our_input(pixels(side), network))
        assert_same_logits(found, caffe_vgg16_head(state, caffe_vgg16_features(state, caffe_input(pixels(side)))))


def test_vgg16_is_explained(vgg):
    """The layer is found, and the map is Grad-CAM's formula; with one scale and a square photo it is also SESS's."""
    network, state = vgg
    activation = caffe_vgg16_features(state, caffe_input(pixels(224))).requires_grad_(True)
    logits = caffe_vgg16_head(state, activation)
    target = logits.argmax(1)
    (gradient,) = torch.autograd.grad(logits.max(), activation)
    expected = F.relu((gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True)).detach()
    expected = F.interpolate(expected, size=(224, 224), mode="bilinear", align_corners=False)[0, 0]
    expected = (expected - expected.min()) / (expected.max() - expected.min())

    method = GradCAM()
    sess = SESS(method, num_scales=1, window_size=224, smooth=False, activation="sigmoid")
    result = sess(network.module, our_input(pixels(224), network), target)
    assert method.resolved_layer == "features.29"
    torch.testing.assert_close(result.maps[0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(result.scores[0], logits.detach().amax(1).sigmoid(), rtol=1e-4, atol=0)


def test_vgg16_names_its_smallest_image(vgg):
    with pytest.raises(ValueError, match=r"at least 193 x 193 pixels for pointing_vgg16.*got 192 x 224.*of 224"):
        vgg[0].module(torch.zeros(1, 3, 192, 224))
    assert vgg[0].module(torch.zeros(1, 3, 193, 224)).shape == (1, 20, 1, 1)


def test_vgg16_is_fully_convolutional(vgg):
    """A wider image gives the logits of its windows side by side: the last grid is wider by one for 32 pixels."""
    grid = seeded(0, 1, 512, 7, 8)
    head = vgg[0].module.head
    wide = head(grid)
    assert wide.shape == (1, 20, 1, 2)
    torch.testing.assert_close(wide, torch.cat([head(grid[..., :7]), head(grid[..., 1:])], 3), rtol=1e-4, atol=1e-5)


def test_resnet50_is_caffes(resnet):
    network, state, _ = resnet
    with torch.no_grad():
        expected = caffe_resnet50(state, caffe_input(pixels(224)))
        assert_same_logits(network.module(our_input(pixels(224), network)), expected)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_resnet50_is_explained(resnet, activation):
    """A multi-label head may be scored either way; the scores are those of the patches."""
    network, state, _ = resnet
    logits = caffe_resnet50(state, caffe_input(pixels(224)))
    expected = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
    method = GradCAM()
    sess = SESS(method, num_scales=1, window_size=224, activation=activation)
    result = sess(network.module, our_input(pixels(224), network), logits.argmax(1))
    assert method.resolved_layer == "layer4"
    torch.testing.assert_close(result.scores[0], expected.amax(1), rtol=1e-4, atol=0)
    assert result.valid.all()


def test_what_the_networks_expect(vgg, resnet):
    for network in (vgg[0], resnet[0]):
        assert network.input_size == (224, 224)
        torch.testing.assert_close(torch.tensor(network.mean) * 255, MEAN_RGB)
        torch.testing.assert_close(torch.tensor(network.std) * 255, torch.ones(3))
    assert vgg[0].class_names[14] == "person"
    names = resnet[0].class_names
    assert names[0] == ("aeroplane" if len(names) == 20 else "person")
    assert len(names) in (20, 80)


def test_own_weights_are_not_converted_again(resnet, tmp_path):
    network, _, _ = resnet
    torch.save(network.module.state_dict(), tmp_path / "own.pth")
    again = load_network("pointing_resnet50", str(tmp_path / "own.pth"))
    assert all(torch.equal(a, b) for a, b in zip(network.module.parameters(), again.module.parameters(), strict=True))


def test_a_classifier_of_lightning(resnet):
    """Its loss and accuracy read logits of any form."""
    _, state, file = resnet
    classifier = LitClassifier(
        "pointing_resnet50", num_classes=len(state["fc.weight"]), input_size=64, weights=str(file)
    )
    logged = {}
    classifier.log = lambda name, value, **options: logged.update({name: value})
    classifier.eval().validation_step((torch.zeros(2, 3, 64, 64), torch.tensor([0, 1])), 0)
    assert set(logged) == {"val_loss", "val_acc"}


def test_weights_are_asked_for():
    with pytest.raises(ValueError, match=r"'pointing_vgg16' \(none\), but got 'DEFAULT'.*docs/data\.md"):
        load_network("pointing_vgg16", "DEFAULT")


def test_weights_of_another_network(tmp_path):
    torch.save(torchvision.models.resnet50(num_classes=20).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"(?s)other\.pth do not fit 'pointing_resnet50'.*conv1\.bias"):
        build_network("pointing_resnet50", 20, str(tmp_path / "other.pth"))
