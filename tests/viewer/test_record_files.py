"""The pieces of a record: files, tiles, outlines."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from sess_lightning.viewer.files import append_line, as_json, write_whole
from sess_lightning.viewer.outlines import outlines
from sess_lightning.viewer.tiles import drift, packed, tile


def test_a_line_without_its_end_is_cut_off(tmp_path):
    path = tmp_path / "lines"
    for left, kept in ((b"", b""), (b'{"a":1}\n', b'{"a":1}\n'), (b'{"a":1}\n{"b"', b'{"a":1}\n'), (b'{"a"', b"")):
        path.write_bytes(left)
        append_line(path, "{}")
        assert path.read_bytes() == kept + b"{}\n"


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def broken(*paths):
        raise OSError("planted")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="planted"):
        write_whole(path, b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"old")]


def test_what_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        as_json({"a": float("nan")})


def test_tiles_lie_apart_and_whole():
    generator = np.random.default_rng(0)
    sizes = [(7, 9), (40, 3), (1, 1), (12, 60), (5, 5)] * 4
    tiles = [generator.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    data, places = packed(tiles)
    pixels, taken = np.array(Image.open(io.BytesIO(data))), 0
    for one, (x, y, w, h) in zip(tiles, places, strict=True):
        assert np.array_equal(pixels[y : y + h, x : x + w], one)
        taken += w * h
        pixels[y : y + h, x : x + w] = 0
    assert not pixels.any()
    assert taken == sum(one.size for one in tiles)
    assert packed([])[1] == []


def test_a_tile_of_odd_values():
    odd = torch.tensor([[float("nan"), float("inf"), -0.5], [0.5, 1.5, 0.999]])
    assert tile(odd, 96).tolist() == [[0, 0, 0], [128, 255, 255]]
    assert tile(torch.ones(3, 1000), 96).shape == (1, 96)


def test_drift_of_tiles_of_other_sizes_or_zeros():
    ones = np.ones((2, 2), dtype=np.uint8)
    assert drift(ones, ones * 200) == pytest.approx(0)
    assert drift(ones, np.zeros_like(ones)) is drift(ones, None) is drift(ones, np.ones((3, 2), np.uint8)) is None


def area(points):
    x, y = np.array(points[::2]), np.array(points[1::2])
    return (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2


def test_outlines_enclose_the_pixels():
    """Holes run the other way round, so that the areas add up to the number of pixels."""
    mask = torch.zeros(20, 30)
    mask[2:9, 3:20], mask[4:6, 5:9], mask[9:12, 20:22] = 1, 0, 1  # a hole, and a part that touches at a corner
    found = outlines(mask, (20, 30))
    assert sum(map(area, found)) == mask.sum()
    doubled = outlines(mask, (40, 60))
    assert sum(map(area, doubled)) == 4 * mask.sum()


@pytest.mark.parametrize("side", [64, 700])
def test_outlines_of_noise_and_large_masks_are_bounded(side):
    mask = torch.rand(side, side, generator=torch.Generator().manual_seed(0)) > 0.5
    found = outlines(mask, (side, side))
    assert 1 <= len(found) <= 8
    assert max(map(len, found)) <= 128
    assert outlines(torch.zeros(side, side), (side, side)) == []


def test_a_thin_mask_does_not_vanish():
    mask = torch.zeros(2000, 2000)
    mask[:, 1000] = 1
    assert outlines(mask, (2000, 2000))
