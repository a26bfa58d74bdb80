"""How many of the drawn samples are those of each process."""

import pytest

from sess_lightning.callback.selection import SampleSelection


@pytest.mark.parametrize(
    ("num_samples", "indices", "count", "shares"),
    [
        (32, None, 8, [4, 4]),
        (5, None, 4, [2, 2]),
        (5, None, 5, [3, 2]),
        (3, None, 8, [2, 1]),
        (9, [0, 2, 4], 2, [2, 0]),  # all on the first process
        (9, [1, 0, 3, 5], 3, [1, 2]),
        (9, [0, 1], 0, [0, 0]),
    ],
)
def test_shares_of_what_is_drawn(num_samples, indices, count, shares):
    selections = [SampleSelection(num_samples, indices, 0, 40, rank, 2) for rank in (0, 1)]
    assert [selection.share(count) for selection in selections] == shares


def saved(**options):
    chosen_by = {"num_samples": 5, "indices": None, "seed": 0, "length": 40, **options}
    pair = [SampleSelection(**chosen_by, rank=rank, world_size=2) for rank in (0, 1)]
    return pair[0].state([sorted(one.positions) for one in pair])


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, None),
        ({"length": 400}, None),
        ({"num_samples": 6}, "num_samples was 5 and is 6"),
        ({"seed": 2}, "seed was 0 and is 2"),
        ({"world_size": 3}, "world_size was 2 and is 3"),
        ({"length": 3}, "the validation set has 3 samples for this process"),
    ],
)
def test_a_checkpoint_holds_where_it_was_chosen_by_the_same(rank, options, says):
    """Whatever the number of samples, of which the seed would choose others."""
    own = {"num_samples": 5, "indices": None, "seed": 0, "length": 40, "rank": rank, "world_size": 2, **options}
    selection, state = SampleSelection(**own), saved()
    before = selection.positions
    why = selection.restore(state)
    if says is None:
        assert why is None
        assert sorted(selection.positions) == [state["positions"], *state["others"]][rank]
        assert len(selection.positions) == 3 - rank
    else:
        assert says in why
        assert selection.positions == before


def test_a_choice_by_indices_is_not_taken_for_one_by_seed():
    assert "indices was" in SampleSelection(5, None, 0, 40, 0, 2).restore(saved(indices=[1, 2, 3, 4, 5]))


@pytest.mark.parametrize(("num_samples", "world_size", "taken"), [(3, 1, True), (4, 1, False), (3, 2, False)])
def test_a_checkpoint_of_an_earlier_version(num_samples, world_size, taken):
    """It holds the positions of process 0, and not what they were chosen by."""
    selection = SampleSelection(num_samples, None, 0, 40, 0, world_size)
    before = selection.positions
    why = selection.restore({"positions": [1, 4, 9], "world_size": 1})
    assert (why is None) == taken
    assert selection.positions == (frozenset({1, 4, 9}) if taken else before)
