"""Single-forward Grad-CAM against the full graph, in every kind of model it must work on."""

import copy
from functools import cache

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sess_lightning.saliency import GradCAM
from tests.helpers.nets import seeded, small_cnn


def full_graph(model, layer, images, targets, autocast=False):
    """Grad-CAM as its paper writes it, through the whole graph."""
    model = copy.deepcopy(model).eval().requires_grad_(True)
    seen = {}

    def hook(module, args, output):
        seen["activation"] = output
        return output.clone()  # an in-place activation may follow

    handle = model.get_submodule(layer).register_forward_hook(hook)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = model(images)
    handle.remove()
    score = logits.gather(1, targets[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, seen["activation"])
    a, g = seen["activation"].detach().float(), gradient.float()
    return (g.mean((2, 3), keepdim=True) * a).sum(1).relu(), logits.detach()


@cache
def random_network(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.get_model(name, weights=None, num_classes=10)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer4"),
        ("vgg11", "features.19"),
        ("mobilenet_v2", "features.18"),
        ("densenet121", "features.norm5"),
    ],
)
@pytest.mark.parametrize("autocast", [False, True])
def test_equals_the_full_graph(name, layer, autocast):
    model = random_network(name)
    images, targets = seeded(0, 2, 3, 64, 64), torch.tensor([3, 7])
    expected, logits = full_graph(model, layer, images, targets, autocast)
    method = GradCAM()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        explanation = method(model, images, targets)
    assert method.resolved_layer == layer
    scale = expected.amax()
    torch.testing.assert_close(explanation.maps / scale, expected / scale, rtol=0, atol=5e-2 if autocast else 1e-5)
    torch.testing.assert_close(explanation.logits, logits)


class OwnNoGrad(nn.Module):
    """Transfer learning: the trunk runs under the model's own no_grad, functional pooling follows outside."""

    def __init__(self, model):
        super().__init__()
        self.trunk, self.head = model[:5], model[5:]

    def forward(self, x):
        with torch.no_grad():
            features = self.trunk(x)
        pooled = features.mean((2, 3))  # no module between the block and this
        return self.head[-1](pooled)


class Checkpointed(nn.Module):
    def __init__(self, model, reentrant):
        super().__init__()
        self.trunk, self.head, self.reentrant = model[:5], model[5:], reentrant

    def forward(self, x):
        return self.head(checkpoint(self.trunk, x, use_reentrant=self.reentrant))


class CheckpointedWhole(Checkpointed):
    def forward(self, x):
        return checkpoint(lambda y: self.head(self.trunk(y)), x, use_reentrant=self.reentrant)


class Autocasting(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.net = model

    def forward(self, x):
        return {"logits": self.net(x)}


@pytest.mark.parametrize(
    ("wrap", "layer"),
    [
        (lambda m: m, "4"),
        (lambda m: m.requires_grad_(False), "4"),
        (OwnNoGrad, "trunk.4"),
        (lambda m: Checkpointed(m, reentrant=False), "trunk.4"),
        (lambda m: Checkpointed(m, reentrant=False), "trunk.1"),
        (lambda m: CheckpointedWhole(m, reentrant=False), "trunk.4"),
        (lambda m: CheckpointedWhole(m, reentrant=False), "trunk.2"),
        (Autocasting, "net.4"),
    ],
    ids=["plain", "frozen", "no_grad trunk", "checkpoint", "in checkpoint", "all checkpointed", "inside all", "dict"],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_kinds_of_models(wrap, layer, inplace):
    images, targets = seeded(0, 3, 3, 20, 20), torch.tensor([0, 3, 1])
    inner = layer.rpartition(".")[2]
    expected, _ = full_graph(small_cnn(), inner, images, targets)
    model, method = wrap(small_cnn(inplace=inplace)).train(), GradCAM(layer)
    for _ in range(2):  # the second call knows where gradients are switched
        torch.testing.assert_close(method(model, images, targets).maps, expected, rtol=0, atol=1e-6)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
    assert all(m.training for m in model.modules())
    assert torch.is_grad_enabled()


class SharedRectifier(nn.Module):
    """One module below the layer, inside of a block, and above it; the head runs a part under its own no_grad."""

    def __init__(self):
        super().__init__()
        rectifier = nn.ReLU()
        self.block = nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3), rectifier), nn.BatchNorm2d(8))
        self.layer = nn.Conv2d(8, 8, 3)
        self.head = nn.ModuleDict({"inner": nn.Linear(8, 8), "last": nn.Linear(8, 4)})
        self.rectifier = rectifier

    def forward(self, x):
        x = self.rectifier(self.layer(self.block(x))).mean((2, 3))
        with torch.no_grad():
            y = self.head["inner"](x)
        return self.head["last"](y + x)


def test_later_calls_switch_gradients_at_fewer_modules_with_the_same_result():
    model, images, targets = SharedRectifier(), seeded(0, 2, 3, 20, 20), torch.tensor([0, 3])
    expected = GradCAM("layer")(model, images, targets).maps
    method, graphs = GradCAM("layer"), []
    for conv in (model.block[0][0], model.layer):
        conv.register_forward_hook(lambda module, args, output: graphs.append(output.requires_grad))
    for _ in range(3):
        assert torch.equal(method(model, images, targets).maps, expected)
    assert graphs == [False] * 6  # no graph in the block or at the layer: the leaf is made behind it
    names = {name for name, module in model.named_modules() if module in method._layer._found[model].switches}
    assert names == {"block", "head", "head.inner", "head.last"}  # below the layer, where gradients are on


def test_a_first_module_that_is_replaced_is_learned_anew():
    model, images, targets = SharedRectifier(), seeded(0, 2, 3, 20, 20), torch.tensor([0, 3])
    method, graphs = GradCAM("layer"), []
    method(model, images, targets)
    model.block = copy.deepcopy(model.block)
    model.block.register_forward_hook(lambda module, args, output: graphs.append(output.requires_grad))
    for _ in range(3):
        assert torch.equal(method(model, images, targets).maps, GradCAM("layer")(model, images, targets).maps)
    assert graphs == [True, False, False, False, False, False]  # a graph once, then none


def test_a_scripted_part_which_takes_no_hooks_of_its_own():
    model, images, targets = small_cnn(), seeded(0, 2, 3, 20, 20), torch.tensor([0, 3])
    expected = GradCAM("4")(model, images, targets).maps
    model[-1] = torch.jit.script(model[-1])
    method = GradCAM()
    for _ in range(2):
        torch.testing.assert_close(method(model, images, targets).maps, expected)
    assert method.resolved_layer == "4"


def test_works_in_inference_mode():
    images, targets = seeded(0, 2, 3, 20, 20), torch.tensor([0, 3])
    model = small_cnn()
    expected = GradCAM("4")(model, images, targets).maps
    with torch.inference_mode():
        maps = GradCAM("4")(model, images.clone(), targets.clone()).maps
    torch.testing.assert_close(maps, expected)


def test_a_model_that_caches_in_inference_mode_names_the_way_out():
    """Row 6."""

    class Cache(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.scale, self.gain = small_cnn(), None, nn.Parameter(torch.ones(1))

        def forward(self, x):
            features = self.net[:5](x)
            if self.scale is None:
                self.scale = torch.ones(1, 8, 1, 1)
            return self.net[5:](features * self.scale)

    model = Cache()
    with torch.inference_mode():
        model(seeded(0, 1, 3, 20, 20))
    with pytest.raises(RuntimeError, match=r"Trainer\(inference_mode=False\)"):
        GradCAM("net.4")(model, seeded(0, 1, 3, 20, 20), torch.tensor([0]))


def test_reentrant_checkpointing_is_refused_by_name():
    model = Checkpointed(small_cnn(), reentrant=True)
    with pytest.raises(RuntimeError, match="use_reentrant=False"):
        GradCAM("trunk.1")(model, seeded(0, 1, 3, 20, 20), torch.tensor([0]))


def test_a_layer_off_the_path():
    model = small_cnn()
    model.add_module("spare", nn.Conv2d(3, 3, 1))
    model.forward = lambda x: nn.Sequential.forward(model[:8], x)
    with pytest.raises(RuntimeError, match="'spare' was not reached"):
        GradCAM("spare")(model, seeded(0, 1, 3, 20, 20), torch.tensor([0]))


@pytest.mark.parametrize("compiled", ["model", "part", "in place"])
def test_compiled_models(compiled):
    images, targets = seeded(0, 2, 3, 20, 20), torch.tensor([0, 3])
    expected = GradCAM("4")(small_cnn(), images, targets).maps
    model, layer = small_cnn().eval(), "4"
    if compiled == "model":
        model, layer = torch.compile(model, backend="eager"), "_orig_mod.4"
    elif compiled == "part":
        model[0] = torch.compile(model[0], backend="eager")
    else:
        model.compile(backend="eager")
    model(images)  # compiled before the hooks are there
    torch.testing.assert_close(GradCAM(layer)(model, images, targets).maps, expected)


def test_the_layer_is_found_again_for_another_model():
    method = GradCAM()
    method(small_cnn(), seeded(0, 1, 3, 20, 20), torch.tensor([0]))
    assert method.resolved_layer == "4"
    method(nn.Sequential(small_cnn()), seeded(0, 1, 3, 20, 20), torch.tensor([0]))
    assert method.resolved_layer == "0.4"


def test_per_sample_targets():
    """Row 32."""
    model, images = small_cnn(), seeded(0, 4, 3, 20, 20)
    targets = torch.tensor([0, 1, 2, 3])
    together = GradCAM("4")(model, images, targets).maps
    alone = [GradCAM("4")(model, images[i : i + 1], targets[i : i + 1]).maps[0] for i in range(4)]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-6)


class ScaledAddmm(nn.Module):
    def __init__(self, linear):
        super().__init__()
        self.linear = linear

    def forward(self, x):
        return torch.addmm(self.linear.bias, x, self.linear.weight.t(), alpha=-3)


class Conditional(nn.Module):
    """The last linear layer's bias or weight depends on the image."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.conv, self.head, self.gate = kind, nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        features = self.conv(x).relu().mean((2, 3))
        weight, bias = self.head.weight, self.head.bias
        if self.kind == "gated bias":
            return torch.addmm(self.gate(features), features, weight.t())
        if self.kind == "residual":
            return torch.addmm(features[:, :4], features, weight.t())
        if self.kind == "scaled weight":
            return F.linear(features, weight * features.mean(), bias)
        prototypes = features.mean(0) + weight
        return F.linear(features, 2 * prototypes, -(prototypes**2).sum(1))


class TestThroughTheLastLinearLayer:
    """Where the logits come from a linear layer, its weight gives the gradient of its input."""

    def test_a_hook_on_the_logits_still_gets_its_gradient(self):
        model, seen = small_cnn(), []
        model.register_forward_hook(lambda module, args, z: z.requires_grad and z.register_hook(seen.append) and None)
        images, targets = seeded(0, 2, 3, 20, 20), torch.tensor([0, 3])
        expected, _ = full_graph(small_cnn(), "4", images, targets)
        torch.testing.assert_close(GradCAM("4")(model, images, targets).maps, expected)
        assert [gradient.argmax(1).tolist() for gradient in seen] == [[0, 3]]

    @pytest.mark.parametrize("kind", ["scaled addmm", "no bias", "scaled logits", "hook on the layer"])
    def test_other_heads_are_differentiated_whole(self, kind):
        model = small_cnn()
        head = model[-1]
        if kind == "no bias":
            model[-1] = nn.Linear(head.in_features, 4, bias=False)
        if kind == "scaled addmm":
            model[-1] = ScaledAddmm(head)
        if kind == "scaled logits":
            model.append(nn.Tanh())
        if kind == "hook on the layer":
            head.register_full_backward_hook(lambda module, before, after: (before[0] * -1,))
        images, targets = seeded(0, 2, 3, 20, 20), torch.tensor([0, 1])
        expected, _ = full_graph(model, "4", images, targets)
        torch.testing.assert_close(GradCAM("4")(model, images, targets).maps, expected)

    @pytest.mark.parametrize("kind", ["gated bias", "residual", "scaled weight", "prototypes"])
    def test_heads_whose_weight_or_bias_comes_from_the_layer(self, kind):
        torch.manual_seed(0)
        model = Conditional(kind)
        images, targets = seeded(0, 2, 3, 20, 20), torch.tensor([0, 3])
        expected, _ = full_graph(model, "conv", images, targets)
        torch.testing.assert_close(GradCAM("conv")(model, images, targets).maps, expected)

    def test_logits_that_retain_their_gradient_have_it(self):
        model, kept = small_cnn(), []

        def keep(module, args, z):
            if z.requires_grad:
                z.retain_grad()
                kept.append(z)

        model.register_forward_hook(keep)
        GradCAM("4")(model, seeded(0, 2, 3, 20, 20), torch.tensor([0, 3]))
        assert kept[-1].grad.argmax(1).tolist() == [0, 3]
