"""Base class of all metrics of this package: flags, states that are sums, plotting."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class SaliencyMetric(Metric):
    """Base of the saliency metrics: sum states only, so that a process without samples adds nothing.

    The states of every class carry a prefix of their own: `torchmetrics.MetricCollection` merges metrics whose states
    are equal after the first update, and would report one metric's value for the other.
    """

    is_differentiable: bool | None = False
    higher_is_better: bool | None = True
    full_state_update: bool | None = False
    plot_lower_bound: float | None = 0.0
    plot_upper_bound: float | None = 1.0

    def _add_sum(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> None:
        """Register the state `name`: zeros of `shape`, summed over processes."""
        self.add_state(name, default=torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def _add_count(self, name: str, *shape: int) -> None:
        """Register the state `name`: integer zeros of `shape`, summed over processes."""
        self._add_sum(name, *shape, dtype=torch.int64)

    def _increase(self, name: str, value: Tensor | int) -> None:
        """Add to a state, out of place: a state that inference mode has reset may not be changed in place later."""
        state = getattr(self, name)
        setattr(self, name, state + torch.as_tensor(value).to(state))

    @contextmanager
    def _synced(self) -> Iterator[None]:
        """Synchronise the states over all processes inside, as in `compute`. Collective call."""
        with self.sync_context(
            dist_sync_fn=self.dist_sync_fn,
            should_sync=self._to_sync and not self._is_synced,
            should_unsync=self._should_unsync and not self._is_synced,
        ):
            yield

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> Any:
        """Plot one value or several values of the metric.

        Args:
            val: a result of `forward` or `compute`, or a list of them; `None` computes it now.
            ax: a matplotlib axis to draw on; `None` makes a new figure.

        Returns:
            The matplotlib figure and axis.
        """
        return self._plot(val, ax)
