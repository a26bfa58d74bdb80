"""captum, torchcam and pytorch-grad-cam as base methods: their own maps, batched, and no trace on the model."""

import pickle
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from sess_lightning import SESS
from sess_lightning.pixels import minmax
from sess_lightning.saliency import (
    XRAI,
    GradCAM,
    GuidedBackprop,
    InputGradient,
    ScoreCAM,
    from_captum,
    from_grad_cam,
    from_torchcam,
)
from sess_lightning.saliency.gradient import grey
from sess_lightning.saliency.registry import resolve_method
from tests.helpers.nets import assert_untouched, fingerprint, seeded, small_cnn

IMAGES, TARGETS = seeded(0, 3, 3, 24, 32), torch.tensor([0, 3, 1])


def of_captum(name, **kwargs):
    return from_captum(getattr(pytest.importorskip("captum.attr"), name), **kwargs)


def of_torchcam(name, **kwargs):
    return from_torchcam(getattr(pytest.importorskip("torchcam.methods"), name), **kwargs)


def of_grad_cam(name, **kwargs):
    return from_grad_cam(getattr(pytest.importorskip("pytorch_grad_cam"), name), **kwargs)


ADAPTED = [
    pytest.param(make, name, kwargs, id=f"{make.__name__[3:]}-{name}")
    for make, name, kwargs in [
        (of_captum, "Saliency", {}),
        (of_captum, "InputXGradient", {}),
        (of_captum, "IntegratedGradients", {"n_steps": 5}),
        (of_captum, "DeepLift", {}),
        (of_captum, "GuidedGradCam", {}),
        (of_captum, "LayerGradCam", {}),
        (of_captum, "Occlusion", {"sliding_window_shapes": (3, 8, 8), "strides": (3, 8, 8)}),
        (of_torchcam, "GradCAM", {}),
        (of_torchcam, "SmoothGradCAMpp", {}),
        (of_torchcam, "LayerCAM", {}),
        (of_torchcam, "ScoreCAM", {}),
        (of_grad_cam, "GradCAM", {}),
        (of_grad_cam, "HiResCAM", {"eigen_smooth": True}),
        (of_grad_cam, "AblationCAM", {}),
        (of_grad_cam, "XGradCAM", {"aug_smooth": True}),
    ]
]


class StopHereError(Exception):
    pass


@pytest.fixture
def net():
    """In training mode, with gradients, a frozen layer, a hook of the user's and dropout: all that could be lost."""
    model = small_cnn(inplace=False).train()
    model.append(nn.Dropout(0.5))
    model(IMAGES).sum().backward()
    model[0].weight.requires_grad_(False)
    model[3].register_forward_hook(lambda module, args, output: None)
    return model


@pytest.mark.parametrize(("make", "name", "kwargs"), ADAPTED)
class TestEveryAdapter:
    def test_in_sess_it_gives_finite_maps_and_leaves_no_trace(self, make, name, kwargs, net):
        method = make(name, **kwargs)
        before = fingerprint(net)
        with torch.inference_mode():
            result = SESS(method, num_scales=2, window_size=24, prefilter_ratio=0.5)(net, IMAGES, TARGETS)
        assert torch.isfinite(result.maps).all()
        assert result.valid.all()
        assert_untouched(net, before)

    @pytest.mark.parametrize("fail_at", [1, 2])
    def test_an_exception_leaves_no_trace(self, make, name, kwargs, fail_at, net):
        method, calls = make(name, **kwargs), 0

        def stop(module, args):
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise StopHereError

        net[7].register_forward_pre_hook(stop)
        before = fingerprint(net)
        try:
            method(net, IMAGES, TARGETS)
        except StopHereError:
            failed = True
        else:
            failed = False
        assert failed or fail_at > 1
        assert_untouched(net, before)

    def test_frozen_models_and_own_classes_and_the_same_bits(self, make, name, kwargs):
        model, method = small_cnn().requires_grad_(False), make(name, **kwargs)
        maps = method(model, IMAGES, TARGETS).maps
        assert torch.equal(maps, method(model, IMAGES, TARGETS).maps)
        assert not torch.equal(maps, method(model, IMAGES, (TARGETS + 1) % 4).maps)
        assert pickle.loads(pickle.dumps(method)).kwargs == method.kwargs


def test_nothing_that_listens_to_parameters_hears_of_it():
    """As DDP does: a hook where a parameter's gradient would be added up."""
    model, heard = small_cnn(), []
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(heard.append)
    of_grad_cam("GradCAM")(model, IMAGES, TARGETS)  # calls backward()
    assert not heard
    model(IMAGES).sum().backward()
    assert heard


class TestAgainstOurOwn:
    """Where a library is right, its map is ours: each confirms the other."""

    def test_captum_saliency_is_the_input_gradient(self):
        model = small_cnn()
        expected = InputGradient()(model, IMAGES, TARGETS).maps
        torch.testing.assert_close(of_captum("Saliency")(model, IMAGES, TARGETS).maps, expected)

    def test_captum_guided_backprop(self):
        model = small_cnn()
        expected = GuidedBackprop()(model, IMAGES, TARGETS).maps
        torch.testing.assert_close(of_captum("GuidedBackprop")(model, IMAGES, TARGETS).maps, expected)

    def test_captum_layer_grad_cam(self):
        expected = GradCAM()(small_cnn(), IMAGES, TARGETS).maps
        torch.testing.assert_close(of_captum("LayerGradCam")(small_cnn(), IMAGES, TARGETS).maps, expected)

    def test_torchcam_grad_cam(self):
        expected = GradCAM()(small_cnn(), IMAGES, TARGETS).maps
        torch.testing.assert_close(of_torchcam("GradCAM")(small_cnn(), IMAGES, TARGETS).maps, expected)

    def test_pytorch_grad_cam(self):
        """Min-maxed before and after it is enlarged."""
        maps = minmax(GradCAM()(small_cnn(), IMAGES, TARGETS).maps)[0]
        ours = minmax(F.interpolate(maps[:, None], IMAGES.shape[2:], mode="bilinear")[:, 0])[0]
        torch.testing.assert_close(of_grad_cam("GradCAM")(small_cnn(), IMAGES, TARGETS).maps, ours, rtol=0, atol=5e-3)

    def test_torchcam_normalises_the_masks_of_score_cam_before_it_enlarges_them(self):
        """So its map is another one, but alike."""
        theirs = minmax(of_torchcam("ScoreCAM")(small_cnn(), IMAGES, TARGETS).maps)[0]
        theirs = F.interpolate(theirs[:, None], IMAGES.shape[2:], mode="bilinear")[:, 0]
        ours = minmax(ScoreCAM()(small_cnn(), IMAGES, TARGETS).maps)[0]
        for one, other in zip(theirs, ours, strict=True):
            assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.95

    def test_integrated_gradients_in_closed_form(self):
        """Of z_0 = sum x^2 / 2 the integral is x / 2, times x."""
        pytest.importorskip("captum")

        class Square(nn.Module):
            def forward(self, x):
                z = (x**2).flatten(1).sum(1) / 2
                return torch.stack([z, -z], 1)

        maps = resolve_method("integrated_gradients")(Square(), IMAGES, torch.tensor([0, 0, 1])).maps
        torch.testing.assert_close(maps, grey(IMAGES**2 / 2), rtol=1e-4, atol=1e-5)


def test_xrai_finds_the_region_that_counts():
    pytest.importorskip("saliency")

    class Corner(nn.Module):
        def forward(self, x):
            z = x[:, :, :24, :24].flatten(1).sum(1)
            return torch.stack([z, -z], 1)

    image = torch.zeros(1, 3, 64, 64)
    image[:, :, :24, :24], image[:, 0, 40:, 40:], image[:, 1, 30:, :20] = 1.0, 0.9, 0.6
    saliency = XRAI(steps=5)(Corner(), image, torch.tensor([0])).maps[0]
    assert saliency[4:20, 4:20].mean() > 5 * saliency[40:, 40:].mean()
    assert saliency[4:20, 4:20].std() < 0.05 * saliency.max()  # a region is one piece


def test_layers_go_by_name_and_arguments_where_they_belong():
    method = of_captum("LayerGradCam", target_layer="1", relu_attributions=True)
    assert method(small_cnn(), IMAGES, TARGETS).maps.shape == (3, 24, 32)
    assert method.resolved_layer == "1"
    with pytest.raises(TypeError, match=r"IntegratedGradients .*n_steps.*, but got n_stepss"):
        of_captum("IntegratedGradients", n_stepss=3)(small_cnn(), IMAGES, TARGETS)
    with pytest.raises(TypeError, match="a class of the library"):
        from_torchcam("LayerCAM")


def test_a_function_may_build_the_method():
    captum = pytest.importorskip("captum.attr")
    method = from_captum(lambda model: captum.NoiseTunnel(captum.Saliency(model)), nt_samples=2, stdevs=0.1)
    maps = method(small_cnn(), IMAGES, TARGETS).maps
    assert torch.equal(maps, method(small_cnn(), IMAGES, TARGETS).maps)  # its noise too


def test_attributions_may_be_reduced_by_the_user():
    method = of_captum("InputXGradient", reduce=lambda attributions: attributions.clamp(min=0).amax(1))
    maps = method(small_cnn(), IMAGES, TARGETS).maps
    gradient = of_captum("Saliency", abs=False, reduce=lambda g: g[:, 0])(small_cnn(), IMAGES, TARGETS).maps
    assert (maps >= (gradient * IMAGES[:, 0]) - 1e-6).all()


@pytest.mark.parametrize(
    ("make", "name"), [(of_captum, "LayerGradCam"), (of_torchcam, "GradCAM"), (of_grad_cam, "GradCAM")]
)
def test_class_0_of_one_logit_is_the_negative(make, name):
    model = small_cnn(num_classes=1)
    with torch.no_grad():
        model[-1].weight[:, :4], model[-1].weight[:, 4:] = 1.0, -1.0
    maps = make(name)(model, IMAGES[:1].expand(2, -1, -1, -1), torch.tensor([0, 1])).maps
    expected = GradCAM()(model, IMAGES[:1].expand(2, -1, -1, -1), torch.tensor([0, 1])).maps
    assert (maps[0] - maps[1]).abs().max() > 0
    assert (expected[0] > 0).any() == (maps[0] > 0).any()


@pytest.mark.parametrize("make", [of_torchcam, of_grad_cam], ids=lambda make: make.__name__)
def test_tokens_are_laid_on_their_grid(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4)
        nn.init.normal_(model.heads.head.weight)
    images, targets = seeded(0, 2, 3, 32, 32), torch.tensor([0, 3])
    maps = minmax(make("GradCAM")(model, images, targets).maps)[0]
    ours = minmax(GradCAM()(model, images, targets).maps)[0]
    if make is of_grad_cam:
        ours = minmax(F.interpolate(ours[:, None], (32, 32), mode="bilinear")[:, 0])[0]
    torch.testing.assert_close(maps, ours, rtol=0, atol=5e-3)


@pytest.mark.parametrize(("name", "package"), [("integrated_gradients", "captum"), ("xrai", "saliency")])
def test_a_missing_package_is_named_with_the_command(name, package, monkeypatch):
    for module in [m for m in sys.modules if m == package or m.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package}.*pip install 'sess-lightning\[methods\]'"):
        resolve_method(name)
