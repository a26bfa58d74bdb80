"""A judge of single maps agrees with the metric over all of them."""

import pytest
import torch
from torchmetrics import MeanMetric

from sess_lightning.callback.hits import Judge
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
    judge = Judge({"other": MeanMetric(), "game": game})
    hits = [judge(*sample) for sample in zip(maps, targets.tolist(), objects, strict=True)]
    counted = [hit for hit in hits if hit is not None]
    metric = PointingGame(tolerance=game.tolerance, subset=game.subset)
    metric.update(maps, targets, objects)
    assert judge.measured
    assert judge.tolerance == game.tolerance
    assert len(counted) == int(metric.pointing_total)
    assert 0 < sum(counted) < len(counted)
    assert sum(counted) / len(counted) == pytest.approx(float(metric.compute()))


def test_the_one_named_pointing_judges():
    judge = Judge({"near": PointingGame(tolerance=7), "pointing": PointingGame(tolerance=0)})
    assert judge.tolerance == 0
    assert Judge({"near": PointingGame(tolerance=7), "pointing": MeanMetric()}).tolerance == 7


def test_without_a_pointing_metric_the_pixel_itself_counts():
    judge = Judge({"other": MeanMetric()})
    assert not judge.measured
    assert judge.tolerance == 0


@pytest.mark.parametrize("objects", [None, {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.long)},
                                     {"boxes": torch.tensor([[0, 0, 9, 9]]), "labels": torch.tensor([4])}])  # fmt: skip
def test_what_counts_as_neither(objects, recwarn):
    assert Judge({"pointing": PointingGame()})(torch.eye(20), 3, objects) is None
    assert not recwarn
