"""The choice of the samples to follow: once, by seed, without a second pass over the loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


class SampleSelection:
    """Positions of the followed samples in the order in which a loader gives them to this process.

    Deterministic in `(seed, world_size)` for a loader that does not shuffle. The samples are taken from the batches of
    the validation itself; where the length of the loader is unknown, the first samples are taken.

    Attributes:
        positions: positions of the samples, counted over those that this process sees.
        how: a sentence that tells how they were chosen.

    Args:
        num_samples: number of samples over all processes; each process follows its share.
        indices: positions in the data set instead, counted over all processes as an unshuffled distributed sampler
            deals them out (sample `i` goes to process `i % world_size`).
        seed: seed of the selection's own generator.
        length: samples that this process will see, or `None` if unknown.
        rank: rank of this process.
        world_size: number of processes.

    Example:
        >>> selection = SampleSelection(3, None, seed=0, length=10)
        >>> sum(len(selection.pick(5)) for _ in range(2))
        3
    """

    def __init__(
        self,
        num_samples: int,
        indices: Sequence[int] | None,
        seed: int,
        length: int | None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if indices is not None:
            chosen = [i // world_size for i in indices if i % world_size == rank]
            self.how = "They were given by `indices`."
            self._quotas = [sum(i % world_size == other for i in indices) for other in range(world_size)]
        else:
            self._quotas = [
                num_samples // world_size + (other < num_samples % world_size) for other in range(world_size)
            ]
            quota = self._quotas[rank]
            self.how = (
                f"They were chosen by seed {seed}." if length is not None
                else "They are the first ones, as the loader does not say how many it has."
            )  # fmt: skip
            generator = torch.Generator().manual_seed(seed + rank)
            chosen = (
                list(range(quota)) if length is None else torch.randperm(length, generator=generator)[:quota].tolist()
            )
        self.positions = frozenset(chosen)
        self._rank, self._world_size, self._length = rank, world_size, length
        self._passed = 0

    def state(self) -> dict[str, Any]:
        """Returns the positions, and the number of processes when they were chosen, for a checkpoint."""
        return {"positions": sorted(self.positions), "world_size": self._world_size}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the positions of a checkpoint, which holds those of process 0.

        The other processes choose by the seed, which gives the same positions as before. If the number of processes
        differs, or a position is beyond the length of the loader, the choice by seed stays.
        """
        found = self._length is None or max(state["positions"], default=0) < self._length
        if self._rank == 0 and self._world_size == state["world_size"] and found:
            self.positions = frozenset(state["positions"])
            self.how = "They are those of the training that is resumed."

    def share(self, count: int) -> int:
        """Returns how many of the first `count` samples, taken from all processes in turn, belong to this process."""
        in_turn = sorted((number, rank) for rank, quota in enumerate(self._quotas) for number in range(quota))
        return sum(rank == self._rank for _, rank in in_turn[:count])

    def pick(self, batch_size: int) -> list[int]:
        """Returns the positions in the next batch of the samples to follow."""
        begin = self._passed
        self._passed += batch_size
        return [i for i in range(batch_size) if begin + i in self.positions]
