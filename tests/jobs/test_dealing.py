"""Pieces of work are dealt once each, and all that work end at about the same time."""

from hypothesis import given
from hypothesis import strategies as st

from sess_lightning.jobs.dealing import dealt

COSTS = st.lists(st.integers(0, 50), max_size=40)


@given(COSTS, st.integers(1, 9))
def test_each_piece_is_dealt_once(costs, count):
    hands = dealt(costs, count)
    assert len(hands) == count
    assert sorted(index for hand in hands for index in hand) == list(range(len(costs)))
    assert all(hand == sorted(hand) for hand in hands)


@given(COSTS, st.integers(1, 9))
def test_nobody_has_more_than_another_by_more_than_one_piece(costs, count):
    """Whoever has most took the last piece when nobody had less."""
    loads = [sum(costs[index] for index in hand) for hand in dealt(costs, count)]
    assert max(loads) - min(loads) <= max(costs, default=0)


def test_the_bound_of_graham_is_reached():
    """Two of 5, 4, 3, 3, 3: 10 where 9 is best, 7/6 of it, the worst case for two."""
    assert dealt([5, 4, 3, 3, 3], 2) == [[0, 3], [1, 2, 4]]
    loads = [sum([5, 4, 3, 3, 3][index] for index in hand) for hand in dealt([5, 4, 3, 3, 3], 2)]
    assert loads == [8, 10]


def test_equal_pieces_go_round():
    assert dealt([2.0] * 5, 2) == [[0, 2, 4], [1, 3]]
