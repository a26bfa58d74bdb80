"""Logits out of what models return, scores, and one-logit models."""

from dataclasses import dataclass

import pytest
import torch

from sess_lightning.logits import check_targets, class_logits, class_scores, predicted_classes, read_logits


@dataclass
class Output:
    logits: torch.Tensor


@pytest.mark.parametrize(
    "output",
    [torch.ones(2, 3), {"logits": torch.ones(2, 3), "loss": 1}, Output(torch.ones(2, 3)), torch.ones(2, 3, 1, 1)],
)
def test_understood_outputs(output):
    assert torch.equal(read_logits(output), torch.ones(2, 3))


def test_one_logit_without_a_class_axis():
    assert read_logits(torch.ones(5)).shape == (5, 1)


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        ((torch.ones(2, 3), torch.ones(2, 3)), TypeError, r"a tuple of 2 \(Tensor, Tensor\).*`logits_fn`"),
        ({"scores": 1}, TypeError, r"a dict with keys \['scores'\]"),
        (None, TypeError, "NoneType"),
        (torch.ones(2, 3, 4, 5), ValueError, r"\(2, 3, 4, 5\).*mean\(\(2, 3\)\)"),
    ],
)
def test_other_outputs_are_refused_with_the_way_out(output, error, message):
    with pytest.raises(error, match=message):
        read_logits(output)


def test_scores():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    targets = torch.tensor([1, 2])
    torch.testing.assert_close(class_scores(logits, targets), logits.softmax(1)[[0, 1], targets])
    torch.testing.assert_close(class_scores(logits, targets, "sigmoid"), logits.sigmoid()[[0, 1], targets])
    torch.testing.assert_close(class_scores(logits, targets, None), logits[[0, 1], targets])
    assert class_scores(logits.bfloat16(), targets).dtype == torch.float32
    assert class_scores(logits.double(), targets).dtype == torch.float64


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_one_logit_is_binary(activation):
    logits, targets = torch.tensor([[2.0], [2.0]]), torch.tensor([1, 0])
    assert predicted_classes(logits).tolist() == [1, 1]
    assert class_logits(logits, targets).tolist() == [2.0, -2.0]
    scores = class_scores(logits, targets, activation)
    torch.testing.assert_close(scores.sum(), torch.tensor(1.0))
    torch.testing.assert_close(scores[0], torch.tensor(2.0).sigmoid())
    assert check_targets(targets, 2, num_classes=1).tolist() == [1, 0]
    with pytest.raises(ValueError, match=r"in 0\.\.1, as the model gives 1 logit, but got 2"):
        check_targets(torch.tensor([2]), 1, num_classes=1)
