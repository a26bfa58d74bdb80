"""The target layer of the usual architectures, of one's own networks, and what is said when it cannot be found."""

import gc
import logging
import weakref

import pytest
import torch
import torchvision
from torch import nn

from sess_lightning.layers import find_target_layer, get_layer, to_grid, tokens_to_grid
from sess_lightning.probing import probe
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import assert_untouched, fingerprint, seeded, small_cnn


def found(model, size=(224, 224)):
    with probe(model):
        return find_target_layer(model, torch.zeros(1, 3, *size))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("vgg11", "features.19"),
        ("vgg16", "features.29"),
        ("densenet121", "features.norm5"),
        ("mobilenet_v2", "features.18"),
        ("mobilenet_v3_small", "features.12"),
        ("squeezenet1_1", "features.12"),
        ("convnext_tiny", "features.7"),
        ("swin_t", "features.7"),
        ("efficientnet_b0", "features.8"),
        ("shufflenet_v2_x0_5", "conv5"),
        ("mnasnet0_5", "layers.16"),
        ("googlenet", "inception5b"),
    ],
)
def test_layer_of_torchvision_models(name, layer):
    """Row 36."""
    kwargs = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    with torch.device("meta"):  # in convolutional networks, shapes and paths in the graph are all that the search needs
        model = torchvision.models.get_model(name, weights=None, **kwargs)
        with probe(model):
            assert find_target_layer(model, torch.zeros(1, 3, 224, 224)) == layer


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet10t", "layer4"),
        ("densenet121", "features.norm5"),  # its norm holds the ReLU
        ("mobilenetv3_small_050", "blocks"),
        ("efficientnet_lite0", "bn2"),
        ("convnext_atto", "stages"),
        ("regnety_002", "s4"),
        ("vit_tiny_patch16_224", "blocks.11.norm1"),
        ("deit_tiny_distilled_patch16_224", "blocks.11.norm1"),
        ("swin_tiny_patch4_window7_224", "layers"),  # attention in windows
        ("pvt_v2_b0", "stages"),  # attention, then maps
    ],
)
def test_layer_of_timm_models(name, layer):
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        model = timm.create_model(name, pretrained=False, num_classes=5).eval()
    with torch.no_grad():
        assert find_target_layer(model, torch.zeros(1, 3, 224, 224)) == layer


def test_layer_of_torchvision_vit():
    """Its head begins with zeros."""
    with torch.random.fork_rng():
        model = torchvision.models.VisionTransformer(32, 8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32)
    assert found(model, (32, 32)) == "encoder.layers.encoder_layer_2.ln_1"


def test_prefix_of_a_nested_model():
    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.ModuleDict({"backbone": small_cnn()})

        def forward(self, x):
            return self.net["backbone"](x)

    assert found(Module(), (32, 32)) == "net.backbone.4"


def test_a_class_map_is_not_taken():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert found(model, (16, 16)) == "1"


def test_as_many_channels_as_classes_is_no_class_map_when_a_linear_layer_follows():
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 5))
    assert found(model, (16, 16)) == "1"


def test_a_small_grid_warns_with_the_way_out(caplog):
    with caplog.at_level(logging.WARNING):
        assert found(torchvision.models.resnet18(num_classes=2), (32, 32)) == "layer3"
    assert "2 x 2" in caplog.text
    assert "target_layer=" in caplog.text


def test_scripted_parts_are_passed_over():
    model = small_cnn()
    assert found(model, (20, 20)) == "4"
    model[-1] = torch.jit.script(model[-1])
    assert found(model, (20, 20)) == "4"


def test_no_map_at_all():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
    with pytest.raises(ValueError, match=r"no layer with a spatial map.*target_layer="):
        found(model, (8, 8))


def test_unknown_name_lists_the_nearest():
    model = torchvision.models.resnet18()
    with pytest.raises(ValueError, match=r"but got 'layr4'.*Nearest names:.*layer4"):
        get_layer(model, "layr4")


def test_name_without_its_prefix_is_suggested():
    with pytest.raises(ValueError, match=r"Nearest names: net\.4"):
        get_layer(nn.ModuleDict({"net": small_cnn()}), "4")


def test_module_of_another_model():
    with pytest.raises(ValueError, match="a module of the model that is explained"):
        get_layer(small_cnn(), nn.ReLU())
    model = small_cnn()
    assert get_layer(model, model[4]) == get_layer(model, "4") == "4"


def test_grids():
    tokens = seeded(0, 2, 1 + 4 + 6, 5)  # class token, four registers, 2 x 3
    expected = tokens[:, 5:].transpose(1, 2).reshape(2, 5, 2, 3)
    assert torch.equal(to_grid(tokens, (32, 48)), expected)
    assert torch.equal(tokens_to_grid(2, 3, 5)(tokens), expected)
    channels_last = seeded(1, 2, 4, 6, 64)
    assert torch.equal(to_grid(channels_last, (32, 48)), channels_last.permute(0, 3, 1, 2))
    maps = seeded(2, 2, 64, 4, 6)
    assert to_grid(maps, (32, 48)) is maps
    with pytest.raises(ValueError, match=r"for a grid of 3 x 3 behind 0 prefix tokens, but the layer gives 11"):
        tokens_to_grid(3, 3, 0)(tokens)
    with pytest.raises(ValueError, match=r"got \(2, 8\).*reshape="):
        to_grid(seeded(0, 2, 8), (32, 32))


class Squared(nn.Module):
    """Resizes what comes to a square."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x):
        return self.net(nn.functional.interpolate(x, (24, 24)))


def stretched():
    """Strides of its own for each axis."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=(4, 1), padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )


@pytest.mark.parametrize(
    ("make", "layer", "grid"), [(Squared, "net.4", (12, 12)), (stretched, "1", (8, 64))], ids=["resized", "strides"]
)
@pytest.mark.parametrize("given", [True, False])
def test_maps_of_another_aspect(make, layer, grid, given):
    model = make().eval()
    method = GradCAM(layer if given else None)
    assert method(model, seeded(0, 2, 3, 32, 64), torch.tensor([0, 1])).maps.shape == (2, *grid)
    assert method.resolved_layer == layer


class Auxiliary(nn.Module):
    """A decoder to look at, and a classifier that does not read it."""

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU()), nn.Conv2d(8, 4, 1)
        self.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))

    def forward(self, x):
        features = self.encoder(x)
        self.mask = self.decoder(features).detach()
        return self.classifier(features)


def test_what_the_logits_do_not_depend_on_is_not_taken():
    assert found(Auxiliary(), (32, 32)) == "encoder.1"


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2)
        self.blocks = nn.ModuleList([nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1)) for _ in range(2)])
        self.add = nn.ModuleList([Added() for _ in range(2)])
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        for block, add in zip(self.blocks, self.add, strict=True):
            x = add(x, block(x))
        return self.head(x.mean((2, 3)))


class Added(nn.Module):
    def forward(self, x, y):
        return x + y


def test_the_sum_rather_than_the_branch():
    assert found(Residual(), (32, 32)) == "add.1"


class Frozen(nn.Module):
    def __init__(self, detached):
        super().__init__()
        self.net, self.detached = small_cnn(), detached

    def forward(self, x):
        with torch.no_grad():
            y = self.net[:5](x)
        return self.net[5:](y.detach()) + x.mean((1, 2, 3))[:, None] if self.detached else self.net[5:](y)


def test_a_trunk_under_no_grad():
    assert found(Frozen(False), (20, 20)) == "net.4"


def test_a_trunk_that_is_detached_is_named():
    with pytest.raises(ValueError, match=r"no gradient reaches 'net\.4' or any other map.*detach"):
        found(Frozen(True), (20, 20))


def test_the_search_leaves_nothing_behind():
    model = small_cnn().train()
    model[3].weight.requires_grad_(False)
    before = fingerprint(model)
    assert found(model, (20, 20)) == "4"
    assert_untouched(model, before)


def test_attention_matrices_are_no_maps():
    """A matrix of 16 x 16 tokens has the aspect of a square image."""
    weights = nn.Softmax(-1)

    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.weights, self.head = nn.Conv2d(3, 8, 8, 8), weights, nn.Linear(8, 4)

        def forward(self, x):
            x = self.conv(x).flatten(2)[:, None]  # one head (N, 1, C, T)
            mixed = x @ self.weights(x.transpose(2, 3) @ x)
            return self.head(mixed.mean(3)[:, 0])

    assert found(Attending(), (32, 32)) == "conv"


def test_the_search_keeps_no_activation():
    """Row 13: a hook of autograd that holds its own tensor is a cycle that Python cannot collect."""
    seen = []
    net = small_cnn()
    handle = net[0].register_forward_hook(lambda module, args, output: seen.append(weakref.ref(output)))
    find_target_layer(net, seeded(0, 2, 3, 32, 32))
    handle.remove()
    gc.collect()
    assert seen
    assert not any(output() is not None for output in seen)
