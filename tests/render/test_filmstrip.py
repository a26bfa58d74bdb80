"""Filmstrips and contact sheets."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sess_lightning.render import contact_sheet, filmstrip, marks, page, panel
from tests.helpers.pictures import is_colour, picture

QUICK = settings(max_examples=25, deadline=None)
PAGE, MOUNT, HIT, MISS = page.PAGE, panel._MOUNT, marks._HIT, marks._MISS
LONG = "Shetland sheepdog, Shetland sheep dog, Shetland"


class TestFilmstrip:
    def test_sizes(self):
        one = picture(50, 50)
        strip = filmstrip([[one] * 4] * 2, ["1", "2", "3", "4"], panel_height=50)
        layout = page.BoardLayout(50, 50, 4)
        assert strip.shape[2] == 4 * 50 + 5 * layout.gap
        titled = filmstrip([[one] * 4] * 2, ["1", "2", "3", "4"], ["disc", "square"], "SESS", panel_height=50)
        assert titled.shape[1] == strip.shape[1] + layout.line
        assert titled.shape[2] > strip.shape[2]

    def test_pictures_lie_where_they_belong(self):
        pictures = [[picture(64, 64) for _ in range(3)] for _ in range(2)]
        strip = filmstrip(pictures, ["a", "b", "c"], panel_height=64)
        layout = page.BoardLayout(64, 64, 3)
        top = layout.gap // 2 + layout.line
        for row, column in ((0, 0), (0, 2), (1, 1)):
            y, x = top + row * (64 + layout.gap), layout.column(column)
            assert torch.equal(strip[:, y : y + 64, x : x + 64], pictures[row][column])

    def test_long_titles_stay_within_their_column(self):
        strip = filmstrip([[picture(64, 64)] * 2], [LONG, LONG], [LONG], LONG, panel_height=64)
        gap = page.BoardLayout(64, 64, 2).gap
        assert strip.shape[2] == 3 * 64 + 3 * gap
        assert is_colour(strip, PAGE)[:, -gap + 1 :].all()
        assert is_colour(strip, PAGE)[:, 64 : 64 + gap - 1][gap * 5 :].all()

    @QUICK
    @given(sizes=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=4))
    def test_pictures_of_any_size(self, sizes):
        strip = filmstrip([[picture(*size) for size in sizes]], [""] * len(sizes), panel_height=32)
        assert strip.dtype == torch.uint8

    @pytest.mark.parametrize(
        ("rows", "columns", "row_titles", "message"),
        [
            ([], ["a"], None, "at least one row"),
            ([[]], [], None, "one column"),
            ([[picture()], [picture()] * 2], ["a"], None, "row 1.*1 pictures.*got 2"),
            ([[picture()]], ["a"], ["x", "y"], "`row_titles`.*1 titles.*got 2"),
            ([[torch.zeros(3, 4, 4)]], ["a"], None, r"rows\[0\]\[0\].*uint8"),
        ],
    )
    def test_bad_input(self, rows, columns, row_titles, message):
        with pytest.raises(ValueError, match=message):
            filmstrip(rows, columns, row_titles)


class TestContactSheet:
    @pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (4, 4, 1), (8, 4, 2), (25, 5, 5)])
    def test_rows_and_columns(self, count, columns, rows):
        sheet = contact_sheet([torch.full((3, 40, 50), 77, dtype=torch.uint8)] * count, "t", ["n"] * count)
        places = is_colour(sheet, (77, 77, 77))
        assert int(places.sum(1).max()) == 50 * columns
        assert int(places.sum(0).max()) == 40 * rows

    def test_bad_input(self):
        one = torch.zeros(3, 8, 8, dtype=torch.uint8)
        with pytest.raises(ValueError, match="all of one size"):
            contact_sheet([one, one[:, :4]], "t", ["a", "b"])
        with pytest.raises(ValueError, match="1 names"):
            contact_sheet([one, one], "t", ["a"])
        with pytest.raises(ValueError, match="at least one"):
            contact_sheet([], "t", [])
