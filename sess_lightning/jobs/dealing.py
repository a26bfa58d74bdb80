"""Deals work of known cost to processes, so that all end at about the same time."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def dealt(costs: Sequence[float], count: int) -> list[list[int]]:
    """Deal pieces of work: the dearest first, each to whom has least so far.

    The last to end has at most 4/3 of what the best deal would give it (Graham, "Bounds on multiprocessing timing
    anomalies", 1969), and with many pieces nearly what all have on average.

    Args:
        costs: of the pieces, in any unit, not negative.
        count: of those that work.

    Returns:
        The indices of the pieces of each, ascending: the same for the same costs, wherever they are dealt.

    Example:
        >>> dealt([1, 1, 4, 2], 2)
        [[2], [0, 1, 3]]
    """
    loads = [(0.0, number) for number in range(count)]  # a heap: the least load first, then the lowest number
    hands: list[list[int]] = [[] for _ in range(count)]
    for index in sorted(range(len(costs)), key=lambda index: (-costs[index], index)):
        load, number = heapq.heappop(loads)
        hands[number].append(index)
        heapq.heappush(loads, (load + costs[index], number))
    return [sorted(hand) for hand in hands]
