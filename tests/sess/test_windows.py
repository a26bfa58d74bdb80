"""Geometry: every pixel is seen, counts are the closed form, patches are what the scaled image shows."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sess_lightning.pixels import resize
from sess_lightning.sess.windows import (
    iter_patches,
    pyramid_sizes,
    relative_sizes,
    short_side_sizes,
    sliding_windows,
    window_starts,
)


@given(st.data())
def test_windows_cover_every_pixel_and_stay_inside(data):
    window = data.draw(st.integers(1, 60))
    length = data.draw(st.integers(window, 400))
    step = data.draw(st.integers(1, window))
    starts = window_starts(length, window, step)
    assert len(starts) == math.ceil((length - window) / step) + 1
    assert starts[0] == 0
    assert starts[-1] + window == length
    assert all(0 < b - a <= step for a, b in pairwise(starts))


# Totals for a square image, SPEC section 3.2, counted by running the published code.
@pytest.mark.parametrize(
    ("num_scales", "total"), list(enumerate([1, 5, 9, 13, 22, 31, 40, 49, 65, 81, 97, 122], start=1))
)
def test_number_of_patches_of_a_square_image(num_scales, total):
    sizes = pyramid_sizes((224, 224), (224, 224), num_scales)
    assert sizes == [(224 + 64 * i,) * 2 for i in range(num_scales)]
    assert len(sliding_windows(tuple(sizes), (224, 224), (224, 224))) == total


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 300), st.integers(1, 300), st.integers(1, 12))
def test_every_scale_covers_the_window_and_keeps_the_aspect(height, width, window_h, window_w, n):
    for i, (h, w) in enumerate(pyramid_sizes((height, width), (window_h, window_w), n)):
        assert h >= window_h
        assert w >= window_w
        factor = 1 + 2 / 7 * i
        tight_h, tight_w = abs(h - window_h * factor) <= 0.5, abs(w - window_w * factor) <= 0.5
        assert tight_h or tight_w  # one side fits exactly
        scale = h / height if tight_h else w / width
        assert abs(w - width * scale) < 1 or abs(h - height * scale) < 1


@given(st.integers(1, 900), st.integers(1, 900), st.integers(1, 300), st.integers(1, 300), st.integers(1, 12))
def test_multiples_of_the_window_that_the_paper_takes_give_its_pyramid(height, width, window_h, window_w, n):
    multiples = [1 + 2 * i / 7 for i in range(n)]
    expected = pyramid_sizes((height, width), (window_h, window_w), n)
    assert relative_sizes((height, width), (window_h, window_w), multiples) == expected


def test_torchvision_rule_for_the_long_side():
    assert short_side_sizes((375, 500), [224]) == [(224, int(224 * 500 / 375))]
    assert short_side_sizes((500, 333), [288]) == [(int(288 * 500 / 333), 288)]


def test_patches_are_cuts_of_the_scaled_image():
    image = torch.rand(3, 50, 70)
    windows = sliding_windows(tuple(pyramid_sizes((50, 70), (32, 32), 3)), (32, 32), (32, 32))
    for window, patch in zip(windows, iter_patches(image, windows), strict=True):
        scaled = resize(image[None], (window.scaled_h, window.scaled_w))[0]
        assert torch.equal(patch, scaled[:, window.y1 : window.y2, window.x1 : window.x2])


def test_image_of_the_right_size_is_not_resampled():
    image = torch.rand(1, 3, 20, 20)
    assert resize(image, (20, 20)) is image


def test_a_scale_below_the_window_is_refused():
    with pytest.raises(ValueError, match=r"cover the window of 64 x 64 .*`scales`"):
        sliding_windows(((64, 50),), (64, 64), (64, 64))
