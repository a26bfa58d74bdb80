"""Maps without information: what `valid=` makes of them, and that nothing changes without it."""

import numpy as np
import pytest
import torch
from scipy.integrate import trapezoid

from sess_lightning.metrics import (
    DeletionAUC,
    EnergyPointingGame,
    InsertionAUC,
    MaxBoxAccuracy,
    PointingGame,
    SymmetricRelevanceGain,
)
from tests.helpers.metric_cases import CASES, boxed, numpy_curve, samples, select

WITH_VALID = ("insertion", "deletion", "pointing", "energy", "max_box")


@pytest.mark.parametrize("name", WITH_VALID)
def test_all_valid_changes_nothing(name):
    data, case = samples(5, seed=1), CASES[name]
    plain, told = case.make(), case.make()
    plain.update(**case.of(data))
    told.update(**case.of(data), valid=torch.ones(5, dtype=torch.bool))
    assert torch.equal(plain.compute(), told.compute())


@pytest.mark.parametrize("name", ["insertion", "deletion"])
def test_the_order_is_random_and_the_same_each_time(name):
    data, case = select(samples(3, seed=2), [1, 2]), CASES[name]
    values = []
    for fill in (0.0, 1.0, float("nan")):
        metric = case.make()
        state = torch.get_rng_state()
        metric.update(**{**case.of(data), "saliency": torch.full_like(data["saliency"], fill)}, valid=[False, False])
        assert torch.equal(torch.get_rng_state(), state)
        values.append(float(metric.compute()))
    assert len(set(values)) == 1
    # What random orders give on average, from an independent reference.
    rng = np.random.default_rng(0)
    areas = []
    for image, target in zip(data["images"], data["targets"].tolist(), strict=True):
        noise = torch.from_numpy(rng.uniform(size=(30, *image.shape[1:])))
        curves = [numpy_curve(data["predict"], image, one, target, name) for one in noise]
        areas.append([trapezoid(curve, dx=1 / (len(curve) - 1)) for curve in curves])
    expected = np.mean(areas, 0)  # one value for each draw
    assert expected.min() - expected.std() <= values[0] <= expected.max() + expected.std()


def darkness(images):
    """Class 0 is as probable as the share of pixels that is 1."""
    share = images.mean((1, 2, 3))
    return torch.stack([share, 1 - share], 1)


@pytest.mark.parametrize(("metric_class", "first"), [(InsertionAUC, 0.0), (DeletionAUC, 1.0)])
def test_a_random_order_draws_a_straight_line(metric_class, first):
    metric = metric_class(steps=4, baseline="zeros", activation=None)
    metric.update(darkness, torch.ones(1, 1, 8, 8), torch.zeros(1, 8, 8), torch.tensor([0]), valid=[False])
    line = torch.linspace(first, 1 - first, 5)
    assert torch.equal(metric.mean_curve(), line)


@pytest.mark.parametrize(("metric_class", "worst"), [(InsertionAUC, 0.0), (DeletionAUC, 1.0)])
def test_a_network_of_nan_is_the_worst(metric_class, worst):
    arguments = lambda x: x.new_full((len(x), 3), torch.nan), torch.ones(2, 3, 8, 8), torch.zeros(2, 8, 8)
    targets = torch.tensor([0, 2])
    metric = metric_class(steps=4)
    metric.update(*arguments, targets, valid=[False, True])
    assert metric.compute() == worst
    metric.reset()
    metric.update(*arguments, targets)
    assert metric.compute().isnan()  # as the function


def at_every_other_step(value, dtype):
    """Logits of two classes, the first one the image's mean; in every second row the first one is `value`."""
    calls = []

    def predict(images):
        logits = torch.stack([images.mean((1, 2, 3)), torch.zeros(len(images))], 1)
        rows = torch.arange(len(calls), len(calls) + len(images)) % 2 == 1
        calls.extend(rows)
        return torch.where(rows[:, None] & torch.tensor([True, False]), value, logits).to(dtype)

    return predict


@pytest.mark.parametrize(("metric_class", "worst", "up"), [(InsertionAUC, 0.0, True), (DeletionAUC, 1.0, False)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("activation", "value", "instead"),
    [
        ("softmax", torch.nan, None), ("softmax", torch.inf, None), ("softmax", -torch.inf, 0.0),
        ("sigmoid", torch.nan, None), ("sigmoid", torch.inf, 1.0), ("sigmoid", -torch.inf, 0.0),
        (None, torch.nan, None), (None, torch.inf, None), (None, -torch.inf, None),
    ],
)  # fmt: skip
def test_each_probability_that_is_none_counts_as_the_worst(metric_class, worst, up, dtype, activation, value, instead):
    """Where the others of the same curve count as they are; an infinite logit has a probability where that is clear."""
    metric = metric_class(steps=4, baseline="zeros", activation=activation, batch_size=8)
    image, order = torch.ones(1, 1, 8, 8), torch.arange(64.0).view(1, 8, 8)
    metric.update(at_every_other_step(value, dtype), image, order, torch.tensor([0]), valid=[True])
    share = torch.linspace(0, 1, 5) if up else torch.linspace(1, 0, 5)
    expected = share if activation is None else share.sigmoid()
    expected[1::2] = worst if instead is None else instead
    tolerance = {"rtol": 0, "atol": 1e-2 if dtype.itemsize == 2 else 1e-6}
    torch.testing.assert_close(metric.mean_curve(), expected, **tolerance)
    assert float(metric.compute()) == pytest.approx(float(torch.trapezoid(expected, dx=0.25)), abs=tolerance["atol"])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_worst_for_the_relevance_gain(value):
    """Two of five points of each curve: 1 where the class should be gone, 0 where it should still be there."""
    metric = SymmetricRelevanceGain(steps=4, activation=None, batch_size=8)
    image, order = torch.ones(1, 1, 8, 8), torch.arange(64.0).view(1, 8, 8)
    metric.update(at_every_other_step(value, torch.float32), image, order, torch.tensor([0]), valid=[True])
    assert float(metric.compute()) == pytest.approx(-2 * 0.25)


def test_an_invalid_map_misses_even_an_object_everywhere():
    objects = boxed([0, 0, 20, 20]) * 2
    metric = PointingGame()
    metric.update(torch.zeros(2, 20, 20), torch.tensor([1, 1]), objects, valid=[True, False])
    assert metric.compute() == 0.5
    assert metric.skipped == 0


def test_an_invalid_map_without_its_object_is_skipped():
    metric = PointingGame()
    metric.update(torch.zeros(2, 20, 20), torch.tensor([1, 7]), boxed([0, 0, 2, 2]) * 2, valid=[False, False])
    assert metric.skipped == 1
    assert metric.compute() == 0


def test_the_energy_of_no_information_is_the_share_covered():
    metric = EnergyPointingGame()
    metric.update(torch.zeros(1, 10, 10), torch.tensor([1]), boxed([0, 0, 5, 4]), valid=[False])
    assert metric.compute() == pytest.approx(0.2)


def test_no_information_boxes_the_whole_image():
    metric = MaxBoxAccuracy(iou_thresholds=[0.4, 0.6], thresholds=[0.0, 0.5])
    metric.update([torch.full((10, 10), torch.nan)], torch.tensor([1]), boxed([0, 0, 10, 5]), valid=[False])
    assert metric.iou_accuracies().tolist() == [1, 0]


@pytest.mark.parametrize("name", WITH_VALID)
def test_one_for_each_map(name):
    data, case = samples(3, seed=1), CASES[name]
    with pytest.raises(ValueError, match="`valid` to have one entry for each of the 3 maps"):
        case.make().update(**case.of(data), valid=[True])
