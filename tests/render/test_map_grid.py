"""Captioned grids of maps."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sess_lightning.render import MapRow, draw_peak, map_grid, marks, overlay, page, panel
from sess_lightning.render.map_grid import _caption, _legend, _row_panels
from sess_lightning.render.panel import fitted
from sess_lightning.render.text import DOT, _in_font, font_of, printable, shortened
from tests.helpers.pictures import centre_of, is_colour, peaked, picture, row_of

QUICK = settings(max_examples=25, deadline=None)
PAGE, MOUNT, HIT, MISS = page.PAGE, panel._MOUNT, marks._HIT, marks._MISS
LONG = "Shetland sheepdog, Shetland sheep dog, Shetland"


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
            ({"second": torch.zeros(60, 40)}, r"`second`.*\(40, 60\).*\(60, 40\)"),
        ],
    )
    def test_bad_input(self, changes, message):
        with pytest.raises(ValueError, match=message):
            row_of(**changes)

    def test_the_explained_class_may_be_left_out(self):
        assert inspect.signature(MapRow).parameters["explained"].default is None


class TestMapGrid:
    def test_rows_and_columns_of_equal_panels(self):
        both = map_grid([row_of()], "t", panel_height=100)
        alone = map_grid([row_of(base=None, base_hit=None)], "t", panel_height=100)
        gap = page.BoardLayout(100, 150, 3).gap
        assert both.shape[2] == 3 * 150 + 4 * gap
        assert alone.shape[2] == 2 * 150 + 3 * gap
        two, three = (map_grid([row_of()] * n, "t", panel_height=100).shape[1] for n in (2, 3))
        assert three - two == two - both.shape[1] > 100
        assert both.dtype == torch.uint8

    def test_a_row_without_a_base_map_keeps_the_columns(self):
        grid = map_grid([row_of(), row_of(base=None)], "t", panel_height=64)
        assert grid.shape[2] == map_grid([row_of()], "t", panel_height=64).shape[2]

    @pytest.mark.parametrize(
        ("height", "width", "y", "x"), [(40, 60, 20, 20), (32, 32, 0, 31), (100, 400, 99, 1), (90, 30, 45, 0)]
    )
    def test_the_peak_is_centred_on_the_maximum(self, height, width, y, x):
        row = row_of(height, width, sess=peaked(height, width, y, x), boxes=None, base=None)
        panel = _row_panels(row, (200, 200), has_base=False)[1]
        wide = torch.nn.functional.pad(panel, (40, 40, 40, 40))
        fit = fitted(row.image, (200, 200))
        expected = fit.top + (y + 0.5) * fit.height / height - 0.5, fit.left + (x + 0.5) * fit.width / width - 0.5
        drawn = draw_peak(torch.zeros_like(wide), expected[1] + 40, expected[0] + 40, True, 200 / 26)
        inside = is_colour(drawn, HIT)[40:-40, 40:-40]
        assert torch.equal(is_colour(panel, HIT), inside)
        assert inside.any()

    @pytest.mark.parametrize(("hit", "white"), [(True, True), (False, True), (None, False)])
    def test_the_tolerance_is_a_circle_in_pixels_of_the_image(self, hit, white):
        row = row_of(50, 50, sess=peaked(50, 50, 25, 25), boxes=None, hit=hit, tolerance=15, base=None)
        panel = _row_panels(row, (200, 200), has_base=False)[1]
        middle = 4 * 25.5 - 0.5
        for x in (middle - 60, middle + 60):  # 15 pixels, four times as large
            assert bool((panel[:, 101, int(x)] > 250).all()) == white
        assert is_colour(_row_panels(row, (200, 200), has_base=False)[0], (255, 255, 255)).sum() == 0

    def test_a_small_circle_stays_outside_of_the_mark(self):
        row = row_of(400, 400, sess=peaked(400, 400, 200, 200), boxes=None, tolerance=15, base=None)
        panel = _row_panels(row, (224, 224), has_base=False)[1]
        radius = 15 * 224 / 400
        reach = (is_colour(panel, HIT).nonzero() - 112).float().norm(dim=1).max()
        assert 3 <= reach < radius - 1

    def test_no_circle_without_tolerance(self):
        row = row_of(50, 50, sess=peaked(50, 50, 25, 25), boxes=None, base=None)
        near = _row_panels(row, (200, 200), has_base=False)[1]
        far = _row_panels(row_of(50, 50, sess=peaked(50, 50, 25, 25), boxes=None, base=None, tolerance=15),
                               (200, 200), has_base=False)[1]  # fmt: skip
        outside = torch.ones(200, 200, dtype=torch.bool)
        outside[90:115, 90:115] = False
        assert not is_colour(near, (255, 255, 255))[outside].any()
        assert is_colour(far, (255, 255, 255))[outside].any()

    def test_a_second_map_has_a_column_of_its_own_and_a_peak_without_verdict(self):
        second = peaked(40, 60, 5, 50)
        rows = [row_of(second=second), row_of()]
        layout = page.BoardLayout(100, 150, 4)
        drawn = map_grid(rows, "t", panel_height=100)
        assert drawn.shape[2] == layout.column(4)
        panel = _row_panels(rows[0], (100, 150), True, True)[3]
        assert not is_colour(panel, HIT).any()
        assert not is_colour(panel, MISS).any()
        middle = centre_of(panel[:, :30, 100:], (255, 255, 255))
        assert middle == pytest.approx((2.5 * 5.5 - 0.5, 2.5 * 50.5 - 0.5 - 100), abs=0.5)
        blank = _row_panels(rows[1], (100, 150), True, True)[3]
        assert is_colour(blank, PAGE).all()

    def test_equal_maxima_mark_the_first(self):
        saliency = torch.zeros(50, 50)
        saliency[10, 30] = saliency[40, 10] = 1
        panel = _row_panels(row_of(50, 50, sess=saliency, boxes=None), (50, 50), has_base=False)[1]
        assert centre_of(panel, HIT) == (10, 30)

    def test_a_constant_map_has_no_peak(self):
        panel = _row_panels(row_of(sess=torch.zeros(40, 60), boxes=None), (80, 120), has_base=False)[1]
        assert not is_colour(panel, HIT).any()

    def test_boxes_are_scaled_with_the_image(self):
        row = row_of(20, 40, boxes=torch.tensor([[10.0, 5.0, 20.0, 15.0]]))
        panel = _row_panels(row, (100, 100), has_base=False)[0]  # 2.5 times, 25 px of mount above
        white = is_colour(panel, (255, 255, 255)).nonzero()
        assert white.amin(0).tolist() == [25 + 12, 25]
        assert white.amax(0).tolist() == [25 + 37, 49]

    def test_the_aspect_is_kept_in_the_mount(self):
        panel = _row_panels(row_of(20, 80, boxes=None), (100, 100), has_base=False)[0]
        inside = is_colour(panel, (128, 128, 128))
        assert inside.sum() == 25 * 100
        assert (is_colour(panel, MOUNT) | inside).all()

    def test_small_images_keep_square_pixels(self):
        image = picture(32, 32)
        panel = _row_panels(row_of(32, 32, image=image, boxes=None), (224, 224), has_base=False)[0]
        assert torch.equal(panel, image.repeat_interleave(7, 1).repeat_interleave(7, 2))

    def test_an_image_of_the_panel_size_is_untouched(self):
        image = picture(64, 64)
        row = row_of(64, 64, image=image, boxes=None, sess=torch.zeros(64, 64))
        panels = _row_panels(row, (64, 64), has_base=False)
        assert torch.equal(panels[0], image)
        assert torch.equal(panels[1], overlay(image, row.sess))

    @QUICK
    @given(height=st.integers(1, 90), width=st.integers(1, 90), base=st.booleans(), panel_height=st.integers(32, 80))
    def test_any_size(self, height, width, base, panel_height):
        row = row_of(height, width, **({} if base else {"base": None}))
        grid = map_grid([row], "epoch 3 · step 192", panel_height)
        assert grid.dtype == torch.uint8
        assert grid.shape[0] == 3
        assert grid.shape[1] > panel_height

    @pytest.mark.parametrize(("height", "width"), [(1, 1), (32, 32), (3, 900), (900, 3), (1500, 2000)])
    def test_odd_sizes(self, height, width):
        assert map_grid([row_of(height, width), row_of()], "t").shape[2] > 336

    def test_inputs_are_left_alone(self):
        row = row_of()
        before = row.image.clone(), row.sess.clone(), row.boxes.clone()
        map_grid([row], "t", 64)
        assert all(torch.equal(*pair) for pair in zip(before, (row.image, row.sess, row.boxes), strict=True))

    def test_inference_mode(self):
        with torch.inference_mode():
            assert map_grid([row_of()], "t", 64).dtype == torch.uint8

    def test_half_precision_maps(self):
        row = row_of(sess=torch.rand(40, 60, dtype=torch.bfloat16), base=torch.rand(40, 60, dtype=torch.float16))
        assert map_grid([row], "t", 64).dtype == torch.uint8

    def test_the_legend_names_what_occurs(self):
        layout = page.BoardLayout(100, 150, 3)
        with_both = _legend([row_of()], layout)
        hits_only = _legend([row_of(base=None, base_hit=None, boxes=None)], layout)
        assert is_colour(with_both, MISS).any()
        assert is_colour(hits_only, HIT).any()
        assert not is_colour(hits_only, MISS).any()
        assert with_both.shape[2] == layout.breadth

    @pytest.mark.parametrize("panel_height", [31, 0, 64.0, "224"])
    def test_bad_panel_height(self, panel_height):
        with pytest.raises(ValueError, match="`panel_height`"):
            map_grid([row_of()], "t", panel_height)

    def test_no_rows(self):
        with pytest.raises(ValueError, match="`rows`"):
            map_grid([], "t")


class TestCaption:
    WIDE = page.BoardLayout(100, 900, 2)

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
        assert _caption(row_of(**changes), self.WIDE) == [caption]

    def test_long_names_are_shortened_and_the_rest_is_kept(self):
        narrow = page.BoardLayout(224, 168, 2)
        lines = _caption(row_of(label=LONG, prediction=LONG, explained=LONG, base_hit=None), narrow)
        assert len(lines) == 3
        assert lines[0].startswith("label Shetland sheep")
        assert lines[1].startswith("predicted Shetland sh")
        assert lines[1].endswith("… p=0.07")
        assert lines[2] == "SESS hit"

    def test_only_the_long_name_is_shortened(self):
        lines = _caption(row_of(label="cat", prediction=LONG), page.BoardLayout(224, 168, 2))
        assert lines[0].startswith("label cat · predicted Shetland sh")
        assert lines[0].endswith("…")

    @QUICK
    @given(label=st.text(max_size=60), prediction=st.text(max_size=60), width=st.integers(168, 336))
    def test_any_name_fits(self, label, prediction, width):
        layout = page.BoardLayout(224, width, 2)
        lines = _caption(row_of(label=label, prediction=prediction), layout)
        assert max(layout.font.getlength(line) for line in lines) <= layout.breadth

    @QUICK
    @given(text=st.text(max_size=50), width=st.integers(0, 200))
    def test_shortened(self, text, width):
        font = font_of(14)
        words = shortened(printable(text), font, width)
        assert font.getlength(words) <= width

    def test_the_drawn_text_stays_within_the_panels(self):
        title = "epoch 3 · step 192 " + LONG * 4
        grid = map_grid([row_of(label=LONG, prediction=LONG, explained=LONG * 2)], title, panel_height=64)
        gap = page.BoardLayout(64, 96, 3).gap
        assert is_colour(grid, PAGE)[:, :gap].all()
        assert is_colour(grid, PAGE)[:, -gap + 1 :].all()
        assert not is_colour(grid, PAGE)[: 2 * gap, gap:-gap].all()

    @pytest.mark.parametrize(
        ("name", "written"),
        [
            ("a·b…", "a·b…"),
            ("Größe Ångström", "Größe Ångström"),
            ("Łódź \u2013 œuvre", "Łódź \u2013 œuvre"),
            ("naïve\ncafe\u0301\t", "naïve café "),
            ("漢字", "??"),
            ("кот", "кот"),
            ("σκύλος", "σκύλος"),
            ("Việt", "Việt"),
            ("🦊 fox", "? fox"),
            ("\x00\ud800", "??"),
        ],
    )
    def test_letters_that_the_font_lacks(self, name, written):
        assert printable(name) == written

    def test_the_separator_is_in_the_font(self):
        assert all(_in_font(letter) for letter in DOT + "…=%")
        assert not _in_font("漢")

    @pytest.mark.parametrize("name", ["кот", "σκύλος", "ñandú", "חתול", "→"])
    def test_every_letter_is_drawn_as_another_picture_than_the_sign_for_a_missing_one(self, name):
        font = font_of(20)
        missing = [bytes(font.getmask(sign)) for sign in "?\uffff"]
        assert all(bytes(font.getmask(letter)) not in missing for letter in name)
        grids = [map_grid([row_of(label=label)], "t", 64) for label in (name, "?" * len(name))]
        assert grids[0].shape != grids[1].shape or not torch.equal(*grids)

    def test_names_of_all_alphabets_are_drawn(self):
        map_grid([row_of(label="漢字 кот ☃", prediction="\ud800\x00\n")], "эпоха 3", 64)
