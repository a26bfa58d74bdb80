"""Boxes and peaks drawn on pictures."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sess_lightning.render import draw_boxes, draw_circle, draw_peak, marks, page, panel
from tests.helpers.pictures import centre_of, is_colour, picture, row_of

QUICK = settings(max_examples=25, deadline=None)
PAGE, MOUNT, HIT, MISS = page.PAGE, panel._MOUNT, marks._HIT, marks._MISS
LONG = "Shetland sheepdog, Shetland sheep dog, Shetland"


class TestBoxes:
    def test_pixels(self):
        drawn = draw_boxes(picture(30, 40, 100), torch.tensor([[10, 5, 20, 15]]))
        assert is_colour(drawn, (255, 255, 255)).nonzero().amin(0).tolist() == [5, 10]
        assert is_colour(drawn, (255, 255, 255)).nonzero().amax(0).tolist() == [14, 19]  # the last pixels inside
        assert drawn[0, 10, 8:13].tolist() == [100, 12, 255, 12, 100]
        assert drawn[0, 10, 17:22].tolist() == [100, 12, 255, 12, 100]

    def test_fractions_belong_to_the_pixels_they_touch(self):
        box = torch.tensor([[9.1, 5.9, 19.2, 14.1]])
        assert torch.equal(
            draw_boxes(picture(30, 40, 100), box), draw_boxes(picture(30, 40, 100), box.new_tensor([[9, 5, 20, 15]]))
        )

    def test_boxes_outside_are_clipped_or_left_out(self):
        image = picture(20, 20, 100)
        whole = draw_boxes(image, torch.tensor([[-50.0, -50, 99, 99]]))
        assert (whole[:, 0] == 255).all()
        assert (whole[:, :, -1] == 255).all()
        nothing = torch.tensor([[30.0, 3, 40, 9], [5, 5, 5, 9], [9, 9, 5, 5], [-9, 2, -3, 8]])
        assert torch.equal(draw_boxes(image, nothing), image)

    def test_a_tiny_box_is_seen(self):
        drawn = draw_boxes(picture(20, 20, 0), torch.tensor([[7, 8, 8, 9]]))
        assert drawn[:, 8, 7].tolist() == [255, 255, 255]

    def test_the_image_is_left_alone(self):
        image = picture(20, 20, 100)
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
        drawn = draw_boxes(picture(height, width), torch.tensor(corners).reshape(-1, 4))
        assert drawn.shape == (3, height, width)
        assert drawn.dtype == torch.uint8

    @pytest.mark.parametrize(
        ("boxes", "message"),
        [
            (torch.zeros(4), r"\(N, 4\).*\(4,\)"),
            ([[1, 2, 3, 4]], "list"),
            (torch.full((1, 4), float("nan")), "finite"),
        ],
    )
    def test_bad_input(self, boxes, message):
        with pytest.raises(ValueError, match=message):
            draw_boxes(picture(), boxes)
        with pytest.raises(ValueError, match=message):
            row_of(boxes=boxes)


class TestPeak:
    @pytest.mark.parametrize(("hit", "colour"), [(True, HIT), (False, MISS), (None, (255, 255, 255))])
    def test_centred(self, hit, colour):
        assert centre_of(draw_peak(picture(61, 81, 90), x=33, y=20, hit=hit), colour) == (20, 33)

    def test_a_hit_is_a_ring_and_a_miss_a_cross(self):
        ring, cross = (draw_peak(picture(41, 41, 90), 20, 20, hit, radius=8) for hit in (True, False))
        assert not is_colour(ring, HIT)[20, 20]
        assert is_colour(ring, HIT)[20, 28]
        assert is_colour(cross, MISS)[20, 20]
        assert not is_colour(cross, MISS)[20, 28]

    @pytest.mark.parametrize("ground", [0, 255])
    @pytest.mark.parametrize("hit", [True, False, None])
    def test_seen_on_every_ground(self, hit, ground):
        drawn = draw_peak(picture(41, 41, ground), 20, 20, hit)
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
        drawn = draw_peak(picture(height, width), x, y, hit)
        assert drawn.shape == (3, height, width)
        assert drawn.dtype == torch.uint8

    def test_bad_input(self):
        with pytest.raises(ValueError, match="`image`"):
            draw_peak(torch.zeros(3, 4, 4), 1, 1)


class TestCircle:
    def test_its_radius(self):
        drawn = draw_circle(picture(101, 101, 90), x=50, y=50, radius=30)
        white = (drawn[0] > 170).nonzero().float() - 50
        assert len(white) > 150
        assert (white.norm(dim=1) - 30).abs().max() < 1

    @pytest.mark.parametrize("ground", [0, 255])
    def test_seen_on_every_ground(self, ground):
        drawn = draw_circle(picture(101, 101, ground), 50, 50, 30)
        assert (drawn.int() - ground).abs().amax() > 200

    def test_bad_input(self):
        with pytest.raises(ValueError, match="`image`"):
            draw_circle(torch.zeros(3, 4, 4), 1, 1, 1)
