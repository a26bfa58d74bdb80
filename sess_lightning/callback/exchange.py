"""What the processes of a run tell each other about a validation.

Every collective call of the callback is made here or is the `broadcast` of `SampleFollowing._begin`. Metrics make
none of their own: their states go with the exchange, and they are then synchronised out of what was received.
"""

from __future__ import annotations

import math
import pickle
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any, TypeVar

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import Metric

from sess_lightning.callback.keys import SECONDS

_T = TypeVar("_T")
States = list[list[Tensor]]


class Exchange:
    """What the processes do in one stage is kept together: what fails on one is told on rank 0 and skipped on all.

    Args:
        world_size: number of processes.
        always_raises: also where one validation of this stage has gone well.

    Attributes:
        proven: one validation of this stage has gone well: later failures warn.
        error: traceback of the first failure of this process in this validation.
    """

    def __init__(self, world_size: int, always_raises: bool) -> None:
        self._world_size, self._always_raises = world_size, always_raises
        self.proven = False
        self._told: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Start a validation: forget the failure of the last one."""
        self.error: str | None = None
        self._cause: Exception | None = None  # to be raised; kept else, its frames would keep tensors alive

    @property
    def raises(self) -> bool:
        """Whether a failure ends the run."""
        return not self.proven or self._always_raises

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Keep an exception until the next call of this object, which raises it, or warns and skips this validation.

        One process alone raises at once. Several must not, or the others would wait for the one that did.
        """
        try:
            yield
        except Exception as error:
            if self._world_size == 1 and self.raises:
                raise
            if self.error is None:
                self.error, self._cause = traceback.format_exc(), error if self.raises else None

    def __call__(self, work: Callable[[], _T], advice: str = "") -> list[_T] | None:
        """Returns what `work` gives on each process, or `None` if one has failed in this validation. Collective call.

        Args:
            work: not called where this process has failed before.
            advice: what follows a warning that this validation is skipped.

        Raises:
            Exception: that of this process, where failures are raised.
            RuntimeError: with the traceback of another process, likewise.
        """
        mine = None
        with self.guarded():
            if not self.error:
                mine = self._packed(work())
        found = self._gathered((mine, self.error))
        failures = {rank: text for rank, (_, text) in enumerate(found) if text}
        if not failures:
            return [pickle.loads(one) if isinstance(one, bytes) else one for one, _ in found]  # noqa: S301 - our own
        who = f" on process {' and '.join(map(str, failures))} of {len(found)}" if len(found) > 1 else ""
        told = "\n".join(failures.values() if self.raises else map(self._in_short, failures.values()))
        if self.raises and self._cause is not None:
            raise self._cause
        if self.raises:
            raise RuntimeError(f"SESSCallback failed{who}:\n{told}")
        self._warn(f"SESSCallback failed{who} and skips this validation.{advice}\n{told}")
        return None

    def _warn(self, text: str) -> None:
        """Warn on rank 0, and where the warning is an error there, raise it on all: they come here together."""
        mine = None
        try:
            rank_zero_warn(text)
        except Exception as error:
            mine = error
        if any(self._gathered(mine is not None)):
            raise mine or RuntimeError(text)

    def _in_short(self, text: str) -> str:
        """A traceback, or of one told before in this stage its last line only; the message may have changed."""
        place, _, message = text.strip().rpartition("\n")
        again, self._told = place in self._told, self._told | {place}
        return f"As before: {message}" if again else text

    def _packed(self, mine: Any) -> Any:
        """Pickled before it is sent, so that what cannot be pickled fails under guard."""
        return mine if self._world_size == 1 else pickle.dumps(mine)

    def _gathered(self, mine: Any) -> list[Any]:
        if self._world_size == 1:
            return [mine]
        parts: list[Any] = [None] * self._world_size
        # No rank can miss it: work that may fail is guarded, and it is called at fixed places only, in `_finish`,
        # `on_fit_start`, `on_train_start` and `on_train_end`; whether `_finish` or `_warn` calls it again follows from
        # what all have received.
        torch.distributed.all_gather_object(parts, mine)
        return parts


def combined(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """One value by key out of those of all processes: the longest time, of others the mean of those that are finite.

    Metrics whose states were synchronised have the same value everywhere, and the mean is that value, exactly.

    Example:
        >>> combined([{"seconds": 2.0, "x": float("nan")}, {"seconds": 3.0, "x": 0.1}])
        {'seconds': 3.0, 'x': 0.1}
    """
    found = {}
    for name in dict.fromkeys(name for one in values for name in one):
        finite = [one[name] for one in values if math.isfinite(one.get(name, math.nan))]
        if finite:
            found[name] = max(finite) if name == SECONDS.name else fmean(finite)
    return found


def states_of(metrics: nn.Module) -> States:
    """Returns the tensors that each metric, also one inside another, sends to the other processes; on the CPU."""
    found = []
    for metric in _synchronised(metrics):
        sent: list[Tensor] = []

        def keep(state: Tensor, group: Any = None, sent: list[Tensor] = sent) -> list[Tensor]:
            sent.append(state.detach().cpu())
            return [state]

        metric.sync(dist_sync_fn=keep, distributed_available=_always)
        metric.unsync()
        found.append(sent)
    return found


def synchronise(metrics: nn.Module, parts: Sequence[States]) -> None:
    """Make the metrics compute on the states of all processes, each of which gave the result of `states_of`.

    Raises:
        ValueError: if a metric has a list as its state, kept apart instead of concatenated, of different lengths.
    """
    for metric, *states in zip(_synchronised(metrics), *parts, strict=True):
        if len({len(one) for one in states}) > 1:
            raise ValueError(
                f"Expected the states of {type(metric).__name__} to be as many on every process, but got "
                f"{[len(one) for one in states]} tensors. Give its add_state a list with dist_reduce_fx='cat', or sums."
            )
        metric.dist_sync_fn = _Received(states)
        metric.distributed_available_fn = _always


def release(metrics: nn.Module) -> None:
    """Give metrics their own states back where computing failed: torchmetrics leaves those of all processes in them.

    Without this a list that was concatenated could not be reset, and every validation to come would fail.
    """
    for metric in _synchronised(metrics):
        if metric._is_synced:
            metric.unsync()


class _Received:
    """In place of torchmetrics' gathering: a metric asks for each of its states in turn, as often as it computes."""

    def __init__(self, states: States) -> None:
        self._states, self._next = states, 0

    def __call__(self, state: Tensor, group: Any = None) -> list[Tensor]:
        number = self._next % len(self._states[0])
        self._next += 1
        return [one[number].to(state.device) for one in self._states]


def _synchronised(metrics: nn.Module) -> Iterator[Any]:
    """All but those made with `sync_on_compute=False`, which keep to their own process."""
    return (one for one in metrics.modules() if isinstance(one, Metric) and one.sync_on_compute)


def _always() -> bool:
    return True
