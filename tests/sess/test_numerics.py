"""SESS with every base method where numbers get difficult: never NaN, same bits, no influence of the batch."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sess_lightning import SESS
from sess_lightning.saliency import RISE, GradCAM, GroupCAM, GuidedBackprop, InputGradient
from sess_lightning.sess.fusion import fuse
from sess_lightning.sess.windows import pyramid_sizes, sliding_windows
from tests.helpers.nets import seeded, small_cnn

METHODS = {
    "gradcam": GradCAM,
    "guidedbp": GuidedBackprop,
    "gradient": InputGradient,
    "groupcam": lambda: GroupCAM(groups=4),
    "rise": lambda: RISE(num_masks=12),
    "callable": lambda: lambda model, images, targets: images.abs().sum(1),
}
each_method = pytest.mark.parametrize("make", METHODS.values(), ids=METHODS)
IMAGES = [seeded(0, 3, 40, 56), seeded(1, 3, 61, 33), seeded(2, 3, 24, 24)]
TARGETS = torch.tensor([0, 3, 1])


def sess_of(make, **options):
    return SESS(make(), **{"num_scales": 3, "window_size": 24, **options})


def assert_sound(result):
    for one in result.maps:
        assert torch.isfinite(one).all()
        assert one.min() >= 0
        assert one.max() <= 1
    assert all(torch.isfinite(scores).all() for scores in result.scores)


@each_method
@pytest.mark.parametrize("ratio", [0.0, 0.8])
def test_other_images_and_another_batch_size_change_nothing(make, ratio):
    model = small_cnn()
    together = sess_of(make, prefilter_ratio=ratio)(model, IMAGES, TARGETS)
    assert_sound(together)
    for batch_size in (1, 3, 100):
        other = sess_of(make, prefilter_ratio=ratio, batch_size=batch_size)(model, IMAGES, TARGETS)
        for one, same in zip(together.maps, other.maps, strict=True):
            torch.testing.assert_close(one, same, rtol=0, atol=1e-5)
    for number, image in enumerate(IMAGES):
        alone = sess_of(make, prefilter_ratio=ratio)(model, image[None], TARGETS[number : number + 1])
        torch.testing.assert_close(alone.maps[0], together.maps[number], rtol=0, atol=1e-5)
        torch.testing.assert_close(alone.scores[0], together.scores[number], rtol=0, atol=1e-6)
        assert torch.equal(alone.kept[0], together.kept[number])


@each_method
def test_the_same_call_twice_gives_the_same_bits(make):
    model, sess = small_cnn(), sess_of(make)
    first, second = (sess(model, IMAGES, TARGETS) for _ in range(2))
    for a, b in zip(first.maps + first.scores, second.maps + second.scores, strict=True):
        assert torch.equal(a, b)


@each_method
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_models_of_other_dtypes(make, dtype):
    images = [image.to(dtype) for image in IMAGES]
    result = sess_of(make)(small_cnn().to(dtype), images, TARGETS)
    assert_sound(result)
    expected = sess_of(make)(small_cnn(), IMAGES, TARGETS)
    tolerance = 1e-4 if dtype == torch.float64 else 0.05
    for scores, same in zip(result.scores, expected.scores, strict=True):
        torch.testing.assert_close(scores.double(), same.double(), rtol=0, atol=tolerance)
    assert result.maps[0].dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert result.valid.all()


@each_method
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16])
def test_autocast(make, autocast):
    with torch.autocast("cpu", autocast):
        assert_sound(sess_of(make)(small_cnn(), IMAGES, TARGETS))


@each_method
@pytest.mark.parametrize("scale", [1e4, -1e4, 1e30])
def test_huge_logits(make, scale):
    model = small_cnn()
    with torch.no_grad():
        model[-1].weight *= scale
    assert_sound(sess_of(make)(model, IMAGES, TARGETS))


class Flat(nn.Module):
    """Looks at nothing: constant logits, zero gradients."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, x):
        return 0 * self.net(x)


@pytest.mark.parametrize("name", ["gradcam", "guidedbp", "gradient", "groupcam"])
@pytest.mark.parametrize("ratio", [0.0, 0.8])
def test_constant_maps_become_flagged_zeros(name, ratio):
    """Row 19."""
    result = sess_of(METHODS[name], prefilter_ratio=ratio)(Flat(), IMAGES, TARGETS)
    assert_sound(result)
    assert not any(one.any() for one in result.maps)
    assert not result.valid.any()


def test_all_negative_maps_are_normalised_like_any_other():
    def negative(model, images, targets):
        return images.abs().sum(1) - 100

    result, shifted = (sess_of(lambda f=f: f)(small_cnn(), IMAGES, TARGETS) for f in (negative, METHODS["callable"]()))
    assert_sound(result)
    for one, same in zip(result.maps, shifted.maps, strict=True):
        torch.testing.assert_close(one, same, rtol=0, atol=1e-4)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_patch_that_is_not_finite_adds_nothing_and_spoils_nothing(poison):
    def make(bad):
        calls = []

        def method(model, images, targets):
            maps = images.abs().sum(1)
            if bad and not calls:
                maps[0] = poison
            calls.append(len(images))
            return maps

        return method

    image, target = IMAGES[0][None], TARGETS[:1]
    result = sess_of(lambda: make(True), smooth=False, minmax=False)(small_cnn(), image, target, keep_patches=True)
    assert_sound(result)
    clean = sess_of(lambda: make(False), smooth=False, minmax=False)(small_cnn(), image, target, keep_patches=True)
    assert not result.patch_maps[0][0].any()
    assert torch.equal(result.patch_maps[0][1:], clean.patch_maps[0][1:])


def test_one_patch_of_one_pixel():
    assert_sound(SESS(METHODS["callable"](), num_scales=1, window_size=1)(small_cnn(), IMAGES, TARGETS))


class LargestTensor(TorchDispatchMode):
    """Elements of the largest tensor made, and how often the host asks a tensor for a value."""

    def __init__(self):
        super().__init__()
        self.elements = self.host_reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.host_reads += func is torch.ops.aten._local_scalar_dense.default
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // tensor.element_size())
        return result


@pytest.mark.parametrize("pool", ["mean", "plain_mean", "max"])
def test_fusion_never_holds_a_canvas_per_patch(pool):
    size, window = (300, 400), (64, 64)
    windows = sliding_windows(tuple(pyramid_sizes(size, window, 12)), window, window)
    maps, weights = torch.rand(len(windows), 7, 7), torch.rand(len(windows))
    with LargestTensor() as seen:
        fuse(maps, windows, weights, size, pool)
    assert len(windows) > 150
    assert seen.elements < 8 * size[0] * size[1]  # a canvas per patch would be 150 times the image


def test_the_host_waits_no_more_often_for_more_patches():
    """Each read of a value would make the host wait for an accelerator: none may lie in the patch loop."""
    model, reads = small_cnn(), []
    for num_scales in (3, 6):
        sess = SESS(GradCAM("4"), num_scales=num_scales, window_size=24, batch_size=4)
        sess(model, IMAGES[:1], TARGETS[:1])  # geometry is cached from here on
        with LargestTensor() as seen:
            sess(model, IMAGES[:1], TARGETS[:1])
        reads.append(seen.host_reads)
    assert reads[0] == reads[1]


@pytest.mark.parametrize("window", [(16, 32), (40, 20)])
@pytest.mark.parametrize("step", [None, (8, 10)])
def test_windows_that_are_not_square(window, step):
    result = sess_of(METHODS["gradcam"], window_size=window, step_size=step)(small_cnn(), IMAGES, TARGETS)
    assert_sound(result)
    for image, one, windows in zip(IMAGES, result.maps, result.windows, strict=True):
        assert one.shape == image.shape[1:]
        assert set((windows[:, 3] - windows[:, 1]).tolist()) == {window[0]}
        assert set((windows[:, 2] - windows[:, 0]).tolist()) == {window[1]}
