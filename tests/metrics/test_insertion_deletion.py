"""Insertion and deletion: closed forms, an independent numpy reference, batching, options, errors."""

import warnings

import numpy as np
import pytest
import torch

from sess_lightning.metrics import DeletionAUC, InsertionAUC, area_under_curve, perturbation_curve
from sess_lightning.metrics.baselines import _warn_shrunk
from tests.helpers.metric_cases import numpy_blur, numpy_curve, predict, samples

MODES = ("insertion", "deletion")


@pytest.fixture
def data():
    return {key: value for key, value in samples(3, seed=1).items() if key in ("images", "saliency", "targets")}


def share(images):
    """Probabilities (share of white, share of black) of images of zeros and ones."""
    white = images.mean((1, 2, 3))
    return torch.stack([white, 1 - white], 1)


def half_white():
    image = torch.zeros(1, 1, 4, 4)
    image[..., :2] = 1
    return image


@pytest.mark.parametrize(
    ("mode", "perfect", "inverted"),
    [
        ("insertion", [0, 0.25, 0.5, 0.5, 0.5], [0, 0, 0, 0.25, 0.5]),
        ("deletion", [0.5, 0.25, 0, 0, 0], [0.5] * 3 + [0.25, 0]),
    ],
)
def test_perfect_and_inverted_map_of_a_linear_model(mode, perfect, inverted):
    """Row 38."""
    image = half_white()
    options = {"mode": mode, "steps": 4, "baseline": "zeros", "activation": None}
    for saliency, expected in ((image[:, 0], perfect), (1 - image[:, 0], inverted)):
        curve = perturbation_curve(share, image, saliency, torch.tensor([0]), **options)
        assert curve.tolist() == [expected]


def test_area_of_a_perfect_map_beats_the_inverted_one():
    image = half_white()
    for metric, best, worst in ((InsertionAUC, 0.375, 0.125), (DeletionAUC, 0.125, 0.375)):
        areas = [
            metric(4, baseline="zeros", activation=None)(share, image, saliency, torch.tensor([0]))
            for saliency in (image[:, 0], 1 - image[:, 0])
        ]
        assert [area.item() for area in areas] == [best, worst]


def test_linear_model_with_one_pixel_a_step():
    # probability = sum(w * x): the curve is the running sum of w * x in the order of the map
    rng = np.random.default_rng(0)
    weights, image, saliency = rng.uniform(size=(3, 5, 7))
    weights /= (weights * image).sum()
    model = lambda x: (x * torch.from_numpy(weights)).sum((1, 2, 3))[:, None].expand(-1, 2)  # noqa: E731
    order = np.argsort(-saliency.ravel())
    expected = np.concatenate([[0], (weights * image).ravel()[order].cumsum()])
    inputs = torch.from_numpy(image)[None, None], torch.from_numpy(saliency)[None], torch.tensor([1])
    options = {"pixels_per_step": 1, "baseline": "zeros", "activation": None}
    curve = perturbation_curve(model, *inputs, **options)
    np.testing.assert_allclose(curve[0], expected, atol=1e-12)
    assert curve.dtype == torch.float64
    np.testing.assert_allclose(
        perturbation_curve(model, *inputs, mode="deletion", **options)[0], 1 - expected, atol=1e-12
    )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("steps", "kernel_size", "sigma"), [(6, 5, 4), (7, 3, 0.5), (1000, 23, 4)])
def test_equals_the_numpy_reference(data, mode, steps, kernel_size, sigma):
    blur = {"blur_kernel_size": kernel_size, "blur_sigma": sigma}
    curves = perturbation_curve(predict, **data, mode=mode, steps=steps, **blur)
    for i, curve in enumerate(curves):
        row = data["images"][i], data["saliency"][i], int(data["targets"][i])
        expected = numpy_curve(predict, *row, mode, steps, kernel_size, sigma)
        np.testing.assert_allclose(curve, expected, atol=1e-6)


def test_number_of_points_where_steps_do_not_divide_the_pixels():
    image = torch.zeros(1, 1, 5, 6)  # 30 pixels: 28 steps of 2 pixels would be too many
    curve = perturbation_curve(share, image, image[:, 0], torch.tensor([0]), mode="deletion", activation=None)
    assert curve.shape == (1, 16)


def test_ties_change_from_the_last_pixel_on():
    image = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    saliency = torch.tensor([[[0.0, -0.0], [0.0, -0.0]]])  # negative zero is a tie, too
    curve = perturbation_curve(share, image, saliency, torch.tensor([0]), "deletion", steps=4, activation=None)
    assert curve.tolist() == [[0.25, 0.25, 0.25, 0.25, 0.0]]


def test_strictly_increasing_transforms_change_nothing(data):
    curve = perturbation_curve(predict, **data)
    assert torch.equal(
        curve, perturbation_curve(predict, data["images"], (5 * data["saliency"]).exp(), data["targets"])
    )


@pytest.mark.parametrize("batch_size", [1, 5, 28, 29, 30, 1000])
def test_batch_size_does_not_matter_and_bounds_the_batches(data, batch_size):
    seen = []

    def watched(images):
        seen.append(len(images))
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert not torch.is_grad_enabled()
        return predict(images)

    curves = perturbation_curve(watched, **data, batch_size=batch_size)
    torch.testing.assert_close(curves, perturbation_curve(predict, **data), atol=1e-6, rtol=0)
    total = curves.numel()
    assert seen == [min(batch_size, total - first) for first in range(0, total, batch_size)]  # images share batches


def test_batch_size_default_on_a_cpu(data):
    seen = []
    perturbation_curve(lambda x: (seen.append(len(x)), predict(x))[1], **data)
    assert max(seen) == 32  # small images


def test_list_of_different_sizes_equals_one_by_one():
    rng = torch.Generator().manual_seed(0)
    sizes = [(9, 12), (30, 28), (9, 12), (7, 5)]
    images = [torch.randn(3, *size, generator=rng) for size in sizes]
    saliency = [torch.rand(*size, generator=rng) for size in sizes]
    targets = torch.tensor([0, 1, 2, 1])
    curves = perturbation_curve(predict, images, saliency, targets, batch_size=7)
    assert isinstance(curves, list)
    for i, curve in enumerate(curves):
        one = perturbation_curve(predict, images[i][None], saliency[i][None], targets[i : i + 1])[0]
        torch.testing.assert_close(curve, one, atol=1e-6, rtol=0)
    metric = InsertionAUC()
    metric.update(predict, images, saliency, targets)
    mean = sum(area_under_curve(curve) for curve in curves) / 4
    torch.testing.assert_close(metric.compute(), mean, atol=1e-6, rtol=0)
    assert metric.mean_curve().shape == (29,)
    torch.testing.assert_close(metric.mean_curve()[0], sum(c[0] for c in curves) / 4)
    torch.testing.assert_close(metric.mean_curve()[-1], sum(c[-1] for c in curves) / 4)


def test_list_of_one_size_gives_a_tensor(data):
    as_list = perturbation_curve(predict, list(data["images"]), list(data["saliency"]), data["targets"])
    assert torch.equal(as_list, perturbation_curve(predict, **data))


def test_maps_of_another_size_are_resized(data):
    small = torch.nn.functional.avg_pool2d(data["saliency"][:, None], 2)[:, 0]
    resized = torch.nn.functional.interpolate(small[:, None], (12, 16), mode="bilinear", align_corners=False)[:, 0]
    curves = [
        perturbation_curve(predict, data["images"], maps, data["targets"]) for maps in (small, resized, list(small))
    ]
    assert torch.equal(curves[0], curves[1])
    assert torch.equal(curves[0], curves[2])


def test_mean_curve_is_the_mean_of_the_curves(data):
    curves = perturbation_curve(predict, **data, mode="deletion", steps=6)
    metric = DeletionAUC(steps=6)
    for i in range(3):
        metric.update(predict, data["images"][i : i + 1], data["saliency"][i : i + 1], data["targets"][i : i + 1])
    torch.testing.assert_close(metric.mean_curve(), curves.mean(0))
    torch.testing.assert_close(area_under_curve(metric.mean_curve()), metric.compute())
    assert torch.isnan(DeletionAUC().mean_curve()).all()


def test_pixels_per_step_takes_the_place_of_steps(data):
    fine = perturbation_curve(predict, **data, pixels_per_step=32, steps=3)
    assert torch.equal(fine, perturbation_curve(predict, **data, steps=6))
    assert perturbation_curve(predict, **data, pixels_per_step=10**6).shape == (3, 2)
    metric = InsertionAUC(pixels_per_step=32, steps=3)
    metric.update(predict, **data)
    torch.testing.assert_close(metric.mean_curve(), fine.mean(0)[::2])


def softmax(logits, targets):
    return logits.softmax(1).gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", None])
def test_activation(data, activation):
    curve = perturbation_curve(predict, **data, activation=activation)
    function = {"softmax": lambda z: z.softmax(1), "sigmoid": torch.sigmoid, None: lambda z: z}[activation]
    expected = function(predict(data["images"])).gather(1, data["targets"][:, None])[:, 0]
    torch.testing.assert_close(curve[:, -1], expected, atol=1e-6, rtol=0)


def test_baselines(data):
    images, targets = data["images"], data["targets"]
    colour = torch.tensor([0.1, -0.2, 0.3])[:, None, None]
    blurred = torch.stack([torch.from_numpy(numpy_blur(x.double().numpy(), 23, 50.0)).float() for x in images])
    expected = {
        "zeros": images * 0,
        "blur": blurred,
        "colour": images * 0 + colour,
        "each": images.flip(3),
        "call": -images,
    }
    given = {"zeros": "zeros", "blur": "blur", "colour": colour, "each": images.flip(3), "call": torch.neg}
    for name, baseline in given.items():
        for mode, end in (("insertion", 0), ("deletion", -1)):
            curve = perturbation_curve(predict, **data, mode=mode, baseline=baseline)
            torch.testing.assert_close(
                curve[:, end], softmax(predict(expected[name]), targets), atol=1e-5, rtol=0, msg=f"{name} {mode}"
            )


def test_baseline_per_image_of_different_sizes():
    images = [torch.ones(1, 4, 4), torch.ones(1, 2, 8), torch.ones(1, 4, 4)]
    maps = [image[0] for image in images]
    curves = perturbation_curve(
        share, images, maps, torch.tensor([0, 0, 0]), baseline=lambda x: x * 0.5, activation=None, steps=2
    )
    assert [curve.tolist() for curve in curves] == [[0.5, 0.75, 1.0]] * 3


def test_kernel_is_shrunk_for_small_images_with_one_warning(data):
    _warn_shrunk.cache_clear()
    with pytest.warns(UserWarning, match="kernel of 51 pixels does not fit images under 26"):
        perturbation_curve(predict, **data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        perturbation_curve(predict, **data)
        _warn_shrunk.cache_clear()
        perturbation_curve(predict, **data, protocol="rise")
        perturbation_curve(predict, **data, mode="deletion")
        perturbation_curve(predict, **data, blur_kernel_size=23)


def test_images_of_one_pixel():
    image = torch.ones(1, 1, 1, 1)
    curve = perturbation_curve(share, image, image[0], torch.tensor([0]), activation=None)
    assert curve.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_keep_their_dtype(data, dtype):
    seen = set()

    def watched(images):
        seen.add(images.dtype)
        return predict(images)

    images = data["images"].to(dtype)
    curve = perturbation_curve(watched, images, data["saliency"], data["targets"])
    assert seen == {dtype}
    assert curve.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    rough = 1e-6 if dtype == torch.float64 else 0.05
    torch.testing.assert_close(curve.float(), perturbation_curve(predict, **data), atol=rough, rtol=0)


def test_binary_model_with_one_logit(data):
    targets = torch.tensor([0, 1, 0])
    curve = perturbation_curve(lambda x: predict(x)[:, :1], data["images"], data["saliency"], targets)
    positive = predict(data["images"])[:, 0].sigmoid()
    torch.testing.assert_close(curve[:, -1], torch.where(targets == 1, positive, 1 - positive), atol=1e-6, rtol=0)


def test_a_constant_map_and_nan_are_ranked_not_refused(data):
    maps = torch.full_like(data["saliency"], torch.nan)
    constant = perturbation_curve(predict, data["images"], torch.zeros_like(maps), data["targets"])
    assert torch.equal(perturbation_curve(predict, data["images"], maps, data["targets"]), constant)


def test_area_under_curve():
    assert area_under_curve(torch.tensor([[0.0, 1.0], [1.0, 1.0]])).tolist() == [0.5, 1.0]
    with pytest.raises(ValueError, match="`curves` to have at least two points"):
        area_under_curve(torch.tensor([1.0]))


BAD_OPTIONS = [
    ({"steps": 0}, "`steps` to be a positive int, but got 0"),
    ({"steps": 2.5}, "`steps` to be a positive int, but got 2.5"),
    ({"steps": True}, "`steps` to be a positive int, but got True"),
    ({"pixels_per_step": -1}, "`pixels_per_step` to be a positive int or None, but got -1"),
    ({"protocol": "rice"}, r"`protocol` to be one of \('groupcam', 'rise'\), but got 'rice'"),
    ({"baseline": "black"}, "`baseline` to be None .* but got 'black'"),
    ({"blur_kernel_size": 4}, "`blur_kernel_size` to be odd and positive, or None, but got 4"),
    ({"blur_kernel_size": 5.0}, "`blur_kernel_size`"),
    ({"blur_sigma": 0}, "`blur_sigma` to be a positive number or None, but got 0"),
    ({"blur_sigma": float("nan")}, "`blur_sigma`"),
    ({"blur_sigma": "5"}, "`blur_sigma`"),
    ({"activation": "relu"}, r"`activation` to be one of \('softmax', 'sigmoid'\), but got 'relu'"),
    ({"batch_size": 0}, "`batch_size` to be a positive int or None, but got 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_options(data, options, message):
    with pytest.raises(ValueError, match=message):
        perturbation_curve(predict, **data, **options)
    for metric in (InsertionAUC, DeletionAUC):
        with pytest.raises(ValueError, match=message):
            metric(**options)


BAD_INPUTS = [
    ({"mode": "inserting"}, ValueError, r"`mode` to be one of \('insertion', 'deletion'\), but got 'inserting'"),
    ({"images": torch.zeros(3, 12, 16)}, ValueError, "`images` to have shape"),
    ({"images": torch.zeros(3, 3, 12, 16, dtype=torch.uint8)}, TypeError, "floating point"),
    ({"images": torch.zeros(2, 3, 12, 16)}, ValueError, "`images` to have one entry for each of the 3 maps"),
    ({"images": []}, ValueError, "at least one image"),
    ({"saliency": torch.zeros(3, 1, 12, 16)}, ValueError, r"Drop the channel, e.g. saliency\[:, 0\]"),
    ({"saliency": torch.zeros(12, 16)}, ValueError, r"For one map pass saliency\[None\]"),
    ({"saliency": "maps"}, TypeError, "`saliency` to be a tensor .* but got str"),
    ({"saliency": [torch.zeros(12, 16), None, None]}, TypeError, "map 1 of argument `saliency` .* but got NoneType"),
    ({"saliency": [torch.zeros(0, 16)] * 3}, ValueError, "map 0 of argument `saliency` .* at least one pixel"),
    ({"saliency": torch.zeros(3, 12, 16, dtype=torch.complex64)}, TypeError, "real tensor"),
    ({"targets": torch.tensor([0, 1])}, ValueError, "`targets`"),
    ({"targets": torch.tensor([0, 1, 3])}, ValueError, "`targets` to be in 0..2"),
    ({"targets": torch.tensor([0.0, 1, 2])}, TypeError, "`targets`"),
    ({"baseline": torch.zeros(3, 5, 5)}, ValueError, r"`baseline` .*broadcasts.* but got shape \(3, 5, 5\)"),
    ({"baseline": lambda x: x[..., :5]}, ValueError, "`baseline` .*broadcasts"),
    ({"predict": lambda x: predict(x)[:2]}, ValueError, "`predict` to return logits for 32 images, but got 2 rows"),
    ({"predict": lambda x: "cat"}, TypeError, "logits"),
    ({"predict": lambda x: x}, ValueError, "logits"),
]


@pytest.mark.parametrize(("inputs", "error", "message"), BAD_INPUTS)
def test_bad_inputs(data, inputs, error, message):
    with pytest.raises(error, match=message):
        perturbation_curve(**{"predict": predict, **data, **inputs})


def test_metric_states_are_unchanged_by_a_failed_update(data):
    metric = InsertionAUC()
    with pytest.raises(ValueError, match="`targets`"):
        metric.update(predict, data["images"], data["saliency"], torch.tensor([0, 1, 3]))
    assert not metric.insertion_total


@pytest.mark.parametrize(("side", "shrunk"), [(25, True), (26, False)])
def test_the_blur_is_said_to_shrink_only_where_it_does(side, shrunk):
    _warn_shrunk.cache_clear()
    image = torch.rand(1, 3, side, 40)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        perturbation_curve(predict, image, image[:, 0], torch.tensor([0]), steps=2)
    assert bool(said) == shrunk
