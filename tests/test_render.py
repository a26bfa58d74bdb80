import dataclasses
import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sess_lightning import page, render
from sess_lightning.render import MapRow, draw_boxes, draw_peak, filmstrip, map_grid, overlay

QUICK = settings(max_examples=25, deadline=None)
PAGE, MOUNT, HIT, MISS = page.PAGE, render._MOUNT, render._HIT, render._MISS
LONG = "Shetland sheepdog, Shetland sheep dog, Shetland"


def _picture(height: int = 40, width: int = 60, value: int | None = None) -> Tensor:
    if value is not None:
        return torch.full((3, height, width), value, dtype=torch.uint8)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8)


def _peaked(height: int, width: int, y: int, x: int) -> Tensor:
    saliency = torch.zeros(height, width)
    saliency[y, x] = 1
    return saliency


def _row(height: int = 40, width: int = 60, **changes: object) -> MapRow:
    y, x = height // 2, width // 3
    row = MapRow(
        image=_picture(height, width, 128),
        base=_peaked(height, width, 0, 0),
        sess=_peaked(height, width, y, x),
        boxes=torch.tensor([[x - 5.0, y - 5.0, x + 5.0, y + 5.0]]),
        label="square",
        prediction="disc",
        score=0.07,
        hit=True,
        base_hit=False,
    )
    return dataclasses.replace(row, **changes)


def _is(picture: Tensor, colour: tuple[int, int, int]) -> Tensor:
    """Where the picture has exactly this colour, (H, W)."""
    return (picture == torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1)).all(0)


def _centre(picture: Tensor, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Middle of the pixels of a colour: y, x."""
    y, x = _is(picture, colour).nonzero().float().T
    return float(y.min() + y.max()) / 2, float(x.min() + x.max()) / 2


class TestBoxes:
    def test_pixels(self):
        drawn = draw_boxes(_picture(30, 40, 100), torch.tensor([[10, 5, 20, 15]]))
        assert _is(drawn, (255, 255, 255)).nonzero().amin(0).tolist() == [5, 10]
        assert _is(drawn, (255, 255, 255)).nonzero().amax(0).tolist() == [14, 19]  # the last pixels inside
        assert drawn[0, 10, 8:13].tolist() == [100, 12, 255, 12, 100]
        assert drawn[0, 10, 17:22].tolist() == [100, 12, 255, 12, 100]

    def test_fractions_belong_to_the_pixels_they_touch(self):
        box = torch.tensor([[9.1, 5.9, 19.2, 14.1]])
        assert torch.equal(
            draw_boxes(_picture(30, 40, 100), box), draw_boxes(_picture(30, 40, 100), box.new_tensor([[9, 5, 20, 15]]))
        )

    def test_boxes_outside_are_clipped_or_left_out(self):
        image = _picture(20, 20, 100)
        whole = draw_boxes(image, torch.tensor([[-50.0, -50, 99, 99]]))
        assert (whole[:, 0] == 255).all()
        assert (whole[:, :, -1] == 255).all()
        nothing = torch.tensor([[30.0, 3, 40, 9], [5, 5, 5, 9], [9, 9, 5, 5], [-9, 2, -3, 8]])
        assert torch.equal(draw_boxes(image, nothing), image)

    def test_a_tiny_box_is_seen(self):
        drawn = draw_boxes(_picture(20, 20, 0), torch.tensor([[7, 8, 8, 9]]))
        assert drawn[:, 8, 7].tolist() == [255, 255, 255]

    def test_the_image_is_left_alone(self):
        image = _picture(20, 20, 100)
        for boxes in (torch.empty(0, 4), torch.tensor([[2, 2, 9, 9]])):
            drawn = draw_boxes(image, boxes)
            drawn.zero_()
            assert (image == 100).all()

    @QUICK
    @given(
        height=st.integers(1, 30),
        width=st.integers(1, 30),
        corners=st.lists(st.tuples(*[st.floats(-1e4, 1e4)] * 4), max_size=3),
    )
    def test_any_size(self, height, width, corners):
        drawn = draw_boxes(_picture(height, width), torch.tensor(corners).reshape(-1, 4))
        assert drawn.shape == (3, height, width)
        assert drawn.dtype == torch.uint8

    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            (torch.zeros(4), r"\(M, 4\).*\(4,\)"),
            ([[1, 2, 3, 4]], "list"),
            (torch.full((1, 4), float("nan")), "finite"),
        ],
    )
    def test_bad_input(self, boxes, message):
        with pytest.raises(ValueError, match=message):
            draw_boxes(_picture(), boxes)
        with pytest.raises(ValueError, match=message):
            _row(boxes=boxes)


class TestPeak:
    @pytest.mark.parametrize(("hit", "colour"), [(True, HIT), (False, MISS), (None, (255, 255, 255))])
    def test_centred(self, hit, colour):
        assert _centre(draw_peak(_picture(61, 81, 90), x=33, y=20, hit=hit), colour) == (20, 33)

    def test_a_hit_is_a_ring_and_a_miss_a_cross(self):
        ring, cross = (draw_peak(_picture(41, 41, 90), 20, 20, hit, radius=8) for hit in (True, False))
        assert not _is(ring, HIT)[20, 20]
        assert _is(ring, HIT)[20, 28]
        assert _is(cross, MISS)[20, 20]
        assert not _is(cross, MISS)[20, 28]

    @pytest.mark.parametrize("ground", [0, 255])
    @pytest.mark.parametrize("hit", [True, False, None])
    def test_seen_on_every_ground(self, hit, ground):
        drawn = draw_peak(_picture(41, 41, ground), 20, 20, hit)
        assert (drawn.int() - ground).abs().amax() > 200  # the dark or the light outline

    @QUICK
    @given(
        height=st.integers(1, 20),
        width=st.integers(1, 20),
        x=st.floats(-30, 30),
        y=st.floats(-30, 30),
        hit=st.sampled_from([True, False, None]),
    )
    def test_any_size_and_place(self, height, width, x, y, hit):
        drawn = draw_peak(_picture(height, width), x, y, hit)
        assert drawn.shape == (3, height, width)
        assert drawn.dtype == torch.uint8

    def test_bad_input(self):
        with pytest.raises(ValueError, match="`image`"):
            draw_peak(torch.zeros(3, 4, 4), 1, 1)


class TestMapRow:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"image": torch.zeros(3, 40, 60)}, "`image`.*float32.*denormalize"),
            ({"image": torch.zeros(1, 40, 60, dtype=torch.uint8)}, "`image`"),
            ({"sess": torch.zeros(40, 61)}, r"`sess`.*\(40, 60\).*\(40, 61\)"),
            ({"sess": torch.full((40, 60), float("nan"))}, "`sess` to be finite"),
            ({"sess": None}, "`sess`.*NoneType"),
            ({"base": torch.zeros(1, 40, 60)}, "`base`"),
            ({"base": torch.zeros(40, 60, dtype=torch.uint8)}, "`base`.*floating point"),
        ],
    )
    def test_bad_input(self, changes, message):
        with pytest.raises(ValueError, match=message):
            _row(**changes)

    def test_the_explained_class_may_be_left_out(self):
        assert inspect.signature(MapRow).parameters["explained"].default is None


class TestMapGrid:
    def test_rows_and_columns_of_equal_panels(self):
        both = map_grid([_row()], "t", panel_height=100)
        alone = map_grid([_row(base=None, base_hit=None)], "t", panel_height=100)
        gap = page.Layout(100, 150, 3).gap
        assert both.shape[2] == 3 * 150 + 4 * gap
        assert alone.shape[2] == 2 * 150 + 3 * gap
        two, three = (map_grid([_row()] * n, "t", panel_height=100).shape[1] for n in (2, 3))
        assert three - two == two - both.shape[1] > 100
        assert both.dtype == torch.uint8

    def test_a_row_without_a_base_map_keeps_the_columns(self):
        grid = map_grid([_row(), _row(base=None)], "t", panel_height=64)
        assert grid.shape[2] == map_grid([_row()], "t", panel_height=64).shape[2]

    @pytest.mark.parametrize(
        ("height", "width", "y", "x"), [(40, 60, 20, 20), (32, 32, 0, 31), (100, 400, 99, 1), (90, 30, 45, 0)]
    )
    def test_the_peak_is_centred_on_the_maximum(self, height, width, y, x):
        row = _row(height, width, sess=_peaked(height, width, y, x), boxes=None, base=None)
        panel = render._row_panels(row, (200, 200), has_base=False)[1]
        wide = torch.nn.functional.pad(panel, (40, 40, 40, 40))
        fit = render._fit(row.image, (200, 200))
        expected = fit.top + (y + 0.5) * fit.height / height - 0.5, fit.left + (x + 0.5) * fit.width / width - 0.5
        drawn = draw_peak(torch.zeros_like(wide), expected[1] + 40, expected[0] + 40, True, 200 / 26)
        inside = _is(drawn, HIT)[40:-40, 40:-40]
        assert torch.equal(_is(panel, HIT), inside)
        assert inside.any()

    def test_equal_maxima_mark_the_first(self):
        saliency = torch.zeros(50, 50)
        saliency[10, 30] = saliency[40, 10] = 1
        panel = render._row_panels(_row(50, 50, sess=saliency, boxes=None), (50, 50), has_base=False)[1]
        assert _centre(panel, HIT) == (10, 30)

    def test_a_constant_map_has_no_peak(self):
        panel = render._row_panels(_row(sess=torch.zeros(40, 60), boxes=None), (80, 120), has_base=False)[1]
        assert not _is(panel, HIT).any()

    def test_boxes_are_scaled_with_the_image(self):
        row = _row(20, 40, boxes=torch.tensor([[10.0, 5.0, 20.0, 15.0]]))
        panel = render._row_panels(row, (100, 100), has_base=False)[0]  # 2.5 times, 25 px of mount above
        white = _is(panel, (255, 255, 255)).nonzero()
        assert white.amin(0).tolist() == [25 + 12, 25]
        assert white.amax(0).tolist() == [25 + 37, 49]

    def test_the_aspect_is_kept_in_the_mount(self):
        panel = render._row_panels(_row(20, 80, boxes=None), (100, 100), has_base=False)[0]
        inside = _is(panel, (128, 128, 128))
        assert inside.sum() == 25 * 100
        assert (_is(panel, MOUNT) | inside).all()

    def test_small_images_keep_square_pixels(self):
        image = _picture(32, 32)
        panel = render._row_panels(_row(32, 32, image=image, boxes=None), (224, 224), has_base=False)[0]
        assert torch.equal(panel, image.repeat_interleave(7, 1).repeat_interleave(7, 2))

    def test_an_image_of_the_panel_size_is_untouched(self):
        image = _picture(64, 64)
        row = _row(64, 64, image=image, boxes=None, sess=torch.zeros(64, 64))
        panels = render._row_panels(row, (64, 64), has_base=False)
        assert torch.equal(panels[0], image)
        assert torch.equal(panels[1], overlay(image, row.sess))

    @QUICK
    @given(height=st.integers(1, 90), width=st.integers(1, 90), base=st.booleans(), panel_height=st.integers(32, 80))
    def test_any_size(self, height, width, base, panel_height):
        row = _row(height, width, **({} if base else {"base": None}))
        grid = map_grid([row], "epoch 3 · step 192", panel_height)
        assert grid.dtype == torch.uint8
        assert grid.shape[0] == 3
        assert grid.shape[1] > panel_height

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 32), (3, 900), (900, 3), (1500, 2000)])
    def test_odd_sizes(self, height, width):
        assert map_grid([_row(height, width), _row()], "t").shape[2] > 336

    def test_inputs_are_left_alone(self):
        row = _row()
        before = row.image.clone(), row.sess.clone(), row.boxes.clone()
        map_grid([row], "t", 64)
        assert all(torch.equal(*pair) for pair in zip(before, (row.image, row.sess, row.boxes), strict=True))

    def test_inference_mode(self):
        with torch.inference_mode():
            assert map_grid([_row()], "t", 64).dtype == torch.uint8

    def test_half_precision_maps(self):
        row = _row(sess=torch.rand(40, 60, dtype=torch.bfloat16), base=torch.rand(40, 60, dtype=torch.float16))
        assert map_grid([row], "t", 64).dtype == torch.uint8

    def test_the_legend_names_what_occurs(self):
        layout = page.Layout(100, 150, 3)
        with_both = render._legend([_row()], layout)
        hits_only = render._legend([_row(base=None, base_hit=None, boxes=None)], layout)
        assert _is(with_both, MISS).any()
        assert _is(hits_only, HIT).any()
        assert not _is(hits_only, MISS).any()
        assert with_both.shape[2] == layout.breadth

    @pytest.mark.parametrize("panel_height", [31, 0, 64.0, "224"])
    def test_bad_panel_height(self, panel_height):
        with pytest.raises(ValueError, match="`panel_height`"):
            map_grid([_row()], "t", panel_height)

    def test_no_rows(self):
        with pytest.raises(ValueError, match="`rows`"):
            map_grid([], "t")


class TestCaption:
    WIDE = page.Layout(100, 900, 2)

    @pytest.mark.parametrize(
        ("changes", "caption"),
        [
            ({}, "label square · predicted disc · explained p=0.07 · SESS hit · base miss"),
            ({"explained": "square"}, "label square p=0.07 · predicted disc · SESS hit · base miss"),
            ({"explained": "disc"}, "label square · predicted disc p=0.07 · SESS hit · base miss"),
            ({"explained": "star"}, "label square · predicted disc · explained star p=0.07 · SESS hit · base miss"),
            ({"label": "disc", "explained": "disc"}, "label disc · predicted disc p=0.07 · SESS hit · base miss"),
            ({"label": None, "hit": None, "base_hit": None}, "predicted disc · explained p=0.07"),
            ({"prediction": "", "base_hit": None}, "label square · explained p=0.07 · SESS hit"),
        ],
    )
    def test_words(self, changes, caption):
        assert render._caption(_row(**changes), self.WIDE) == [caption]

    def test_long_names_are_shortened_and_the_rest_is_kept(self):
        narrow = page.Layout(224, 168, 2)
        lines = render._caption(_row(label=LONG, prediction=LONG, explained=LONG, base_hit=None), narrow)
        assert len(lines) == 2
        assert lines[0].count("…") == 2
        assert lines[0].startswith("label Shetl")
        assert " · predicted Shetl" in lines[0]
        assert lines[0].endswith("p=0.07")
        assert lines[1] == "SESS hit"

    def test_only_the_long_name_is_shortened(self):
        lines = render._caption(_row(label="cat", prediction=LONG), page.Layout(224, 168, 2))
        assert lines[0].startswith("label cat · predicted Shetland sheep")
        assert lines[0].endswith("…")

    @QUICK
    @given(label=st.text(max_size=60), prediction=st.text(max_size=60), width=st.integers(168, 336))
    def test_any_name_fits(self, label, prediction, width):
        layout = page.Layout(224, width, 2)
        lines = render._caption(_row(label=label, prediction=prediction), layout)
        assert max(layout.font.getlength(line) for line in lines) <= layout.breadth

    @QUICK
    @given(text=st.text(max_size=50), width=st.integers(0, 200))
    def test_shortened(self, text, width):
        font = page._font(14)
        assert font.getlength(page._shortened(page.printable(text), font, width)) <= width

    def test_the_drawn_text_stays_within_the_panels(self):
        title = "epoch 3 · step 192 " + LONG * 4
        grid = map_grid([_row(label=LONG, prediction=LONG, explained=LONG * 2)], title, panel_height=64)
        gap = page.Layout(64, 96, 3).gap
        assert _is(grid, PAGE)[:, :gap].all()
        assert _is(grid, PAGE)[:, -gap + 1 :].all()
        assert not _is(grid, PAGE)[: 2 * gap, gap:-gap].all()

    @pytest.mark.parametrize(
        ("name", "written"),
        [
            ("a·b…", "a·b…"),
            ("Größe Ångström", "Grosse Angstrom"),
            ("Łódź \u2013 œuvre", "Lodz - oeuvre"),
            ("naïve\ncafé\t", "naive cafe "),
            ("漢字", "??"),
            ("кот", "???"),
            ("🦊 fox", "? fox"),
            ("\x00\ud800", "??"),
        ],
    )
    def test_letters_that_the_font_lacks(self, name, written):
        assert page.printable(name) == written

    def test_the_separator_is_in_the_font(self):
        assert all(page._in_font(letter) for letter in page.DOT + "…=%")
        assert not page._in_font("漢")

    def test_names_of_all_alphabets_are_drawn(self):
        map_grid([_row(label="漢字 кот ☃", prediction="\ud800\x00\n")], "эпоха 3", 64)


class TestFilmstrip:
    def test_sizes(self):
        picture = _picture(50, 50)
        strip = filmstrip([[picture] * 4] * 2, ["1", "2", "3", "4"], panel_height=50)
        layout = page.Layout(50, 50, 4)
        assert strip.shape[2] == 4 * 50 + 5 * layout.gap
        titled = filmstrip([[picture] * 4] * 2, ["1", "2", "3", "4"], ["disc", "square"], "SESS", panel_height=50)
        assert titled.shape[1] == strip.shape[1] + layout.line
        assert titled.shape[2] > strip.shape[2]

    def test_pictures_lie_where_they_belong(self):
        pictures = [[_picture(64, 64) for _ in range(3)] for _ in range(2)]
        strip = filmstrip(pictures, ["a", "b", "c"], panel_height=64)
        layout = page.Layout(64, 64, 3)
        top = layout.gap // 2 + layout.line
        for row, column in ((0, 0), (0, 2), (1, 1)):
            y, x = top + row * (64 + layout.gap), layout.column(column)
            assert torch.equal(strip[:, y : y + 64, x : x + 64], pictures[row][column])

    def test_long_titles_stay_within_their_column(self):
        strip = filmstrip([[_picture(64, 64)] * 2], [LONG, LONG], [LONG], LONG, panel_height=64)
        gap = page.Layout(64, 64, 2).gap
        assert strip.shape[2] == 3 * 64 + 3 * gap
        assert _is(strip, PAGE)[:, -gap + 1 :].all()
        assert _is(strip, PAGE)[:, 64 : 64 + gap - 1][gap * 5 :].all()

    @QUICK
    @given(sizes=st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=4))
    def test_pictures_of_any_size(self, sizes):
        strip = filmstrip([[_picture(*size) for size in sizes]], [""] * len(sizes), panel_height=32)
        assert strip.dtype == torch.uint8

    @pytest.mark.parametrize(
        ("rows", "columns", "row_titles", "message"),
        [
            ([], ["a"], None, "at least one row"),
            ([[]], [], None, "one column"),
            ([[_picture()], [_picture()] * 2], ["a"], None, "row 1.*1 pictures.*got 2"),
            ([[_picture()]], ["a"], ["x", "y"], "`row_titles`.*1 titles.*got 2"),
            ([[torch.zeros(3, 4, 4)]], ["a"], None, r"rows\[0\]\[0\].*uint8"),
        ],
    )
    def test_bad_input(self, rows, columns, row_titles, message):
        with pytest.raises(ValueError, match=message):
            filmstrip(rows, columns, row_titles)
