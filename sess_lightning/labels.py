"""The class of each sample from labels of any usual kind: indices, one-hot, multi-hot or soft rows."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import torch
from torch import Tensor

UNKNOWN = -1
"""Label of a sample whose class is not known: the predicted class is explained."""

IGNORED = 255
"""What many data sets write for "no label", beside negative numbers; a class only in models that have so many."""

_ROUNDING = 1e-3


def class_indices(labels: Any) -> tuple[Tensor, bool]:
    """The class of each sample, and whether one has several.

    Args:
        labels: indices `(B,)` or `(B, 1)` of any dtype, or rows `(B, K)` in [0, 1]: one-hot, multi-hot or soft. A
            tensor, an array, a list of numbers or of tensors with one number each.

    Returns:
        `(B,)` long: the index, of a row its first largest entry. Entries of a row that are NaN, negative or 255 are
        not known and never the largest. `UNKNOWN` for negative and NaN indices and for rows without a positive entry.
        The bool tells whether a row has several entries above one half, as only multi-label data have.

    Raises:
        TypeError: if `labels` are none of these.
        ValueError: if indices are no whole numbers, or rows reach above 1.

    Example:
        >>> class_indices(torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
        (tensor([ 1, -1]), True)
    """
    found = _as_tensor(labels)
    if not isinstance(found, Tensor) or found.ndim not in (1, 2) or found.is_complex() or 0 in found.shape[1:]:
        raise TypeError("Expected labels as class indices (B,), or one row of scores per sample (B, K).")
    if found.ndim == 2 and found.shape[1] > 1:
        return _of_rows(found)
    return _of_indices(found.flatten()), False


def known_labels(labels: Tensor, num_classes: int) -> Tensor:
    """Labels with `UNKNOWN` in place of every negative one, and of 255 where it is no class of the model.

    Example:
        >>> known_labels(torch.tensor([3, -100, 255]), num_classes=10)
        tensor([ 3, -1, -1])
    """
    unknown = labels < 0
    if max(num_classes, 2) <= IGNORED:
        unknown = unknown | (labels == IGNORED)
    return labels.masked_fill(unknown, UNKNOWN)


def _as_tensor(labels: Any) -> Any:
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "biuf":
        return torch.as_tensor(labels)
    if isinstance(labels, (list, tuple)):
        if all(isinstance(label, numbers.Real) for label in labels):
            return torch.tensor(labels)
        if all(isinstance(label, Tensor) and label.numel() == 1 for label in labels):
            return torch.stack([label.reshape(()) for label in labels])
    return labels


def _of_rows(rows: Tensor) -> tuple[Tensor, bool]:
    rows = rows if rows.dtype == torch.float64 else rows.float()
    unknown = rows.isnan() | (rows < 0) | (rows == IGNORED)
    known = rows.masked_fill(unknown, 0)
    if (known > 1 + _ROUNDING).any():
        raise ValueError(
            "Expected rows of labels to be one-hot, multi-hot or soft, with values in [0, 1], but got "
            f"{rows[(known > 1 + _ROUNDING).any(1)][0].tolist()}."
        )
    classes = known.argmax(1).masked_fill(known.amax(1) <= 0, UNKNOWN)
    return classes, bool(((known > 0.5).sum(1) > 1).any())


def _of_indices(labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        labels = labels.nan_to_num(nan=UNKNOWN, posinf=torch.inf, neginf=UNKNOWN)
        if not torch.equal(labels, labels.round()) or labels.isinf().any():
            raise ValueError(
                f"Expected labels to be whole numbers, the indices of classes, but got {labels[:4].tolist()}."
            )
    labels = labels.long()
    return labels.masked_fill(labels < 0, UNKNOWN)
