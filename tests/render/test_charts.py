"""Charts of lines and bars, read from matplotlib's artists and from the pixels drawn."""

import pytest
import torch
from matplotlib.colors import same_color
from matplotlib.patches import Rectangle

from sess_lightning.render import Bar, Line, bars_figure, charts, curves_figure
from sess_lightning.render.plot_page import shade
from tests.helpers.figures import assert_nothing_overlaps, record_figures, text_boxes, words
from tests.helpers.pictures import is_colour

SESS, BASE = charts._COLOURS
LONG = "Shetland sheepdog, Shetland sheep dog, Shetland"


@pytest.fixture
def figures(monkeypatch):
    return record_figures(monkeypatch)


def plot_area(figure, axes):
    """Rows and columns of the page that the data area of the axes covers."""
    box = axes.get_window_extent()
    height = figure.bbox.height
    return slice(round(height - box.y1), round(height - box.y0)), slice(round(box.x0), round(box.x1))


class TestCurves:
    HEADINGS = ("insertion: higher is better", "deletion: lower is better")

    def drawn(self, figures, *lines, **options):
        """One chart; gives its plot area as a picture of 200 x 320 pixels, and its axes."""
        made = [Line(f"line {n}", torch.tensor(heights)) for n, heights in enumerate(lines)]
        page = curves_figure({"a": made}, {"a": "x"}, "t", **options)
        figure = figures[-1]
        (axes,) = figure.axes
        rows, columns = plot_area(figure, axes)
        assert page.shape == (3, figure.bbox.height, figure.bbox.width)
        return page[:, rows, columns], axes

    @pytest.mark.parametrize("points", [2, 5, 13, 29])
    def test_the_lines_are_the_data(self, figures, points):
        sess, base = torch.rand(points), torch.rand(points)
        lines = {heading: [Line("SESS 0.753", sess), Line("base 0.612", base)] for heading in self.HEADINGS}
        page = curves_figure(lines, dict(zip(self.HEADINGS, ("inserted", "deleted"), strict=True)), "epoch 3")
        assert page.dtype == torch.uint8
        (figure,) = figures
        first, second = figure.axes
        for axes in (first, second):
            assert axes.get_xlim() == axes.get_ylim() == (0, 1)
            for line, heights in zip(axes.lines, (sess, base), strict=True):
                torch.testing.assert_close(torch.tensor(line.get_ydata()).float(), heights)
                torch.testing.assert_close(torch.tensor(line.get_xdata()), torch.linspace(0, 1, points).double())
        assert first.get_position().y0 > second.get_position().y1  # one below the other
        seen = words(figure)
        for text in ("epoch 3", *self.HEADINGS, "inserted", "deleted", "0%", "50%", "100%", "0", "0.5", "1"):
            assert text in seen
        assert [[text.get_text() for text in one.get_texts()] for one in figure.legends] == [
            ["SESS 0.753", "base 0.612"]
        ] * 2
        assert_nothing_overlaps(figure)

    def test_every_legend_belongs_to_the_line_of_its_colour_and_style(self, figures):
        _, axes = self.drawn(figures, [0.0, 1.0], [1.0, 0.0])
        (legend,) = axes.figure.legends
        for handle, line, colour in zip(legend.get_lines(), axes.lines, (SESS, BASE), strict=True):
            assert same_color(handle.get_color(), line.get_color())
            assert same_color(line.get_color(), shade(colour))
            assert handle.get_linestyle() == line.get_linestyle()
        assert [line.get_linestyle() for line in axes.lines] == ["-", "--"]

    def test_a_line_lies_at_its_height(self, figures):
        plot, _ = self.drawn(figures, [0.25, 0.25])
        rows = is_colour(plot, SESS).nonzero()[:, 0]
        assert abs(float(rows.float().mean()) - 0.75 * 199) < 1.5
        assert is_colour(plot, SESS).any(0)[4:-4].all()

    def test_a_rising_line_rises_at_the_right_places(self, figures):
        plot, _ = self.drawn(figures, [0.0, 0.0, 1.0])
        columns = is_colour(plot, SESS)
        for share, height in ((0.25, 0.0), (0.75, 0.5), (0.965, 0.93)):
            y = float(columns[:, round(share * 320)].nonzero().float().mean())
            assert abs(y - (1 - height) * 199) < 4

    def test_0_and_1_are_seen_whole(self, figures):
        for height in (0.0, 1.0):
            made = [Line("x", torch.tensor([height, height]))]
            page = curves_figure({"a": made}, {"a": "x"}, "t")
            rows, columns = plot_area(figures[-1], figures[-1].axes[0])
            around = page[:, rows.start - 4 : rows.stop + 4, columns]
            assert is_colour(around, SESS)[:, 100].sum() >= 2

    def test_the_second_line_is_dashed_and_lies_below(self, figures):
        seen = is_colour(self.drawn(figures, [0.9, 0.9], [0.5, 0.5])[0], BASE).any(0)
        assert 0.4 < float(seen.float().mean()) < 0.8
        assert not is_colour(self.drawn(figures, [0.5, 0.5], [0.5, 0.5])[0], BASE).any()

    def test_long_words_are_shortened(self, figures):
        lines = [Line(LONG * 2, torch.rand(3)), Line(LONG * 2, torch.rand(3))]
        curves_figure({LONG * 3: lines}, {LONG * 3: LONG * 3}, LONG * 4)
        assert_nothing_overlaps(figures[-1])
        assert sum(text.endswith("…") for text in words(figures[-1])) == 5

    def test_values_outside_are_drawn_at_the_border(self, figures):
        _, axes = self.drawn(figures, [-1.0, 0.5, 2.0])
        assert axes.lines[0].get_ydata().tolist() == [0, 0.5, 1]

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
    def bars(self, figure):
        """The bars by kind: the artists that `barh` made, without the legend's."""
        (axes,) = figure.axes
        return [[bar for bar in kind if isinstance(bar, Rectangle)] for kind in axes.containers]

    def test_lengths_counts_and_names(self, figures):
        groups = {"disc": [Bar(0.5, "1 of 2"), Bar(1.0, "2 of 2")], "σκύλος": [Bar(0.25, "1 of 4"), Bar(0, "0 of 4")]}
        page = bars_figure(groups, ["SESS", "base"], "epoch 3")
        (figure,) = figures
        sess, base = self.bars(figure)
        assert [bar.get_width() for bar in sess] == [0.5, 0.25]
        assert [bar.get_width() for bar in base] == [1.0, 0.0]
        places = {text: box for text, box in text_boxes(figure) if " of " in text}
        for bars, texts in ((sess, ("1 of 2", "1 of 4")), (base, ("2 of 2", "0 of 4"))):
            for bar, text in zip(bars, texts, strict=True):
                end = bar.get_window_extent()
                x1, y1, _, y2 = places[text]
                assert end.x1 < x1 < end.x1 + 30
                assert y1 < figure.bbox.height - (end.y0 + end.y1) / 2 < y2
        assert {"disc", "σκύλος", "SESS", "base", "epoch 3", "0%", "50%", "100%"} <= set(words(figure))
        assert page.shape == (3, figure.bbox.height, figure.bbox.width)
        assert_nothing_overlaps(figure)

    def test_length_in_pixels(self):
        page = bars_figure({"disc": [Bar(0.5, "1 of 2"), Bar(1.0, "2 of 2")]}, ["SESS", "base"], "t", length=300)
        seen = is_colour(page, SESS)
        assert max(int(row.sum()) for row in seen[60:]) in (149, 150, 151)
        assert any(
            int(row.nonzero().max() - row.nonzero().min()) > 285 for row in is_colour(page, BASE)[60:] if row.any()
        )

    def test_groups_from_top_to_bottom_with_sess_above_base(self, figures):
        bars_figure({f"class {n}": [Bar(0.5, "x"), Bar(0.5, "y")] for n in range(5)}, ["SESS", "base"], "t")
        sess, base = self.bars(figures[0])
        tops = [bar.get_window_extent().y1 for pair in zip(sess, base, strict=True) for bar in pair]
        assert tops == sorted(tops, reverse=True)
        names = {text: box[1] for text, box in text_boxes(figures[0]) if text.startswith("class")}
        assert list(names) == sorted(names, key=names.get)
        for n, pair in enumerate(zip(sess, base, strict=True)):  # each name stands beside its own bars
            bottom, top = pair[1].get_window_extent().y0, pair[0].get_window_extent().y1
            assert bottom < figures[0].bbox.height - names[f"class {n}"] < top + 8

    def test_the_kinds_differ_in_colour_and_pattern(self, figures):
        bars_figure({"a": [Bar(0.5, "x"), Bar(0.5, "y")]}, ["SESS", "base"], "t")
        (sess,), (base,) = self.bars(figures[0])
        assert same_color(sess.get_facecolor(), shade(SESS))
        assert same_color(base.get_facecolor(), shade(BASE))
        assert not sess.get_hatch()
        assert base.get_hatch()
        handles = figures[0].legends[0].get_patches()
        assert [handle.get_hatch() for handle in handles] == [sess.get_hatch(), base.get_hatch()]

    def test_zero_has_no_bar_and_a_text(self, figures):
        page = bars_figure({"disc": [Bar(0.0, "0 of 2")]}, ["SESS"], "t")
        legend = 60
        assert not is_colour(page, SESS)[legend:].any()
        assert "0 of 2" in words(figures[0])

    def test_a_group_more_is_higher(self):
        bars = [Bar(0.5, "1 of 2")] * 2
        heights = [bars_figure({f"c{i}": bars for i in range(n)}, ["a", "b"], "t").shape[1] for n in (1, 2, 3)]
        assert heights[2] - heights[1] == heights[1] - heights[0] > 0

    def test_many_classes_with_long_names_and_a_long_title(self, figures):
        groups = {
            f"{LONG if n % 2 else ''}{n} $x_1$": [Bar(n / 24, f"{n} of 24"), Bar(1.0, "24 of 24")] for n in range(24)
        }
        title = "pointing accuracy by class, epoch 3 · step 192 (24 of 100 classes, those with most samples) " + LONG
        bars_figure(groups, ["SESS", "base"], title)
        assert_nothing_overlaps(figures[0])
        seen = words(figures[0])
        assert sum(text.startswith(LONG[:20]) and text.endswith("…") for text in seen) == 12
        assert "2 $x_1$" in seen
        assert all(any(word in text for text in seen) for word in title.split())  # in two lines, nothing is left out

    @pytest.mark.parametrize(("groups", "names"), [({}, ["a"]), ({"x": [Bar(0, "")]}, ["a", "b"]), ({"x": []}, [])])
    def test_bad_input(self, groups, names):
        with pytest.raises(ValueError, match="`groups`"):
            bars_figure(groups, names, "t")
