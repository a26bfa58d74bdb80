"""The sentences of the alarm: said where the evidence is strong, and only there."""

import json

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from sess_lightning import SESSCallback
from sess_lightning.callback.alarm import FEWEST, Evidence, alarms
from sess_lightning.callback.sample_groups import groups_of
from tests.helpers.boards import events
from tests.helpers.boards import text as written
from tests.helpers.nets import seeded
from tests.helpers.training import Module, trainer


def samples(target, count, on_object, on_background, right=True, hit=False, group=None):
    """Evidence that varies a little, so that intervals have a width."""
    spread = [0.02 * (number % 3 - 1) for number in range(count)]
    return [Evidence(target, right, hit, on_object + one, on_background, group) for one in spread]


def texts(evidence):
    return [alarm.text for alarm in alarms(evidence, lambda target: f"class {target}")]


def test_the_sentence_tells_what_was_seen():
    star = samples(3, 11, 0.03, 0.62)
    star[0] = star[0]._replace(hit=True)
    (alarm,) = alarms([*star, *samples(3, 1, 0.0, 0.0, right=False), *samples(0, 12, 0.8, 0.0)], {3: "star"}.get)
    assert alarm.text == (
        "Class 'star' (12 samples): right in 11, looks at the object in 1; hiding the background costs 0.62 of "
        "probability, hiding the object 0.03."
    )
    assert alarm.target == 3


def test_without_pointing_nothing_is_said_of_it():
    (said,) = texts(samples(0, 9, 0.0, 0.5, hit=None))
    assert "looks" not in said


def test_where_the_evidence_is_weak_nothing_is_said():
    assert texts(samples(0, 12, 0.7, 0.1)) == []  # honest
    assert texts(samples(0, 12, 0.3, 0.3)) == []  # both count
    assert texts(samples(0, FEWEST - 1, 0.0, 0.9)) == []  # few
    assert texts(samples(0, 12, 0.0, 0.9, right=False)) == []  # what is wrong rests on nothing
    nothing = [Evidence(0, True, None, float("nan"), float("nan"))] * 12
    assert texts(nothing) == []
    assert texts([]) == []
    wide = [Evidence(0, True, False, one, 0.4) for one in (0.0, 0.9, 0.0, 0.9, 0.0, 0.8)]
    assert texts(wide) == []


def test_many_classes_of_few_samples_are_judged_together():
    said = texts([one for target in range(12) for one in samples(target, 2, 0.0, 0.5)])
    assert len(said) == 1
    assert said[0].startswith("All classes (24 samples): right in 24")


def test_the_worst_class_comes_first_and_long_lists_end():
    ten = [one for target in range(10) for one in samples(target, 6, 0.0, 0.2 + 0.05 * target)]
    said = texts([*ten, *(one for target in range(10, 40) for one in samples(target, 6, 0.9, 0.0))])
    assert [one.split("'")[1] for one in said[:3]] == [f"class {target}" for target in (9, 8, 7)]
    assert said[3:] == ["7 more classes are told by something else than objects."]


def test_groups_that_differ():
    seen = samples(0, 20, 0.8, 0.0, group="land")
    missed = [*samples(0, 4, 0.8, 0.0, group="water"), *samples(0, 16, 0.1, 0.0, right=False, group="water")]
    assert texts([*seen, *missed]) == [
        "Right in 20 of 20 samples of group 'land', but in 4 of 20 samples of group 'water'."
    ]
    assert texts([*seen, *samples(0, 20, 0.8, 0.0, group="water")]) == []
    (first, *_) = [one for one in texts([*seen, *samples(1, 20, 0.0, 0.6, group="water")]) if "Group" in one]
    assert first.startswith("Group 'water' (20 samples)")


@pytest.mark.parametrize(
    "batch",
    [
        {"image": 0, "place": ["land", "water"]},
        {"image": 0, "place": torch.tensor([0, 1])},
        (0, [{"place": "land"}, {"place": "water"}]),
        (0, {"place": ["land", "water"]}),
        {"image": 0, "target": [{"place": 0}, {"place": torch.tensor(1)}]},
    ],
)
def test_groups_are_found_in_the_usual_batches(batch):
    assert groups_of(batch, "place", [1, 0]) in (["water", "land"], ["1", "0"])


def test_a_batch_without_groups_names_the_argument():
    with pytest.raises(ValueError, match="`groups`='place'"):
        groups_of((0, [{"boxes": 0}]), "place", [0])


class Marked(Dataset):
    """The corner tells the class, the object in the middle says nothing."""

    def __init__(self, count=24):
        self.images, self.labels = seeded(0, count, 3, 32, 32) * 0.1, torch.arange(count) % 2
        self.images[:, :, :8, :8] = self.labels.float().mul(8).sub(4)[:, None, None, None]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        target = {"boxes": torch.tensor([[14.0, 14, 24, 24]]), "labels": self.labels[i : i + 1], "place": "field"}
        return self.images[i], target


class ReadsTheCorner(Module):
    """Needs no training: the logits are the corner's brightness."""

    def __init__(self):
        super().__init__(num_classes=2)

    def forward(self, images):
        corner = images[:, :, : images.shape[2] // 4, : images.shape[3] // 4].mean((1, 2, 3))
        return torch.stack([-corner, corner], 1) + 0 * self.net(images)


def collate(rows):
    images, targets = zip(*rows, strict=True)
    return torch.stack(images), list(targets)


def validate(tmp_path, logger=True, **options):
    t = trainer(tmp_path, SESSCallback(num_samples=24, num_images=2, **options), logger=logger)
    t.validate(ReadsTheCorner(), DataLoader(Marked(), 6, collate_fn=collate), verbose=False)
    return t


def test_a_network_that_reads_the_corner_is_told_everywhere(tmp_path):
    with pytest.warns(UserWarning, match="Class '?1'? .12 samples.: right in 12.*hiding the object 0.00"):
        t = validate(tmp_path)
    assert t.callback_metrics["sess/alarms"] == 3  # all classes, and each of the two
    assert t.callback_metrics["sess/object_reliance"] == pytest.approx(0, abs=1e-3)
    assert t.callback_metrics["sess/background_reliance"] > 0.4
    assert "hiding the background costs 0.50" in written(events(t.logger.log_dir), "sess/alarms")
    (line,) = next(tmp_path.rglob("validations.jsonl")).read_text().splitlines()
    assert [one["class"] for one in json.loads(line)["alarms"]] == [None, 0, 1]


def test_it_can_be_switched_off(tmp_path):
    t = validate(tmp_path, logger=False, alarm=False)
    assert not {"sess/alarms", "sess/object_reliance", "sess/background_reliance"} & t.callback_metrics.keys()


def test_groups_of_a_run(tmp_path):
    with pytest.warns(UserWarning, match="Group 'field' .24 samples.: right in 24"):
        validate(tmp_path, logger=False, groups="place")
    with pytest.raises(ValueError, match="`groups`='time'"):
        validate(tmp_path, logger=False, groups="time")
