"""Labels of every usual kind as class indices; what is not known is never a class."""

import numpy as np
import pytest
import torch

from sess_lightning.labels import UNKNOWN, class_indices, known_labels
from sess_lightning.samples import target_label

NAN = float("nan")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0, 0, 0], UNKNOWN),
        ([0.0, -0.0, 0.0], UNKNOWN),
        ([NAN, 1, 0], 1),
        ([NAN, 0, 0], UNKNOWN),
        ([-1, 0, 1], 2),
        ([-1, -1, -1], UNKNOWN),
        ([255, 0, 1], 2),
        ([255, 255, 0], UNKNOWN),
        ([0.1, 0.7, 0.2], 1),
        ([0.5, 0.5, 0.0], 0),
        ([0.9, 0.05, 0.05], 0),
    ],
)
def test_rows(row, expected):
    classes, several = class_indices(torch.tensor([row, [0, 1, 0]]))
    assert classes.tolist() == [expected, 1]
    assert not several


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.long, torch.uint8, torch.bool])
def test_several_positives_in_a_row(dtype):
    classes, several = class_indices(torch.tensor([[0, 1, 1], [1, 0, 0]]).to(dtype))
    assert classes.tolist() == [1, 0]
    assert several


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([2, -100, -1, 0]),
        torch.tensor([2.0, NAN, -100.0, 0.0]),
        torch.tensor([[2], [-100], [-5], [0]]),
        torch.tensor([[2.0], [NAN], [-1.0], [0.0]], dtype=torch.float64),
        np.array([2, -1, -100, 0]),
        [2, -100, np.int64(-1), 0.0],
        [torch.tensor(2), torch.tensor([-1]), torch.tensor(-100), torch.tensor([[0]])],
    ],
    ids=["long", "float", "column", "float column", "array", "numbers", "tensors"],
)
def test_negative_and_nan_indices_are_unknown(labels):
    classes, several = class_indices(labels)
    assert classes.dtype == torch.long
    assert classes.tolist() == [2, UNKNOWN, UNKNOWN, 0]
    assert not several


def test_binary_labels_as_floats():
    assert class_indices(torch.tensor([[0.0], [1.0]]))[0].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "error", "says"),
    [
        (torch.tensor([[3, 47], [1, 20]]), ValueError, r"in \[0, 1\], but got \[3\.0, 47\.0\]"),
        (torch.tensor([[12.0, 8.0, 60.0, 44.0]]), ValueError, r"in \[0, 1\]"),
        (torch.tensor([0.5, 1.0]), ValueError, "whole numbers"),
        (torch.tensor([float("inf")]), ValueError, "whole numbers"),
        (torch.zeros(2, 1, 3), TypeError, r"\(B,\)"),
        (torch.zeros(2, 0), TypeError, r"\(B,\)"),
        (["cat"], TypeError, r"\(B,\)"),
        ([torch.zeros(3), torch.zeros(3)], TypeError, r"\(B,\)"),
        (np.array(["cat"]), TypeError, r"\(B,\)"),
    ],
)
def test_what_is_no_label(labels, error, says):
    with pytest.raises(error, match=says):
        class_indices(labels)


@pytest.mark.parametrize(("num_classes", "expected"), [(10, UNKNOWN), (1, UNKNOWN), (255, UNKNOWN), (256, 255)])
def test_255_is_unknown_where_it_is_no_class(num_classes, expected):
    assert known_labels(torch.tensor([3, -100, 255]), num_classes).tolist() == [3, UNKNOWN, expected]


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"label": torch.tensor(-100)}, UNKNOWN),
        ({"label": torch.tensor([0.0, 0.0, 1.0])}, 2),
        ({"label": None, "labels": [4], "boxes": [[0, 0, 1, 1]]}, 4),
        ({"labels": torch.tensor([-1, 3]), "boxes": torch.tensor([[0, 0, 9, 9], [0, 0, 1, 1]])}, 3),
        ({"labels": torch.tensor([-1]), "boxes": torch.tensor([[0, 0, 9, 9]])}, UNKNOWN),
    ],
)
def test_the_class_of_a_detection_target(target, expected):
    assert int(target_label(target)) == expected
