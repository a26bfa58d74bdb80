"""The group of each sample, which `SESSCallback(groups=)` takes out of the batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor


def groups_of(batch: Any, key: str, positions: Sequence[int]) -> list[str | None]:
    """Returns the groups of the samples at these positions, as text.

    Args:
        batch: a mapping with the groups of all samples under `key`; or what holds a list of mappings, one a sample,
            with the group under `key`, e.g. `(images, targets)` with detection targets.
        key: where the groups are.
        positions: of samples in the batch.

    Raises:
        ValueError: if the batch holds no such key.

    Example:
        >>> groups_of({"image": ..., "place": ["water", "land"]}, "place", [1])
        ['land']
    """
    if isinstance(batch, Mapping) and key in batch:
        found = batch[key]
        return [_text(found[position]) for position in positions]
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, (list, tuple)) else ()
    for part in parts:
        if isinstance(part, (list, tuple)) and part and all(isinstance(one, Mapping) for one in part):
            if any(key in one for one in part):
                return [_text(part[position].get(key)) for position in positions]
        elif isinstance(part, Mapping) and key in part:
            return groups_of(part, key, positions)
    raise ValueError(
        f"Expected the batches to hold `groups`={key!r}: a mapping with that key and a group for each sample, or "
        f"detection targets with it, but got {type(batch).__name__} without."
    )


def _text(group: Any) -> str | None:
    return None if group is None else str(group.item() if isinstance(group, Tensor) else group)
