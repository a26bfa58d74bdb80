"""The geometry that fusion keeps: bounded in bytes and number, the last used stays, threads may share it."""

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch

from sess_lightning import SESS
from sess_lightning.sess import fusion
from sess_lightning.sess.windows import sliding_windows
from tests.helpers.nets import seeded


@pytest.fixture
def cache(monkeypatch):
    cache = fusion._Geometries(fusion._KEPT_BYTES, fusion._KEPT)
    monkeypatch.setattr(fusion, "_geometries", cache)
    return cache


@pytest.fixture
def computed(monkeypatch):
    """The sizes of images for which a geometry was computed, in order."""
    sizes = []

    def counted(*key, geometry=fusion._geometry):
        sizes.append(key[0])
        return geometry(*key)

    monkeypatch.setattr(fusion, "_geometry", counted)
    return sizes


def key(size, windows=1):
    return (size, windows_of(size, windows), torch.device("cpu"), torch.float32)


def windows_of(size, count=1):
    return sliding_windows((size,), (4, 4), (4, 4))[:count]


def alive_bytes():
    """Bytes of all tensors that live in this process, whoever holds them."""
    gc.collect()
    found = [one for one in gc.get_objects() if type(one) is torch.Tensor]
    total = 0
    for one in found:
        with suppress(RuntimeError):  # torch 2.6 says it of tensors without storage, which other tests have left
            total += one.nbytes
    return total


def test_many_large_sizes_stay_under_64_megabytes(cache):
    sess, before = SESS(num_scales=12, step_size=112), alive_bytes()
    for extra in range(12):
        size = (2048, 2048 + extra)
        windows = sess.windows_for(size, (224, 224))
        # As `fuse` asks for it, without the maps, which would take most of the time.
        assert fusion._nbytes(cache.of((size, windows, torch.device("cpu"), torch.float32))) > 2**23
    held = alive_bytes() - before
    assert held == cache.nbytes
    assert 2**25 < held <= 2**26 == 67_108_864
    assert 0 < len(cache) < 12


def test_the_geometry_used_last_stays(cache, computed):
    sizes = [(20 + i, 20) for i in range(3)]
    cache.most_bytes = sum(fusion._nbytes(fusion._geometry(*key(size))) for size in sizes[:2])
    del computed[:]
    for number in (0, 1, 0, 2, 0, 1):
        cache.of(key(sizes[number]))
    assert computed == [sizes[0], sizes[1], sizes[2], sizes[1]]  # 1 made room for 2, then 2 for 1
    assert len(cache) == 2


def test_many_small_sizes_are_bounded_in_number(cache, computed):
    for i in range(fusion._KEPT + 5):
        cache.of(key((4, 4 + i)))
    assert len(cache) == fusion._KEPT == 256
    for i in (fusion._KEPT + 4, 5):
        cache.of(key((4, 4 + i)))
    assert len(computed) == fusion._KEPT + 5
    cache.of(key((4, 8)))
    assert len(computed) == fusion._KEPT + 6


def test_a_geometry_larger_than_the_bound_is_used_and_not_kept(cache, computed):
    cache.of(key((4, 5)))
    cache.most_bytes = cache.nbytes
    assert len(cache.of(key((400, 400), 160))) == 10
    cache.of(key((4, 5)))
    assert computed == [(4, 5), (400, 400)]


def test_fusing_again_computes_nothing_and_gives_the_same(cache, computed):
    windows = sliding_windows(((12, 15), (20, 25)), (8, 8), (8, 8))
    maps = seeded(0, len(windows), 3, 3)
    first = fusion.fuse(maps, windows, None, (12, 15))
    assert torch.equal(fusion.fuse(maps, windows, None, (12, 15)), first)
    assert computed == [(12, 15)]
    fusion.fuse(maps.double(), windows, None, (12, 15))
    fusion.fuse(maps[:2], windows[:2], None, (12, 15))
    assert len(computed) == 3


def test_threads_share_it(cache):
    cache.most = 3
    sizes = [(10 + i, 12) for i in range(6)]
    maps = seeded(0, 1, 3, 3)
    expected = [fusion.fuse(maps, windows_of(size), None, size) for size in sizes]

    def work(start):
        return all(
            torch.equal(fusion.fuse(maps, windows_of(sizes[i % 6]), None, sizes[i % 6]), expected[i % 6])
            for i in range(start, start + 200)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert len(cache) <= 3
    assert cache.nbytes == sum(fusion._nbytes(one) for one in cache._kept.values())
