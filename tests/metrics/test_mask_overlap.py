"""Rank accuracy, Attention-IoU and pixel average precision: closed forms, no skill, ties, scikit-learn, errors."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from sess_lightning.metrics import (
    AttentionIoU,
    PixelAveragePrecision,
    RelevanceRankAccuracy,
    attention_iou,
    pixel_average_precision,
    relevance_rank_accuracy,
)
from tests.helpers.metric_cases import boxed, value_of

FUNCTIONS = (relevance_rank_accuracy, attention_iou, pixel_average_precision)
METRICS = (RelevanceRankAccuracy, AttentionIoU, PixelAveragePrecision)
SHARE = 0.25  # of the image, which the mask below covers


def square():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:6, 2:6] = True
    return mask


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_map_that_is_the_mask_and_one_that_is_not(function):
    mask = square()
    assert float(function(3 * mask.float() - 1, mask)) == pytest.approx(1)
    # outside: no salient pixel hits; PxAP falls back to the share at the lowest threshold
    expected = SHARE if function is pixel_average_precision else 0
    assert float(function(-mask.float(), mask)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("function", "metric", "expected"),
    list(zip(FUNCTIONS, METRICS, (SHARE, 4 * SHARE / (1 + 3 * SHARE), SHARE), strict=True)),
)
def test_no_skill(function, metric, expected):
    """As the docstrings say: of a constant map, of one called invalid, and of a network that knows nothing."""
    mask = square()
    assert float(function(torch.full((1, 8, 8), 7.0), mask)) == pytest.approx(expected)
    measured = metric()
    objects = [{"masks": mask, "labels": torch.tensor([1])}]
    measured.update(mask.float(), torch.tensor([1]), objects, valid=[False])
    assert float(measured.compute()) == pytest.approx(expected)
    if function is not attention_iou:  # for which it also depends on how even the map is
        noise = torch.rand(4000, 8, 8, generator=torch.Generator().manual_seed(0))
        assert float(function(noise, mask.expand(4000, -1, -1)).mean()) == pytest.approx(expected, abs=0.01)


def test_rank_accuracy_of_ties_is_the_mean_over_their_orders():
    rng = np.random.default_rng(0)
    saliency, mask = rng.integers(0, 4, (6, 6)).astype(float), rng.uniform(size=(6, 6)) < 0.4
    shares = [
        mask.ravel()[np.lexsort((rng.uniform(size=36), -saliency.ravel()))[: mask.sum()]].mean() for _ in range(20000)
    ]
    found = relevance_rank_accuracy(torch.from_numpy(saliency)[None], torch.from_numpy(mask)[None])
    assert float(found) == pytest.approx(np.mean(shares), abs=0.005)


def test_rank_accuracy_sees_only_the_order():
    rng = np.random.default_rng(1)
    saliency, mask = torch.from_numpy(rng.normal(size=(3, 9, 7))), torch.from_numpy(rng.uniform(size=(3, 9, 7)) < 0.3)
    assert torch.equal(relevance_rank_accuracy(saliency, mask), relevance_rank_accuracy(saliency.exp() * 1e-3, mask))


@pytest.mark.parametrize("levels", [2, 5, 100])
def test_pixel_precision_equals_scikit_learn(levels):
    """With as many thresholds as the maps have levels it is exact, whatever lies between."""
    rng = np.random.default_rng(levels)
    steps = rng.integers(0, levels, (4, 11, 13))
    steps[:, 0, :2] = 0, levels - 1  # each map spans the whole range
    masks = rng.uniform(size=steps.shape) < 0.1 + 0.6 * steps / levels
    saliency = torch.from_numpy(steps / (levels - 1) * 3 - 1)
    grid = [(2 * i - 1) / (2 * levels - 2) if i else 0.0 for i in range(levels)]
    found = pixel_average_precision(saliency, torch.from_numpy(masks), grid)
    assert float(found) == pytest.approx(average_precision_score(masks.ravel(), steps.ravel()), abs=1e-6)


def test_a_thousand_thresholds_are_nearly_exact():
    rng = np.random.default_rng(3)
    saliency, masks = rng.uniform(size=(5, 32, 32)), rng.uniform(size=(5, 32, 32)) < 0.2
    saliency += 0.3 * masks
    spread = np.stack([(one - one.min()) / np.ptp(one) for one in saliency])
    found = pixel_average_precision(torch.from_numpy(saliency), torch.from_numpy(masks))
    assert float(found) == pytest.approx(average_precision_score(masks.ravel(), spread.ravel()), abs=2e-3)


def test_pixels_below_the_lowest_threshold_are_missed():
    saliency, mask = torch.tensor([[[1.0, 0.2, 0.0]]]), torch.tensor([[[True, True, False]]])
    assert float(pixel_average_precision(saliency, mask, [0.5])) == 0.5


def test_samples_weigh_by_their_pixels():
    maps = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0] * 5 + [1.0]])]
    masks = [torch.tensor([[True, False]]), torch.tensor([[True] + [False] * 5])]
    # at 1: one of two salient pixels; at 0: two of eight
    assert float(pixel_average_precision(maps, masks)) == pytest.approx(0.5 * 0.5 + 0.5 * 2 / 8)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_values_that_are_not_finite_and_empty_masks_give_nan(function, value):
    saliency, mask = torch.rand(1, 8, 8), square()
    broken = saliency.clone()
    broken[0, 0, 0] = value
    assert torch.isnan(function(broken, mask)).all()
    assert torch.isnan(function(saliency, torch.zeros_like(mask))).all()


@pytest.mark.parametrize("metric", METRICS)
def test_skipped_samples(metric):
    maps = torch.rand(4, 8, 8, generator=torch.Generator().manual_seed(0))
    maps[1, 0, 0] = torch.nan
    objects = [*boxed([1.0, 1, 5, 5]), *boxed([1.0, 1, 5, 5]), *boxed([1.0, 1, 5, 5], labels=[2]), None]
    measured = metric()
    measured.update(maps, torch.ones(4, dtype=torch.long), objects)
    assert measured.skipped == 3
    assert float(measured.compute()) == value_of(metric(), maps[:1], torch.tensor([1]), objects[:1])


@pytest.mark.parametrize("function", FUNCTIONS)
def test_masks_that_do_not_fit(function):
    with pytest.raises(ValueError, match="mask 0 of argument `masks` to have the size of its map"):
        function(torch.rand(1, 8, 8), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="argument `masks` to have one entry for each of the 1 maps"):
        function(torch.rand(1, 8, 8), torch.zeros(2, 8, 8))


@pytest.mark.parametrize("thresholds", [0, [0.5, 0.2], [2.0]])
def test_thresholds_out_of_range(thresholds):
    with pytest.raises(ValueError, match="argument `thresholds`"):
        PixelAveragePrecision(thresholds)


def test_no_maps():
    none = torch.zeros(0, 8, 8)
    assert relevance_rank_accuracy(none, none).shape == attention_iou(none, none).shape == (0,)
    assert torch.isnan(pixel_average_precision(none, none))
