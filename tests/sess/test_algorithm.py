"""What SESS promises beyond the golden maps: shapes, batches, options, pre-filter, bad input, no trace on the model."""

import pickle

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sess_lightning import SESS
from sess_lightning.saliency import Explanation, GradCAM
from sess_lightning.sess.fusion import normalised_maps
from tests.helpers.nets import seeded, small_cnn


def brightness(model, images, targets):
    """A base method without a model: the brightness of the patch."""
    return images.mean(1)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 4))
def test_any_size_aspect_and_number_of_channels(height, width, channels):
    result = SESS(num_scales=3, window_size=32)(small_cnn(channels=channels), seeded(0, 1, channels, height, width))
    assert result.maps.shape == (1, height, width)
    assert result.maps.dtype == torch.float32
    assert torch.isfinite(result.maps).all()
    assert result.maps.min() >= 0
    assert result.maps.max() <= 1 + 1e-6


@pytest.mark.parametrize("batch_size", [1, 7, 1000, None])
def test_batch_equals_single_images_whatever_the_batch_size(batch_size):
    model = small_cnn()
    images = [seeded(i, 3, 40 + 8 * i, 64) for i in range(3)]
    targets = torch.tensor([3, 0, 2])
    together = SESS(num_scales=3, window_size=32, batch_size=batch_size)(model, images, targets)
    for i, image in enumerate(images):
        alone = SESS(num_scales=3, window_size=32)(model, image[None], targets[i : i + 1])
        torch.testing.assert_close(together.maps[i], alone.maps[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(together.scores[i], alone.scores[0], rtol=0, atol=1e-6)


def test_images_of_one_size_give_one_tensor_and_of_several_a_list():
    sess = SESS(num_scales=2, window_size=16)
    assert sess(small_cnn(), seeded(0, 2, 3, 16, 20)).maps.shape == (2, 16, 20)
    maps = sess(small_cnn(), [seeded(0, 3, 16, 20), seeded(0, 3, 18, 20)]).maps
    assert [m.shape for m in maps] == [(16, 20), (18, 20)]


def test_one_scale_on_a_square_window_is_the_base_method():
    model, image, target = small_cnn(), seeded(0, 1, 3, 224, 224), torch.tensor([1])
    result = SESS(GradCAM("4"), num_scales=1, smooth=False)(model, image, target)
    as_given = image.contiguous(memory_format=torch.channels_last)  # a layout of its own sums in another order
    base = normalised_maps(GradCAM("4")(model, as_given, target).maps, (224, 224))
    assert torch.equal(result.maps, base)


def test_the_same_call_twice_gives_the_same_bits():
    sess, model, image = SESS(num_scales=3, window_size=32), small_cnn(), seeded(0, 2, 3, 50, 40)
    assert torch.equal(sess(model, image).maps, sess(model, image).maps)


def test_predicted_class_is_that_of_the_whole_image_squashed_to_the_window():
    model, image = small_cnn(num_classes=7).eval(), seeded(3, 1, 3, 48, 80)
    squashed = F.interpolate(image, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = model(squashed).argmax(1)
    assert torch.equal(SESS(num_scales=2, window_size=32)(model, image).targets, expected)


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("method", ["gradcam", brightness])
def test_prefilter_keeps_the_best(method, ratio):
    result = SESS(method, num_scales=4, window_size=32, prefilter_ratio=ratio)(
        small_cnn(), seeded(0, 1, 3, 64, 64), None
    )
    scores, kept = result.scores[0], result.kept[0]
    assert len(kept) == len(scores) - int(len(scores) * ratio)
    assert torch.equal(scores[kept].sort().values, scores.sort().values[-len(kept) :])
    assert torch.equal(kept, kept.sort().values)


def test_options_reach_the_fusion():
    """A method that marks one corner of every patch: the fused map can be told in closed form."""

    def corner(model, images, targets):
        maps = torch.zeros(len(images), 2, 2)
        maps[:, 0, 0] = 1
        return F.interpolate(maps[:, None], size=images.shape[-2:])[:, 0]

    one = {"num_scales": 1, "window_size": 8, "smooth": False, "minmax": False}
    result = SESS(corner, **one)(small_cnn(), seeded(0, 1, 3, 8, 16), torch.tensor([0]))
    weights = result.scores[0] / result.scores[0].max()
    expected = torch.zeros(8, 16)
    expected[:4, :4], expected[:4, 8:12] = weights[0], weights[1]
    torch.testing.assert_close(result.maps[0], expected)
    unweighted = SESS(corner, weight_by_score=False, **one)(small_cnn(), seeded(0, 1, 3, 8, 16), torch.tensor([0]))
    torch.testing.assert_close(unweighted.maps[0], (expected > 0).float())
    stretched = SESS(corner, **{**one, "minmax": True})(small_cnn(), seeded(0, 1, 3, 8, 16), torch.tensor([0]))
    torch.testing.assert_close(stretched.maps[0], expected / expected.max())


def test_sigmoid_scores():
    model, image = small_cnn().eval(), seeded(0, 1, 3, 32, 32)
    result = SESS(num_scales=1, window_size=32, activation="sigmoid")(model, image, torch.tensor([2]))
    with torch.no_grad():
        torch.testing.assert_close(result.scores[0], model(image)[:, 2].sigmoid())


def test_patch_maps_fuse_to_the_map():
    sess = SESS(num_scales=3, window_size=32, smooth=False, minmax=False, prefilter_ratio=0.3)
    result = sess(small_cnn(), seeded(0, 1, 3, 48, 40), torch.tensor([0]), keep_patches=True)
    weights = (result.scores[0] / result.scores[0].max())[result.kept[0]]
    weighted = result.patch_maps[0] * weights[:, None, None]
    mean = weighted.sum(0) / (weighted > 0).sum(0).clamp(min=1)
    torch.testing.assert_close(result.maps[0], mean, rtol=0, atol=1e-6)


def test_explicit_scales_and_steps():
    result = SESS(scales=[32, 48], step_size=16, window_size=32)(small_cnn(), seeded(0, 1, 3, 32, 32))
    assert len(result.windows[0]) == 1 + 4
    assert result.windows[0][1:, :2].tolist() == [[0, 0], [16, 0], [0, 16], [16, 16]]


@pytest.mark.parametrize("window", [16, 32, (16, 32)])
def test_scales_in_multiples_of_any_window(window):
    height, width = (window, window) if isinstance(window, int) else window
    result = SESS(scales=[1.0, 1.5, 2.0], window_size=window)(small_cnn(), seeded(0, 1, 3, height, width))
    sizes = [tuple(row) for row in result.windows[0][:, 4:].tolist()]
    assert sizes == [(height, width)] + [(height * 3 // 2, width * 3 // 2)] * 4 + [(height * 2, width * 2)] * 4


@pytest.mark.parametrize("scales", [[64], [2.0]])
def test_one_scale_alone(scales):
    """An image of twice the window, as four windows side by side."""
    sess = SESS(scales=scales, step_size=32, window_size=32)
    windows = sess.windows_for((32, 32), (32, 32))
    assert [window[:2] for window in windows] == [(0, 0), (32, 0), (0, 32), (32, 32)]


def test_window_of_the_images():
    result = SESS(num_scales=4, window_size=None)(small_cnn(), seeded(0, 2, 3, 32, 32))
    assert len(result.windows[0]) == 13
    with pytest.raises(ValueError, match=r"one size, as `window_size` is None.*Pass window_size="):
        SESS(window_size=None)(small_cnn(), [seeded(0, 3, 32, 32), seeded(0, 3, 32, 40)])


def test_networks_of_fixed_input_size_explain_photos_of_any_aspect():
    model = torchvision.models.vit_b_32(weights=None, num_classes=3).eval()
    model.heads.head.weight.data.normal_()  # torchvision starts this layer at zero: no gradient would pass
    result = SESS(num_scales=2, batch_size=4)(model, seeded(0, 1, 3, 120, 260))
    assert result.maps.shape == (1, 120, 260)
    assert result.valid.all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes(dtype):
    model = small_cnn(norm=False).to(dtype)
    result = SESS(num_scales=3, window_size=32)(model, seeded(0, 1, 3, 40, 40).to(dtype), torch.tensor([1]))
    reference = SESS(num_scales=3, window_size=32)(small_cnn(norm=False), seeded(0, 1, 3, 40, 40), torch.tensor([1]))
    assert result.maps.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(
        result.maps.float(), reference.maps, rtol=0, atol=1e-5 if dtype == torch.float64 else 0.1
    )


def test_constant_maps_are_flagged_zeros():
    def flat(model, images, targets):
        return torch.full((len(images), 4, 4), float("nan") if images.shape[-1] == 16 else 1.0)

    for window in (16, 32):
        result = SESS(flat, num_scales=2, window_size=window)(small_cnn(), seeded(0, 2, 3, 32, 32))
        assert torch.equal(result.maps, torch.zeros(2, 32, 32))
        assert not result.valid.any()


def test_huge_logits():
    model = small_cnn()
    model[-1].weight.data *= 1e6
    result = SESS(num_scales=3, window_size=32)(model, seeded(0, 1, 3, 40, 40))
    assert torch.isfinite(result.maps).all()


@pytest.mark.parametrize("returns", ["tensor", "explanation", "channel"])
def test_any_callable_is_a_base_method(returns):
    def method(model, images, targets):
        maps = images.abs().sum(1)
        return {"tensor": maps, "explanation": Explanation(maps), "channel": maps[:, None]}[returns]

    assert SESS(method, num_scales=2, window_size=32)(small_cnn(), seeded(0, 1, 3, 40, 40)).valid.all()


def test_a_callable_may_use_gradients():
    def gradient(model, images, targets):
        images.requires_grad_(True)
        model(images).gather(1, targets[:, None]).sum().backward()
        return images.grad.abs().sum(1)

    model = small_cnn()
    assert SESS(gradient, num_scales=2, window_size=32)(model, seeded(0, 1, 3, 40, 40)).valid.all()
    assert all(p.grad is None for p in model.parameters())


def test_wrong_returns_of_a_callable():
    image = seeded(0, 1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"one map per image.*Reduce the channels first"):
        SESS(lambda model, images, targets: images, num_scales=1, window_size=32)(small_cnn(), image)
    with pytest.raises(TypeError, match="a tensor of maps"):
        SESS(lambda model, images, targets: None, num_scales=1, window_size=32)(small_cnn(), image)


def test_method_names():
    assert isinstance(SESS("gradcam").method, GradCAM)
    assert SESS("torch.nn.functional.relu").method is F.relu
    with pytest.raises(ValueError, match=r"one of \[.*'gradcam', .*or the dotted path.*'gradcamm'"):
        SESS("gradcamm")
    with pytest.raises(TypeError, match=r"the class GradCAM: pass an instance, GradCAM\(\.\.\.\)"):
        SESS(GradCAM)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefilter_ratio": 1.0}, r"`prefilter_ratio` to be in \[0, 1\).*1\.0.*none would be left"),
        ({"prefilter_ratio": -0.1}, "`prefilter_ratio`"),
        ({"num_scales": 0}, "`num_scales`"),
        ({"num_scales": 3, "scales": [224]}, "only one of `num_scales` and `scales`"),
        ({"scales": []}, "`scales`"),
        ({"scales": [1, 1.5]}, r"short sides in pixels.*or multiples.*but not both.*got \[1, 1.5\]"),
        ({"scales": [1.0, 0.9]}, r"floats from 1\.0 on"),
        ({"scales": [float("inf")]}, "`scales`"),
        ({"scales": [float("nan")]}, "`scales`"),
        ({"scales": [200]}, "at least the window's 224 pixels, but got 200"),
        ({"window_size": 0}, "`window_size`"),
        ({"window_size": (3, 4, 5)}, "`window_size`"),
        ({"step_size": 225}, "`step_size` to be at most `window_size`"),
        ({"step_size": 0}, "`step_size`"),
        ({"threshold": 1.0}, "`threshold`"),
        ({"pool": "median"}, r"`pool` to be one of \('mean', 'plain_mean', 'max'\), but got 'median'"),
        ({"activation": "relu"}, "`activation`"),
        ({"batch_size": 0}, "`batch_size`"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        SESS(**options)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(1, 3, 0, 8), ValueError, "at least one channel and one pixel"),
        (torch.full((1, 3, 8, 8), float("nan")), ValueError, "finite, but it holds NaN"),
        (torch.zeros(3, 8, 8), ValueError, r"\(B, C, H, W\).*image\[None\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), TypeError, r"floating point.*torch\.uint8"),
        ([torch.zeros(3, 8, 8), torch.zeros(1, 8, 8)], ValueError, "same number of channels"),
        ([], ValueError, "at least one image"),
        ("photo.jpg", TypeError, "got str"),
        ([torch.zeros(8, 8)], ValueError, r"image 0 of argument `images` to have shape \(C, H, W\)"),
    ],
)
def test_bad_images(images, error, message):
    with pytest.raises(error, match=message):
        SESS(window_size=8, num_scales=1)(small_cnn(), images)


@pytest.mark.parametrize("method", ["gradcam", brightness])
@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (torch.tensor([4]), ValueError, r"in 0\.\.3, as the model gives 4 logits, but got 4"),
        (torch.tensor([-1]), ValueError, "but got -1"),
        (torch.tensor([0, 1]), ValueError, r"shape \(1,\), but got shape \(2,\)"),
        (torch.tensor([0.0]), TypeError, "integer tensor"),
        ([0], TypeError, "integer tensor"),
    ],
)
def test_bad_targets(method, targets, error, message):
    with pytest.raises(error, match=message):
        SESS(method, window_size=32, num_scales=1)(small_cnn(), seeded(0, 1, 3, 32, 32), targets)


@pytest.mark.parametrize("method", ["gradcam", brightness])
@pytest.mark.parametrize("ratio", [0.0, 0.7])
def test_known_scores_save_the_scoring_pass_and_change_nothing(method, ratio):
    model, images, targets = small_cnn(), [seeded(0, 3, 40, 40), seeded(1, 3, 48, 32)], torch.tensor([1, 2])
    sess = SESS(method, num_scales=3, window_size=32, prefilter_ratio=ratio)
    expected = sess(model, images, targets)
    seen = []
    handle = model.register_forward_hook(lambda module, args, output: seen.append(len(output)))
    result = sess(model, images, targets, scores=expected.scores)
    handle.remove()
    assert sum(seen) == (sum(map(len, expected.kept)) if method == "gradcam" else 0)
    for one, same in zip(result.maps + result.scores, expected.maps + expected.scores, strict=True):
        torch.testing.assert_close(one, same, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scores", [torch.rand(1, 5), [torch.rand(4)], [torch.rand(5)] * 2, [0.5]])
def test_scores_of_other_windows_are_refused(scores):
    with pytest.raises(ValueError, match=r"`scores` to hold one tensor for each image, with \[5\] scores"):
        SESS(num_scales=2, window_size=32)(small_cnn(), seeded(0, 1, 3, 32, 32), scores=scores)


def test_pickle_and_repr():
    sess = pickle.loads(pickle.dumps(SESS(num_scales=2, window_size=32)))
    assert "num_scales=2" in repr(sess)
    assert sess(small_cnn(), seeded(0, 1, 3, 32, 32)).valid.all()
    sess_again = pickle.loads(pickle.dumps(sess))  # the layer found before does not travel
    assert sess_again(small_cnn(), seeded(0, 1, 3, 32, 32)).valid.all()
