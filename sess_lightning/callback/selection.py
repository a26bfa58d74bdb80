"""The choice of the samples to follow: once, by seed, without a second pass over the loader."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
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
        self._chosen_by = {
            "num_samples": num_samples,
            "seed": seed,
            "indices": None if indices is None else [int(i) for i in indices],
            "world_size": world_size,
        }
        self._passed = 0

    def state(self, positions: Sequence[list[int]]) -> dict[str, Any]:
        """Returns the positions and what they were chosen by, for a checkpoint.

        Args:
            positions: those of every process.
        """
        return {"positions": positions[0], "others": list(positions[1:]), **self._chosen_by}

    def restore(self, state: dict[str, Any]) -> str | None:
        """Take over the positions of a checkpoint, where they were chosen by the same arguments; else keep the own.

        Checkpoints of earlier versions hold those of process 0 only and no arguments: they are taken over by a single
        process that follows as many samples.

        Returns:
            Why they were not taken over, or `None`.
        """
        differing = [name for name, value in self._chosen_by.items() if name in state and state[name] != value]
        if differing:
            return " and ".join(f"{name} was {state[name]} and is {self._chosen_by[name]}" for name in differing)
        if "others" not in state and (self._world_size > 1 or len(state["positions"]) != len(self.positions)):
            return "an earlier version of sess_lightning wrote it, which kept those of one process"
        mine = [state["positions"], *state.get("others", [])][self._rank]
        if self._length is not None and max(mine, default=-1) >= self._length:
            return f"the validation set has {self._length} samples for this process, too few for some of them"
        self.positions = frozenset(mine)
        self.how = "They are those of the training that is resumed."
        return None

    def share(self, count: int) -> int:
        """Returns how many of the first `count` samples, taken from all processes in turn, belong to this process."""
        ranks = list(enumerate(self._quotas))
        in_turn = (rank for number in range(max(self._quotas)) for rank, quota in ranks if number < quota)
        return sum(rank == self._rank for rank in islice(in_turn, count))  # of many thousand only the first

    def pick(self, batch_size: int) -> list[int]:
        """Returns the positions in the next batch of the samples to follow."""
        begin = self._passed
        self._passed += batch_size
        return [i for i in range(batch_size) if begin + i in self.positions]
