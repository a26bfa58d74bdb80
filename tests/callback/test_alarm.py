"""The sentences of the alarm: said where the evidence is strong, and only there."""

import json

import pytest
import torch

from sess_lightning import SESSCallback
from sess_lightning.callback.alarm import FEWEST, Evidence, can_be_judged, judge
from tests.helpers.boards import events
from tests.helpers.boards import text as written
from tests.helpers.shortcuts import ReadsTheCorner, marked
from tests.helpers.training import trainer


def samples(target, count, on_object, on_background, right=True, hit=False, group=None):
    """Evidence that varies a little, so that intervals have a width."""
    spread = [0.02 * (number % 3 - 1) for number in range(count)]
    return [Evidence(target, right, hit, on_object + one, on_background, group) for one in spread]


def texts(evidence):
    return [alarm.text for alarm in judge(evidence, lambda target: f"class {target}").alarms]


def test_the_sentence_tells_what_was_seen():
    star = samples(3, 11, 0.03, 0.62)
    star[0] = star[0]._replace(hit=True)
    evidence = [*star, *samples(3, 1, 0.0, 0.0, right=False), *samples(0, 12, 0.8, 0.0)]
    (alarm,) = judge(evidence, {3: "star"}.get).alarms
    assert alarm.text == (
        "Class 'star' (12 samples): right in 11, looks at the object in 1; hiding the background costs 0.62 of "
        "probability, hiding the object 0.03."
    )
    assert alarm.target == 3


def test_without_pointing_nothing_is_said_of_it():
    (said,) = texts(samples(0, 9, 0.0, 0.5, hit=None))
    assert "looks" not in said


def test_all_classes_are_named_where_the_whole_is_against_them_and_half_of_those_judged_too():
    """Counted before the list is cut; what cannot be judged does not count."""
    ten = [one for target in range(10) for one in samples(target, 6, 0.0, 0.5)]
    few = [one for target in range(10, 40) for one in samples(target, 2, 0.0, 0.5)]
    assert texts([*ten, *few])[0].startswith("All classes (120 samples)")
    honest = [one for target in range(40, 48) for one in samples(target, 6, 0.1, 0.0)]
    assert texts([*ten, *honest])[0].startswith("All classes (108 samples)")
    more = [one for target in range(48, 52) for one in samples(target, 6, 0.1, 0.0)]
    assert texts([*ten, *honest, *more])[0].startswith("Class")  # ten of twenty-two
    strong = [one for target in range(40, 42) for one in samples(target, 60, 0.9, 0.0)]
    assert texts([*ten, *strong])[0].startswith("Class")  # the whole rests on the objects


def test_the_number_is_that_of_classes():
    def number(*several):
        return judge([one for some in several for one in some], str).number

    assert number(samples(0, 6, 0.0, 0.5), samples(1, 6, 0.8, 0.0)) == 1
    assert number(*(samples(target, 6, 0.0, 0.5, group="a") for target in range(9))) == 9
    assert number(*(samples(target, 2, 0.0, 0.5) for target in range(9))) == 1  # told of all together
    assert number(samples(0, 6, 0.8, 0.0)) == 0


@pytest.mark.parametrize(
    "evidence",
    [
        samples(0, FEWEST - 1, 0.0, 0.5),
        samples(0, 30, 0.0, 0.5, right=False),
        samples(0, 30, 0.0, 0.5, right=None),
        samples(0, 30, float("nan"), 0.5, group="land"),
    ],
)
def test_what_cannot_be_judged_has_no_number(evidence):
    assert judge(evidence, str).number is None
    assert can_be_judged(evidence) == (len(evidence) == 30 and evidence[0].right is False)


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


def test_long_lists_of_groups_end_too():
    told = [one for n in range(6) for one in samples(n, 6, 0.0, 0.2 + 0.1 * n, group=f"group {n}")]
    said = [one for one in texts(told) if "roup" in one]
    assert [one.split("'")[1] for one in said[:3]] == ["group 5", "group 4", "group 3"]
    assert said[3:] == ["3 more groups are told by something else than objects."]
    seen = [one for n in range(3) for one in samples(0, 60, 0.8, 0.0, group=f"seen {n}")]
    missed = [one for n in range(3) for one in samples(0, 60, 0.8, 0.0, right=False, group=f"missed {n}")]
    said = texts([*seen, *missed])
    assert len(said) == 4
    assert said[3] == "6 more pairs of groups differ likewise."


def test_the_widest_gap_comes_first():
    parts = {"all": (20, 0), "most": (18, 2), "none": (0, 20)}
    evidence = [
        one
        for group, (right, wrong) in parts.items()
        for one in [*samples(0, right, 0.8, 0.0, group=group), *samples(0, wrong, 0.8, 0.0, right=False, group=group)]
    ]
    first, second = texts(evidence)
    assert "20 of 20 samples of group 'all'" in first
    assert "18 of 20 samples of group 'most'" in second


def test_what_a_sentence_is_about_is_known_by_its_key():
    """Not by its text: numbers change, and names may hold anything."""
    names = {0: "mouse (animal)", 1: "mouse (device)", 2: "pen", 3: "pencil"}.get

    def keys(cost, wrong):
        few = [one for target in range(4) for one in samples(target, 6, 0.0, cost, group="a (b")]
        gap = samples(5, 20 - wrong, 0.8, 0.0, group="a (c") + samples(5, wrong, 0.8, 0.0, right=False, group="a (d")
        return [alarm.key for alarm in judge([*few, *gap, *samples(6, 40, 0.9, 0.0)], names).alarms]

    assert keys(0.5, 8) == keys(0.6, 9)
    assert len(set(keys(0.5, 8))) == len(keys(0.5, 8)) == 7


def validate(tmp_path, logger=True, **options):
    t = trainer(tmp_path, SESSCallback(**{"num_samples": 24, "num_images": 2, **options}), logger=logger)
    t.validate(ReadsTheCorner(), marked(), verbose=False)
    return t


def test_a_network_that_reads_the_corner_is_told_everywhere(tmp_path):
    with pytest.warns(UserWarning, match="Class '?1'? .12 samples.: right in 12.*hiding the object 0.00"):
        t = validate(tmp_path)
    assert t.callback_metrics["sess/alarms"] == 2  # classes, though a third sentence is about both
    assert t.callback_metrics["sess/object_reliance"] == pytest.approx(0, abs=1e-3)
    assert t.callback_metrics["sess/background_reliance"] > 0.4
    assert "hiding the background costs 0.50" in written(events(t.logger.log_dir), "sess/alarms")
    (line,) = next(tmp_path.rglob("validations.jsonl")).read_text().splitlines()
    assert [one["class"] for one in json.loads(line)["alarms"]] == [None, 0, 1]


def test_it_can_be_switched_off(tmp_path):
    t = validate(tmp_path, logger=False, alarm=False)
    assert not {"sess/alarms", "sess/object_reliance", "sess/background_reliance"} & t.callback_metrics.keys()


def test_classes_of_like_names_are_both_told(tmp_path):
    with pytest.warns(UserWarning, match="Class 'mouse") as caught:
        validate(tmp_path, logger=False, class_names=["mouse (animal)", "mouse (device)"])
    told = [str(one.message) for one in caught if "Class 'mouse" in str(one.message)]
    assert len(told) == 2


def test_too_few_to_judge_log_no_number(tmp_path):
    t = validate(tmp_path, logger=False, num_samples=4)
    assert "sess/object_reliance" in t.callback_metrics
    assert "sess/alarms" not in t.callback_metrics


class ReadsItWrong(ReadsTheCorner):
    """Class 1 is always told to be class 0."""

    def forward(self, images):
        return super().forward(images) - torch.tensor([0.0, 99.0])


@pytest.mark.parametrize(
    ("module", "target", "number"),
    [
        (ReadsTheCorner, "predicted", 2),
        (ReadsTheCorner, lambda samples, logits: 1 - logits.argmax(1), None),  # sentences would be of the other class
        (ReadsTheCorner, lambda samples, logits: torch.zeros(len(logits), dtype=torch.long), 1),
        (ReadsItWrong, "predicted", 0),
    ],
)
def test_a_sentence_is_of_samples_whose_label_is_its_class(tmp_path, module, target, number):
    """Whatever is explained, `right` is of the class that the sentence names, and a click on it shows those samples."""
    callback = SESSCallback(num_samples=24, num_images=0, target=target, metrics=())
    t = trainer(tmp_path, callback)
    t.validate(module(), marked(), verbose=False)
    found = t.callback_metrics.get("sess/alarms")
    assert (None if found is None else int(found)) == number
    for alarm in callback._trackers[0].alarms:
        assert "(12 samples): right in 12" in alarm.text or alarm.target is None
