"""What is painted covers the area it should, where it should, in colours that stand out."""

import numpy as np
import pytest

from sess_lightning.data.shapes.drawing import MIN_CONTRAST, contrast, ground, place, striking_colour, texture
from sess_lightning.data.shapes.outlines import CLASSES, CLUTTER

SQUARE = [np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])]


def rng(seed=0):
    return np.random.default_rng(seed)


def test_a_square_on_whole_pixels_covers_exactly_these():
    stamp = place(SQUARE, (10, 7), 8, 0.0, (20, 20))
    mask = stamp.mask(20, 20)
    expected = np.zeros((20, 20), dtype=bool)
    expected[3:11, 6:14] = True
    assert (mask == expected).all()
    assert stamp.coverage.sum() == 64


@pytest.mark.parametrize(("size", "centre"), [(10, (20, 20)), (21.3, (20.4, 19.8)), (30, (17, 22.5))])
def test_a_disc_has_the_area_and_the_middle_of_a_disc(size, centre):
    stamp = place(CLASSES["disc"](rng()), centre, size, 0.3, (48, 48))
    canvas = np.zeros((48, 48, 1), dtype=np.float32)
    stamp.paint(canvas, np.ones(1, dtype=np.float32))
    area = canvas.sum()
    assert area == pytest.approx(np.pi * size**2 / 4, rel=0.02)
    rows, columns = np.mgrid[:48, :48] + 0.5  # the middle of a pixel
    assert (canvas[..., 0] * columns).sum() / area == pytest.approx(centre[0], abs=0.1)
    assert (canvas[..., 0] * rows).sum() / area == pytest.approx(centre[1], abs=0.1)


def test_a_hole_is_open():
    stamp = place([*SQUARE, SQUARE[0] / 2], (8, 8), 8, 0.0, (16, 16))
    assert stamp.coverage.sum() == pytest.approx(64 - 16, rel=0.03)
    assert not stamp.mask(16, 16)[8, 8]


@pytest.mark.parametrize("name", [*CLASSES, *CLUTTER])
@pytest.mark.parametrize("seed", range(3))
def test_every_outline_gets_the_size_asked_for_at_every_turn(name, seed):
    draw = {**CLASSES, **CLUTTER}[name]
    stamp = place(draw(rng(seed)), (32, 32), 40, rng(seed).uniform(0, 7), (64, 64))
    rows, columns = np.nonzero(stamp.coverage > 0)
    assert 39 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 42
    assert stamp.coverage.min() >= 0
    assert stamp.coverage.max() <= 1


@pytest.mark.parametrize("centre", [(-30, 10), (10, 90), (0, 0), (63, 63)])
def test_what_sticks_out_is_cut_off(centre):
    canvas = np.zeros((64, 64, 3), dtype=np.float32)
    place(SQUARE, centre, 20, 0.4, (64, 64)).paint(canvas, np.ones(3, dtype=np.float32))
    assert (canvas.max() > 0) == (0 <= centre[0] < 64 and 0 <= centre[1] < 64)


def test_contrast_is_the_distance_to_the_nearest_colours():
    half = np.zeros((10, 10, 3))
    half[:5] = 1
    assert contrast(np.array([1.0, 1.0, 1.0]), half) == 0
    assert contrast(np.array([1.0, 1.0, 0.0]), half) == pytest.approx(1)


def test_contrast_forgives_a_few_pixels():
    ground = np.zeros((20, 20, 3))
    ground[0, :4] = 1
    assert contrast(np.ones(3), ground) == pytest.approx(3**0.5)


@pytest.mark.parametrize("seed", range(40))
def test_a_colour_that_stands_out_is_always_found(seed):
    source = rng(seed)
    canvas = ground(source, 48, 48)
    canvas[10:40, 10:40] = texture(source, canvas[10:40, 10:40])
    assert canvas.min() >= 0
    assert canvas.max() <= 1
    assert contrast(striking_colour(source, canvas), canvas) >= MIN_CONTRAST
