"""Charts of lines and bars."""

import pytest
import torch

from sess_lightning.render import Bar, Line, bars_figure, charts, contact_sheet, curves_figure
from tests.helpers.pictures import is_colour

SESS, BASE = charts._COLOURS


class TestCurves:
    def chart(self, *lines):
        made = [Line(f"line {n}", torch.tensor(heights)) for n, heights in enumerate(lines)]
        return charts._plot(made, 200, 280)

    def test_a_line_lies_at_its_height(self):
        plot = self.chart([0.25, 0.25])
        rows = is_colour(plot, SESS).nonzero()[:, 0]
        assert abs(float(rows.float().mean()) - 0.75 * 199) < 1.5
        assert is_colour(plot, SESS).any(0)[4:-4].all()

    def test_a_rising_line_rises_at_the_right_places(self):
        plot = self.chart([0.0, 0.0, 1.0])
        columns = is_colour(plot, SESS)
        for x, height in ((70, 0.0), (210, 0.5), (270, 0.93)):
            y = float(columns[:, x].nonzero().float().mean())
            assert abs(y - (1 - height) * 199) < 4

    def test_0_and_1_are_seen_whole(self):
        for height in (0.0, 1.0):
            assert is_colour(self.chart([height, height]), SESS)[:, 100].sum() >= 2

    def test_the_second_line_is_dashed_and_lies_below(self):
        seen = is_colour(self.chart([0.9, 0.9], [0.5, 0.5]), BASE).any(0)
        assert 0.4 < float(seen.float().mean()) < 0.8
        assert not is_colour(self.chart([0.5, 0.5], [0.5, 0.5]), BASE).any()

    def test_a_figure_has_its_charts_one_below_the_other(self):
        line = [Line("SESS 0.5", torch.tensor([0.0, 1.0]))]
        one = curves_figure({"insertion": line}, {"insertion": "x"}, "t")
        two = curves_figure({"insertion": line, "deletion": line}, {"insertion": "x", "deletion": "y"}, "t")
        assert two.shape[2] == one.shape[2]
        assert two.shape[1] > 1.8 * one.shape[1]
        assert two.dtype == torch.uint8

    @pytest.mark.parametrize(
        ("made", "message"),
        [
            ({}, "at least one chart"),
            ({"a": []}, "one or two lines"),
            ({"a": [Line("x", torch.zeros(2))] * 3}, "one or two lines"),
            ({"a": [Line("x", torch.tensor([0.5, float("nan")]))]}, "'x' of chart 'a' to be finite"),
            ({"a": [Line("x", torch.zeros(1))]}, r"\(n,\)"),
        ],
    )
    def test_bad_input(self, made, message):
        with pytest.raises(ValueError, match=message):
            curves_figure(made, {}, "t")


class TestBars:
    def test_lengths(self):
        page = bars_figure({"disc": [Bar(0.5, "1 of 2"), Bar(1.0, "2 of 2")]}, ["SESS", "base"], "t", length=300)
        seen = is_colour(page, SESS)
        assert max(int(row.sum()) for row in seen[60:]) == 150
        assert any(
            int(row.nonzero().max() - row.nonzero().min()) > 285 for row in is_colour(page, BASE)[60:] if row.any()
        )

    def test_zero_has_no_bar_and_a_text(self):
        page = bars_figure({"disc": [Bar(0.0, "0 of 2")]}, ["SESS"], "t")
        legend = 60
        assert not is_colour(page, SESS)[legend:].any()

    def test_a_group_more_is_higher(self):
        bars = [Bar(0.5, "1 of 2")] * 2
        heights = [bars_figure({f"c{i}": bars for i in range(n)}, ["a", "b"], "t").shape[1] for n in (1, 2, 3)]
        assert heights[2] - heights[1] == heights[1] - heights[0] > 0

    @pytest.mark.parametrize(("groups", "names"), [({}, ["a"]), ({"x": [Bar(0, "")]}, ["a", "b"]), ({"x": []}, [])])
    def test_bad_input(self, groups, names):
        with pytest.raises(ValueError, match="`groups`"):
            bars_figure(groups, names, "t")


class TestSheet:
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
