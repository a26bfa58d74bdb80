"""A hit_rule of single maps agrees with the metric over all of them."""

import pytest
import torch
from torchmetrics import MeanMetric

from sess_lightning.callback.hits import HitRule
from sess_lightning.metrics import PointingGame

GAMES = [
    PointingGame(tolerance=0), PointingGame(), PointingGame(num_classes=5, average="macro", tolerance=4),
    PointingGame(subset="difficult", tolerance=3),
]  # fmt: skip


def samples(count=40):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.rand(30, 40, generator=generator) for _ in range(count)]
    objects = []
    for number in range(count):
        corner = torch.randint(0, 20, (2, 2), generator=generator).float()
        boxes = torch.cat([corner, corner + 3 + 9 * (number % 3 == 0)], 1)
        objects.append({"boxes": boxes, "labels": torch.tensor([number % 5, (number + number % 2) % 5])})
    return maps, torch.arange(count) % 5, objects


@pytest.mark.parametrize("game", GAMES, ids=repr)
def test_the_share_of_hits_is_the_accuracy(game):
    maps, targets, objects = samples()
    hit_rule = HitRule({"other": MeanMetric(), "game": game})
    hits = [hit_rule(*sample) for sample in zip(maps, targets.tolist(), objects, strict=True)]
    counted = [hit for hit in hits if hit is not None]
    metric = PointingGame(tolerance=game.tolerance, subset=game.subset)
    metric.update(maps, targets, objects)
    assert hit_rule.measured
    assert hit_rule.tolerance == game.tolerance
    assert len(counted) == int(metric.pointing_total)
    assert 0 < sum(counted) < len(counted)
    assert sum(counted) / len(counted) == pytest.approx(float(metric.compute()))


def test_the_one_named_pointing_judges():
    hit_rule = HitRule({"near": PointingGame(tolerance=7), "pointing": PointingGame(tolerance=0)})
    assert hit_rule.tolerance == 0
    assert HitRule({"near": PointingGame(tolerance=7), "pointing": MeanMetric()}).tolerance == 7


def test_without_a_pointing_metric_the_pixel_itself_counts():
    hit_rule = HitRule({"other": MeanMetric()})
    assert not hit_rule.measured
    assert hit_rule.tolerance == 0


@pytest.mark.parametrize("objects", [None, {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.long)},
                                     {"boxes": torch.tensor([[0, 0, 9, 9]]), "labels": torch.tensor([4])}])  # fmt: skip
def test_what_counts_as_neither(objects, recwarn):
    assert HitRule({"pointing": PointingGame()})(torch.eye(20), 3, objects) is None
    assert not recwarn


def test_the_chance_is_the_share_of_pixels_that_hit():
    _, targets, objects = samples(3)
    hit_rule = HitRule({"pointing": PointingGame(tolerance=3)})
    for target, sample in zip(targets.tolist(), objects, strict=True):
        peaks = torch.eye(30 * 40).view(-1, 30, 40)
        hits = [hit_rule(peak, target, sample) for peak in peaks]
        assert hit_rule.chance(target, sample, (30, 40)) == pytest.approx(sum(hits) / 1200)
    assert hit_rule.chance(0, None, (30, 40)) is None


@pytest.mark.parametrize("metrics", [{}, {"pointing": GAMES[2]}, {"pointing": GAMES[3]}])
def test_a_number_that_is_no_mean_of_hits_has_no_chance(metrics):
    _, targets, objects = samples(1)
    assert HitRule(metrics).chance(int(targets[0]), objects[0], (30, 40)) is None
