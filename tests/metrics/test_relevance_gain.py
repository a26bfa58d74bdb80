"""Symmetric relevance gain: closed forms, numpy, no skill for any baseline, curves shared with deletion."""

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid
from torchmetrics import MetricCollection

from sess_lightning.metrics import (
    DeletionAUC,
    InsertionAUC,
    NoisyLinearImputation,
    SymmetricRelevanceGain,
    area_under_curve,
    perturbation_curve,
    shared_curves,
)
from tests.helpers.metric_cases import numpy_removal, predict, samples

ARGUMENTS = ("images", "saliency", "targets")


@pytest.fixture
def data():
    return {key: value for key, value in samples(4, seed=2).items() if key in ARGUMENTS}


def test_closed_form_of_a_linear_model():
    """Probability = share of white; a perfect map goes with all white first, or keeps it to the end."""
    image = torch.zeros(1, 1, 4, 4)
    image[..., :2] = 1
    share = lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)  # noqa: E731
    # most first: .5 .25 0 0 0; least first: .5 .5 .5 .25 0; trapezoids of a quarter each
    for saliency, expected in ((image[:, 0], 0.375 - 0.125), (-image[:, 0], 0.125 - 0.375)):
        gain = SymmetricRelevanceGain(4, activation=None)(share, image, saliency, torch.tensor([0]))
        assert float(gain) == pytest.approx(expected)


@pytest.mark.parametrize("steps", [6, 7, 1000])  # 7 does not divide the pixels
def test_equals_numpy(data, steps):
    metric = SymmetricRelevanceGain(steps)
    metric.update(predict, **data)
    expected = []
    for image, saliency, target in zip(*(data[key] for key in ARGUMENTS), strict=True):
        order = np.argsort(saliency.double().numpy().ravel(), kind="stable")
        areas = [
            trapezoid(curve, dx=1 / (len(curve) - 1))
            for curve in (numpy_removal(predict, image, one, int(target), steps) for one in (order, order[::-1]))
        ]
        expected.append(areas[0] - areas[1])
    np.testing.assert_allclose(metric.last_areas, expected, atol=1e-6)
    assert float(metric.compute()) == pytest.approx(np.mean(expected), abs=1e-6)


def test_least_first_is_most_first_backwards_with_ties_too(data):
    ties = (data["saliency"] * 4).round()
    least = perturbation_curve(predict, data["images"], ties, data["targets"], "deletion", 6, order="least")
    # What is left when the k least salient are removed is what insertion has put in after the others.
    most = perturbation_curve(predict, data["images"], ties, data["targets"], "insertion", 6, baseline="zeros")
    torch.testing.assert_close(least, most.flip(1))
    with pytest.raises(ValueError, match="argument `order`"):
        perturbation_curve(predict, **data, order="all")


@pytest.mark.parametrize("baseline", ["zeros", "blur", NoisyLinearImputation(), torch.full((3, 1, 1), 0.5)])
def test_random_maps_score_0_within_3_standard_errors(baseline):
    data, draws = samples(1, seed=5), 150
    images = data["images"].expand(draws, -1, -1, -1)
    targets = data["targets"].expand(draws)
    maps = torch.rand(draws, 12, 16, generator=torch.Generator().manual_seed(1))
    metric = SymmetricRelevanceGain(6, baseline=baseline, blur_kernel_size=5, blur_sigma=2)
    metric.update(predict, images, maps, targets)
    assert metric.last_areas.std() > 1e-3  # single maps do differ
    assert abs(float(metric.compute())) < 3 * float(metric.last_areas.std()) / draws**0.5


@pytest.mark.parametrize("baseline", ["zeros", "blur"])
def test_insertion_minus_deletion_of_one_baseline(data, baseline):
    options = {"steps": 6, "baseline": baseline, "blur_kernel_size": 5, "blur_sigma": 2.0}
    gain, insertion, deletion = (
        one(**options)(predict, **data) for one in (SymmetricRelevanceGain, InsertionAUC, DeletionAUC)
    )
    torch.testing.assert_close(gain, insertion - deletion)


def test_maps_without_information_count_as_one_random_order(data):
    constant = {**data, "saliency": torch.ones_like(data["saliency"])}
    noise = torch.rand(12, 16, generator=torch.Generator().manual_seed(0)).expand(4, -1, -1)
    found = SymmetricRelevanceGain(6)
    found.update(predict, **constant, valid=[False] * 4)
    expected = SymmetricRelevanceGain(6)
    expected.update(predict, data["images"], noise, data["targets"])
    assert torch.equal(found.last_areas, expected.last_areas)


def test_nan_counts_as_the_worst_probability(data):
    silent = lambda x: torch.full((len(x), 3), torch.nan)  # noqa: E731
    metric = SymmetricRelevanceGain(6)
    metric.update(silent, **data, valid=[True] * 4)
    assert metric.compute() == -1


class Counted:
    """The model, and how many images it has been given."""

    def __init__(self):
        self.images = 0

    def __call__(self, images):
        self.images += len(images)
        return predict(images)


@pytest.mark.parametrize(
    ("deletion", "curves"), [({}, 2), ({"baseline": "blur", "blur_kernel_size": 5}, 3), ({"steps": 4}, 3)]
)
def test_a_curve_in_common_is_measured_once(data, deletion, curves):
    make = lambda: MetricCollection(  # noqa: E731
        {"deletion": DeletionAUC(**{"steps": 6, **deletion}), "srg": SymmetricRelevanceGain(6)}, compute_groups=False
    )
    apart, together = make(), make()
    model = Counted()
    apart.update(predict=predict, **data)
    with shared_curves():
        together.update(predict=model, **data)
    assert apart.compute() == together.compute()
    points = 4 * (DeletionAUC(**{"steps": 6, **deletion}).steps + 1) + 4 * (curves - 1) * 7
    assert model.images == points


def test_other_samples_are_measured_anew(data):
    model, metric = Counted(), DeletionAUC(6)
    with shared_curves():
        for _ in range(2):
            metric.update(model, data["images"].clone(), data["saliency"], data["targets"])
    assert model.images == 2 * 4 * 7
    metric.update(model, **data)
    metric.update(model, **data)  # outside nothing is remembered
    assert model.images == 4 * 4 * 7


def test_images_of_several_sizes(data):
    images = [data["images"][0], data["images"][1, :, :9, :10]]
    maps = [data["saliency"][0], data["saliency"][1, :9, :10]]
    metric = SymmetricRelevanceGain(6)
    metric.update(predict, images, maps, data["targets"][:2])
    for image, saliency, target, gain in zip(images, maps, data["targets"], metric.last_areas, strict=False):
        areas = [
            area_under_curve(
                perturbation_curve(predict, image[None], saliency[None], target[None], "deletion", 6, order=order)[0]
            )
            for order in ("least", "most")
        ]
        assert float(gain) == pytest.approx(float(areas[0] - areas[1]), abs=1e-6)
