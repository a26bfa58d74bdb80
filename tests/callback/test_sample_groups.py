"""`SESSCallback(groups=)`: the groups of the usual batches, and what is wrong with others."""

import numpy as np
import pytest
import torch

from sess_lightning import SESSCallback
from sess_lightning.callback.sample_groups import groups_of
from tests.helpers.nets import seeded
from tests.helpers.shortcuts import ReadsTheCorner, marked
from tests.helpers.training import trainer


@pytest.mark.parametrize(
    "batch",
    [
        {"image": 0, "place": ["land", "water"]},
        {"image": 0, "place": torch.tensor([0, 1])},
        (0, [{"place": "land"}, {"place": "water"}]),
        (0, {"place": ["land", "water"]}),
        {"image": 0, "place": np.array([0, 1])},
        {"image": 0, "place": torch.tensor([[0], [1]])},
        {"image": 0, "target": [{"place": 0}, {"place": torch.tensor(1)}]},
    ],
)
def test_groups_are_found_in_the_usual_batches(batch):
    assert groups_of(batch, "place", [1, 0], 2) in (["water", "land"], ["1", "0"])


def test_a_batch_without_groups_names_the_argument():
    with pytest.raises(ValueError, match="`groups`='place'"):
        groups_of((0, [{"boxes": 0}]), "place", [0], 1)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (["land"], r"a list or tensor of 2, but got a list of 1"),
        (torch.zeros(3), r"a list or tensor of 2, but got Tensor \(3,\)"),
        (torch.zeros(2, 4), r"a list or tensor of 2, but got Tensor \(2, 4\)"),
        (torch.tensor(1), r"a list or tensor of 2, but got Tensor \(\)"),
        ("ab", r"a list or tensor of 2, but got .*str"),
        (7, r"a list or tensor of 2, but got .*int"),
        ([torch.zeros(2), torch.zeros(2)], r"to be a name or a number, but got Tensor \(2,\)"),
        ([{"a": 1}, {"a": 2}], r"to be a name or a number, but got a dict"),
    ],
)
def test_groups_of_another_form_or_number(found, says):
    with pytest.raises(ValueError, match=f"`groups`='place'.*{says}"):
        groups_of({"image": 0, "place": found}, "place", [1, 0], 2)


def test_targets_of_another_number():
    with pytest.raises(ValueError, match="a list or tensor of 2, but got a list of 1"):
        groups_of((0, [{"place": "land"}]), "place", [0], 2)


@pytest.mark.parametrize("groups", [3, ["place"], ""])
def test_the_argument_is_a_key(groups):
    with pytest.raises(ValueError, match="argument `groups` to be the key"):
        SESSCallback(groups=groups)


def validate(tmp_path, **options):
    callback = SESSCallback(num_samples=24, num_images=0, metrics=(), compare_base=False, **options)
    trainer(tmp_path, callback).validate(ReadsTheCorner(), marked(), verbose=False)
    return callback


def test_groups_of_a_run(tmp_path):
    with pytest.warns(UserWarning, match="Group 'field' .24 samples.: right in 24"):
        validate(tmp_path, groups="place")
    with pytest.raises(ValueError, match="`groups`='time'"):
        validate(tmp_path, groups="time")


def test_without_the_alarm_none_are_needed(tmp_path):
    assert validate(tmp_path, groups="time", alarm=False).last_result is not None


class Photos(torch.utils.data.Dataset):
    """The first has a group, in the form of detection targets; the other has a label alone."""

    def __len__(self):
        return 2

    def __getitem__(self, i):
        target = {"boxes": torch.tensor([[1.0, 1, 9, 9]]), "labels": torch.tensor([1]), "place": "shore"}
        return seeded(i, 3, 32, 32), target if i == 0 else 1


def test_photos_without_a_group_are_in_none(tmp_path):
    batches, photos = validate(tmp_path, groups="place", photos=Photos(), dataloaders=[0])._trackers.values()
    assert batches.groups == ["field"] * 24
    assert photos.groups == ["shore", None]


def test_photos_alone_of_which_none_has_a_group_are_told(tmp_path):
    with pytest.warns(UserWarning, match="no group under groups='time' in any of the photos"):
        validate(tmp_path, groups="time", photos=Photos())
