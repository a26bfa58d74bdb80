"""Which samples are followed: chosen once, by seed, from the batches that pass by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import torch


class SampleSelection:
    """Positions of the followed samples in the order in which a loader gives them to this process.

    Deterministic in `(seed, world_size)` for a loader that does not shuffle. A second walk over the loader is never
    made: where its length is unknown, the first samples are taken.

    Attributes:
        positions: of the samples, among those that this process sees.
        how: how they were chosen, in a sentence.

    Args:
        num_samples: over all processes; each follows its share.
        indices: positions in the data set instead, counted over all processes as an unshuffled distributed sampler
            deals them out (sample `i` goes to process `i % world_size`).
        seed: of the generator, which is the selection's own.
        length: samples that this process will see, or `None` if unknown.
        rank: of this process.
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
        """For a checkpoint: the positions, and on how many processes they were chosen."""
        return {"positions": sorted(self.positions), "world_size": self._world_size}

    def restore(self, state: dict[str, Any]) -> None:
        """Follow the positions of a checkpoint, which are those of the first of as many processes.

        The other processes choose by the seed as they did before; on another number of processes, or from a data set
        that lacks a position, all choose anew.
        """
        found = self._length is None or max(state["positions"], default=0) < self._length
        if self._rank == 0 and self._world_size == state["world_size"] and found:
            self.positions = frozenset(state["positions"])
            self.how = "They are those of the training that is resumed."

    def share(self, count: int) -> int:
        """How many of the first `count` samples of all processes, taken from each in turn, are those of this one."""
        in_turn = sorted((number, rank) for rank, quota in enumerate(self._quotas) for number in range(quota))
        return sum(rank == self._rank for _, rank in in_turn[:count])

    def pick(self, batch_size: int) -> list[int]:
        """Positions within the next batch of the samples that are followed."""
        begin = self._passed
        self._passed += batch_size
        return [i for i in range(batch_size) if begin + i in self.positions]


def loader_length(loader: Any, num_batches: float) -> int | None:
    """Samples that a loader will give to this process in `num_batches` batches, or `None` if it does not say."""
    sampler = getattr(loader, "batch_sampler", None)
    batch_size = getattr(sampler, "batch_size", None) or getattr(loader, "batch_size", None)
    try:
        length = len(loader.sampler)
    except (AttributeError, TypeError, NotImplementedError):
        return None
    if batch_size is None or num_batches == float("inf"):
        return None
    return min(length, int(num_batches) * batch_size)


def evaluation_loaders(trainer: pl.Trainer) -> tuple[list[Any], list[float]]:
    """The evaluation loaders in use, and how many batches each gives."""
    if trainer.sanity_checking:
        loaders, batches = trainer.val_dataloaders, trainer.num_sanity_val_batches
    elif trainer.testing:
        loaders, batches = trainer.test_dataloaders, trainer.num_test_batches
    else:
        loaders, batches = trainer.val_dataloaders, trainer.num_val_batches
    if isinstance(loaders, Mapping):
        loaders = list(loaders.values())
    return (list(loaders) if isinstance(loaders, (list, tuple)) else [loaders]), list(batches)
