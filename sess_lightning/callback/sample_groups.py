"""The group of each sample, which `SESSCallback(groups=)` takes out of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sess_lightning.samples import describe


def checked_key(groups: Any) -> str | None:
    """The argument `groups`.

    Raises:
        ValueError: if it is no key.
    """
    if groups is not None and not (isinstance(groups, str) and groups):
        raise ValueError(
            f"Expected argument `groups` to be the key of the batch that holds each sample's group, or None, but got "
            f"{groups!r}."
        )
    return groups


def groups_of(batch: Any, key: str, positions: Sequence[int], count: int) -> list[str | None]:
    """Returns the groups of the samples at these positions, as text.

    Args:
        batch: a mapping with the groups of all samples under `key`; or what holds a list of mappings, one a sample,
            with the group under `key`, e.g. `(images, targets)` with detection targets.
        key: where the groups are.
        positions: of samples in the batch.
        count: samples of the batch.

    Raises:
        ValueError: if the batch holds no such key, or not a name or number for each sample under it.

    Example:
        >>> groups_of({"image": ..., "place": ["water", "land"]}, "place", [1], 2)
        ['land']
    """
    found = _all_groups(batch, key)
    if found is None:
        raise ValueError(
            f"Expected the batches to hold `groups`={key!r}: a mapping with that key and a group for each sample, or "
            f"detection targets with it, but got {type(batch).__name__} without."
        )
    if isinstance(found, Tensor) and found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    several = isinstance(found, (list, tuple)) or (isinstance(found, (Tensor, np.ndarray)) and found.ndim == 1)
    if not several or len(found) != count:
        raise ValueError(
            f"Expected the batches to hold a group for each sample under `groups`={key!r}, a list or tensor of "
            f"{count}, but got {describe(found)}."
        )
    return [_text(found[position], key) for position in positions]


def holds_groups(batch: Any, key: str) -> bool:
    """Whether a batch, or the detection targets in it, have such a key."""
    return _all_groups(batch, key) is not None


def _all_groups(batch: Any, key: str) -> Any:
    """What is under the key, in any form; `None` where it is not there."""
    if isinstance(batch, Mapping) and key in batch:
        return batch[key]
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else ()
    for part in parts:
        if isinstance(part, (list, tuple)) and part and all(isinstance(one, Mapping) for one in part):
            if any(key in one for one in part):
                return [one.get(key) for one in part]
        elif isinstance(part, Mapping) and key in part:
            return part[key]
    return None


def _text(group: Any, key: str) -> str | None:
    one_number = isinstance(group, (Tensor, np.ndarray, np.generic)) and group.shape in ((), (1,))
    value = group.item() if one_number else group
    if value is None or isinstance(value, (str, int, float)):
        return None if value is None else str(value)
    raise ValueError(
        f"Expected the group of each sample, under `groups`={key!r}, to be a name or a number, but got "
        f"{describe(group)}."
    )
