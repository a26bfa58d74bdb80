"""Scales on a command line: pixels or multiples of the window."""

import pytest

from sess_lightning.benchmark.compared_maps import parsed_scales


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, None), ("352,544", [352, 544]), ("1.0,1.5", [1.0, 1.5]), ("1,1.5,2", [1.0, 1.5, 2.0]), ("2.", [2.0])],
)
def test_whole_numbers_are_pixels_and_a_point_makes_all_of_them_multiples(text, expected):
    scales = parsed_scales(text)
    assert scales == expected
    assert [type(one) for one in scales or []] == [type(one) for one in expected or []]


@pytest.mark.parametrize("text", ["", "1,", "a", "1.5;2.0"])
def test_what_is_no_number_is_said(text):
    with pytest.raises(ValueError, match=r"`scales` to be short sides in pixels, or multiples of the window"):
        parsed_scales(text)
