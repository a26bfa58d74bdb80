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
