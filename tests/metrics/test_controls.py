"""Maps without information, and what pointing is worth by chance, against counts of pixels by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sess_lightning.metrics import (
    PointingGame,
    blurred,
    centre_map,
    chance_of_hit,
    hit_area,
    noise_map,
    pointing_energy,
    pointing_hits,
)
from sess_lightning.sess.fusion import smooth
from tests.helpers.nets import seeded

BOX = torch.tensor([[40.0, 30, 60, 45]])  # 20 x 15 pixels, far from the borders of 100 x 120


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 4, 5, 15])
def test_chance_of_a_box_is_counted_by_hand(tolerance):
    """The box, strips as wide as whole pixels nearer than the tolerance, and four quarters of a disc."""
    strip = max(0, math.ceil(tolerance) - 1)
    quarter = sum(a * a + b * b < tolerance**2 for a in range(1, 20) for b in range(1, 20))
    expected = 20 * 15 + 2 * strip * (20 + 15) + 4 * quarter
    objects = {"boxes": BOX, "labels": torch.tensor([2])}
    assert chance_of_hit(objects, 2, (100, 120), tolerance) == pytest.approx(expected / 12000, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31), st.sampled_from([0, 0.5, 1, 1.5, 3, 5, 13, 1000.0]), st.integers(1, 13), st.integers(1, 11)
)
def test_every_pixel_is_asked(seed, tolerance, height, width):
    region = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) > 0.95
    points = torch.cartesian_prod(torch.arange(height), torch.arange(width)).flip(1)
    expected = pointing_hits(points, region.expand(len(points), -1, -1), tolerance)
    assert torch.equal(hit_area(region, tolerance).flatten(), expected)


def test_it_is_what_random_peaks_score():
    """2000 random peaks hit as often as they should, within 4 standard errors."""
    objects = {"boxes": BOX, "labels": torch.tensor([2])}
    game = PointingGame(tolerance=15)
    for index in range(2000):
        game.update(noise_map((100, 120), index=index)[None], torch.tensor([2]), [objects])
    chance = chance_of_hit(objects, 2, (100, 120), 15)
    assert abs(float(game.compute()) - chance) < 4 * math.sqrt(chance * (1 - chance) / 2000)


def test_without_tolerance_it_is_the_energy_of_a_constant_map():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 2:4, 1:5], masks[1, 0, 0] = True, True
    objects = {"masks": masks, "labels": torch.tensor([1, 3])}
    found = chance_of_hit(objects, 1, (60, 80), 0)  # masks have their own size
    assert found == pytest.approx(8 / 48)
    assert found == pytest.approx(float(pointing_energy(torch.ones(1, 6, 8), masks[:1])))


@pytest.mark.parametrize(
    "objects",
    [
        None,
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
        {"boxes": BOX, "labels": torch.tensor([1])},
        {"boxes": BOX, "labels": torch.tensor([2]), "difficult": torch.tensor([True])},
        {"boxes": BOX + 200, "labels": torch.tensor([2])},
    ],
)
def test_what_the_pointing_game_skips_has_no_chance(objects):
    assert chance_of_hit(objects, 2, (100, 120)) is None
    with pytest.raises(ValueError, match="argument `tolerance`"):
        hit_area(torch.ones(2, 2, dtype=torch.bool), -1)


def test_noise_depends_on_seed_and_index_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = noise_map((20, 30), 1, "a")
    assert torch.equal(torch.get_rng_state(), before)
    assert one.shape == (20, 30)
    assert torch.equal(one, noise_map((20, 30), 1, "a"))
    for other in (noise_map((20, 30), 2, "a"), noise_map((20, 30), 1, "b"), noise_map((20, 30), 1, 0)):
        assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 4 / math.sqrt(600)


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (1, 5), (224, 100)])
def test_the_centre(size):
    """The peak is TorchRay's centre, (W / 2, H / 2), rounded down; a quarter of the side from it exp(-1/2)."""
    saliency = centre_map(size)
    y, x = divmod(int(saliency.argmax()), size[1])
    assert (y, x) == (size[0] // 2, size[1] // 2)
    assert (saliency == saliency.max()).sum() == 1
    if size == (224, 100):
        assert float(saliency[112 + 56, 50]) == pytest.approx(math.exp(-0.5))
        assert float(saliency[112, 50 - 25]) == pytest.approx(math.exp(-0.5))


def test_the_blur_is_that_of_sess():
    """A single pixel becomes the sampled Gaussian: exp(-d^2 / 50), cut off at 5 pixels, of sum 1."""
    saliency = torch.zeros(31, 31)
    saliency[15, 15] = 1
    weights = torch.exp(-(torch.arange(-5.0, 6) ** 2) / 50)
    weights = torch.outer(weights, weights) / weights.sum() ** 2
    torch.testing.assert_close(blurred(saliency)[10:21, 10:21], weights)
    assert float(blurred(saliency).sum()) == pytest.approx(1, abs=1e-5)
    maps = seeded(0, 3, 20, 20)
    assert torch.equal(blurred(maps), smooth(maps))
