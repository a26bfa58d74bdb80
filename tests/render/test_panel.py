"""Pictures of any size in panels of one size, and choosing some of many."""

from itertools import pairwise

import pytest

from sess_lightning.render.panel import evenly_spaced


@pytest.mark.parametrize(("count", "limit"), [(1, 12), (12, 12), (13, 12), (48, 12), (5, 2)])
def test_evenly_spaced_with_both_ends(count, limit):
    chosen = evenly_spaced(range(count), limit)
    assert len(chosen) == min(count, limit)
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    distances = [b - a for a, b in pairwise(chosen)]
    assert not distances or max(distances) - min(distances) <= 1


def test_one_of_many_is_the_first():
    assert evenly_spaced("abc", 1) == ["a"]
    assert evenly_spaced("", 1) == []
