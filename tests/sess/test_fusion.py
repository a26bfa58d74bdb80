"""Calibration against a pasted canvas resized by torch in float64, Eq. 2 by hand, and the properties of fusion."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sess_lightning.pixels import gaussian_blur, minmax, source_pixels
from sess_lightning.sess import fusion
from sess_lightning.sess.fusion import calibrated, fuse, normalised_maps, smooth
from sess_lightning.sess.windows import Window, pyramid_sizes, sliding_windows


def windows_of(size, window, n, step=None):
    return sliding_windows(tuple(pyramid_sizes(size, window, n)), window, step or window)


def by_canvas(maps, windows, size):
    """The definition: paste on zeros of the scaled size, resize to the image bilinearly without antialias."""
    out = []
    for m, w in zip(maps, windows, strict=True):
        canvas = torch.zeros(1, 1, w.scaled_h, w.scaled_w, dtype=torch.float64)
        canvas[0, 0, w.y1 : w.y2, w.x1 : w.x2] = normalised_maps(m[None], (w.y2 - w.y1, w.x2 - w.x1))[0]
        out.append(F.interpolate(canvas, size=size, mode="bilinear", align_corners=False)[0, 0])
    return torch.stack(out)


sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))
window_sizes = st.tuples(st.integers(1, 24), st.integers(1, 24))


@settings(deadline=None, max_examples=60)
@given(size=sizes, window=window_sizes, n=st.integers(1, 4), seed=st.integers(0, 99))
def test_calibration_equals_a_resized_canvas(size, window, n, seed):
    windows = windows_of(size, window, n)
    maps = torch.rand(len(windows), 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(calibrated(maps, windows, size), by_canvas(maps, windows, size), rtol=0, atol=1e-9)


@pytest.mark.parametrize("pool", ["mean", "plain_mean", "max"])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_fusion_equals_equation_2(pool, threshold):
    windows = windows_of((40, 56), (16, 16), 4, (8, 8))
    maps = torch.rand(len(windows), 4, 4, dtype=torch.float64)
    weights = torch.rand(len(windows), dtype=torch.float64)
    weighted = by_canvas(maps, windows, (40, 56)) * weights[:, None, None]
    sigma = weighted > threshold
    expected = {
        "mean": (weighted * sigma).sum(0) / sigma.sum(0).clamp(min=1),
        "plain_mean": (weighted * sigma).sum(0) / len(windows),
        "max": (weighted * sigma).amax(0),
    }[pool]
    torch.testing.assert_close(fuse(maps, windows, weights, (40, 56), pool, threshold), expected, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(size=sizes, window=window_sizes, pool=st.sampled_from(["mean", "plain_mean", "max"]), seed=st.integers(0, 99))
def test_values_stay_in_the_unit_range_and_order_does_not_matter(size, window, pool, seed):
    generator = torch.Generator().manual_seed(seed)
    windows = windows_of(size, window, 3)
    maps = torch.rand(len(windows), 3, 3, generator=generator)
    weights = torch.rand(len(windows), generator=generator)
    fused = fuse(maps, windows, weights, size, pool)
    assert fused.min() >= 0
    assert fused.max() <= 1 + 1e-6
    order = torch.randperm(len(windows), generator=generator)
    shuffled = fuse(maps[order], [windows[i] for i in order], weights[order], size, pool)
    torch.testing.assert_close(shuffled, fused, rtol=0, atol=1e-6)


def test_a_patch_changes_nothing_outside_its_region():
    windows = windows_of((64, 64), (32, 32), 5)
    maps = torch.rand(len(windows), 4, 4)
    other = maps.clone()
    other[-1] = torch.rand(4, 4)
    change = fuse(maps, windows, None, (64, 64)) != fuse(other, windows, None, (64, 64))
    w = windows[-1]
    scale = 64 / w.scaled_w
    assert change.any()
    assert not change[: int(w.y1 * scale) - 1].any()
    assert not change[:, : int(w.x1 * scale) - 1].any()


def test_no_patch_gives_zeros():
    assert torch.equal(fuse(torch.empty(0, 4, 4), [], None, (5, 6)), torch.zeros(5, 6))


@pytest.mark.parametrize("value", [0.0, 3.5, float("nan"), float("inf"), -float("inf")])
def test_minmax_flags_constant_and_non_finite_maps(value):
    maps, valid = minmax(torch.stack([torch.full((4, 4), value), torch.arange(16.0).view(4, 4)]))
    assert valid.tolist() == [False, True]
    assert torch.equal(maps[0], torch.zeros(4, 4))
    assert maps[1].min() == 0
    assert maps[1].max() == 1


def test_one_nan_pixel_flags_the_map():
    broken = torch.rand(1, 4, 4)
    broken[0, 1, 2] = float("nan")
    maps, valid = minmax(broken)
    assert not valid.item()
    assert torch.equal(maps, torch.zeros(1, 4, 4))


@pytest.mark.parametrize(("kernel", "sigma"), [(11, 5.0), (51, 50.0)])
def test_blur_equals_a_two_dimensional_convolution(kernel, sigma):
    image = torch.rand(2, 3, 60, 64, dtype=torch.float64)
    offsets = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    weights = torch.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * sigma**2))
    padded = F.pad(image, (kernel // 2,) * 4, mode="reflect").flatten(0, 1)[:, None]
    expected = F.conv2d(padded, (weights / weights.sum())[None, None]).view_as(image)
    torch.testing.assert_close(gaussian_blur(image, kernel, sigma), expected, rtol=0, atol=1e-12)


@given(st.integers(1, 8), st.integers(1, 8))
def test_blur_keeps_a_constant_on_any_size(height, width):
    image = torch.full((height, width), 0.7, dtype=torch.float64)
    torch.testing.assert_close(smooth(image), image)


# Lengths of a photo and of its scaled image: a pixel falls on the centre of another, but floats miss it by 1e-14.
MISSED = [(57, 469), (99, 469), (99, 555), (155, 725), (190, 810), (274, 298), (288, 352)]


@pytest.mark.parametrize(("length", "scaled"), MISSED)
def test_positions_are_met_exactly(length, scaled):
    """Against fractions, for a window on either side of every centre that is met: 0 is 0, not 1e-14."""
    rng = np.random.default_rng(length)
    exact = [Fraction((2 * i + 1) * scaled, 2 * length) - Fraction(1, 2) for i in range(length)]
    positions = [min(max(position, 0), scaled - 1) for position in exact]
    met = [int(p) for p in positions if p.denominator == 1 and 8 <= p < scaled - 8]
    assert met
    starts = [start for p in met for start in (p - 7, p - 8, p + 1, p)]  # of windows of 8 pixels
    windows = [Window(0, y, 4, y + 8, scaled, 4) for y in starts]
    values = torch.from_numpy(rng.uniform(0.1, 1, (len(starts), 8)))
    values[:, 3] = 0  # so that min-max normalisation only scales
    found = calibrated(values[:, :, None].expand(-1, 8, 4) * torch.ones(4), windows, (length, 4))[..., 0]
    for start, value, column in zip(starts, values / values.amax(1, keepdim=True), found, strict=True):
        for position, one in zip(positions, column, strict=True):
            before = position.numerator // position.denominator
            taps = {before: 1 - (position - before), before + 1: position - before}
            wanted = sum(float(w) * float(value[p - start]) for p, w in taps.items() if w and 0 <= p - start < 8)
            assert (one > 0) == (wanted > 0)
            assert float(one) == pytest.approx(wanted, abs=1e-12)


def test_a_window_that_ends_before_a_pixel_does_not_halve_it():
    """Pixel 28 lies on pixel 234 of the scaled photo, the first of the second window alone."""
    windows = [Window(0, start, 4, start + 8, 469, 4) for start in (226, 234)]
    maps = torch.ones(2, 8, 4)
    maps[:, 3] = 0
    assert float(fuse(maps, windows, None, (57, 4))[28, 0]) == 1.0


def test_source_pixels_of_every_size_equal_fractions():
    for resized, source in [(1, 1), (7, 3), (3, 7), (10, 10), (5, 1), (1, 9), (288, 672)]:
        before, behind = source_pixels(torch.arange(-2, resized + 2), resized, source, clamped=False)
        clamped = source_pixels(torch.arange(-2, resized + 2), resized, source)
        for i in range(-2, resized + 2):
            exact = Fraction((2 * i + 1) * source, 2 * resized) - Fraction(1, 2)
            inside = min(max(exact, 0), source - 1)
            for position, (one, rest) in ((exact, (before, behind)), (inside, clamped)):
                whole = position.numerator // position.denominator
                assert int(one[i + 2]) == whole
                assert float(rest[i + 2]) == float(position - whole)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_map_that_is_not_finite_leaves_the_others_alone(value):
    maps = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    expected = normalised_maps(maps, (4, 5))
    maps[1, 2, 3] = value
    found = normalised_maps(maps, (4, 5))
    assert torch.equal(found[[0, 2]], expected[[0, 2]])
    assert not found[1].any()


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_how_many_patches_are_brought_together_changes_no_bit(monkeypatch, pool):
    """A large photo takes them one by one, so that its memory stays bounded."""
    size = (90, 120)
    windows = sliding_windows(tuple(pyramid_sizes(size, (32, 32), 6)), (32, 32), (16, 16))
    maps = torch.rand(len(windows), 4, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.linspace(0.1, 1, len(windows))
    found = []
    for pixels in (2**22, 3000, 1):
        monkeypatch.setattr(fusion, "_CHUNK_PIXELS", pixels)
        monkeypatch.setattr(fusion, "_geometries", fusion._Geometries(2**26, 8))
        found.append(fuse(maps, windows, weights, size, pool))
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])


@pytest.mark.parametrize("size", [(375, 500), (3000, 4000)])
def test_what_is_brought_to_the_image_at_once_is_bounded(size):
    """16 patches of an ordinary photo; of one of 12 megapixels about 4 million pixels, or a single patch."""
    sizes = tuple(pyramid_sizes(size, (224, 224), 12))
    windows = sliding_windows(sizes, (224, 224), (224, 224))
    chunks = fusion._geometry(size, windows, torch.device("cpu"), torch.float32)
    assert sum(chunk.patches.stop - chunk.patches.start for chunk in chunks) == len(windows)
    for chunk in chunks:
        count, rows = chunk.rows.indices.shape[1:]
        assert count == 1 or count * rows * chunk.columns.indices.shape[2] <= 1.05 * 2**22
        assert count <= 16
    largest = max(chunk.patches.stop - chunk.patches.start for chunk in chunks)
    assert largest == 16 if size == (375, 500) else 2 <= largest < 16
