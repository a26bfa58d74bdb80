"""Calibration, score weights, Eq. 2, min-max and smoothing (Algorithm 1, lines 14-16): pure tensors.

A patch map becomes a piece of the image's map by two gathers and two lerps per axis. No canvas per patch is made, and
no matrix product, which reduced-precision hardware would blur. Positions come from whole numbers and weights from
float64: with rounding, values that should be exactly 0 at the edge of a patch become tiny positives and count in the
denominator of Eq. 2.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import groupby
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sess_lightning.pixels import SMOOTHING, Size, gaussian_blur, source_pixels
from sess_lightning.sess.windows import Window

POOLS = ("mean", "plain_mean", "max")
# Patches that are brought to the image together, and pixels of the image that they touch: their maps stay in the cache,
# and the memory does not grow with their number. In a large photo it is one patch of the lowest scale.
_CHUNK, _CHUNK_PIXELS = 16, 2**22
# Geometry that is kept for images of the same size, on their device: 15 sizes of 2048 pixels, 64 of 375 x 500.
# Computing it anew costs less than a forward pass.
_KEPT_BYTES, _KEPT = 2**26, 256


def smooth(maps: Tensor) -> Tensor:
    """The paper's smoothing of `(..., H, W)`: Gaussian of 11 pixels, sigma 5 (Sec. 3)."""
    return gaussian_blur(maps, *SMOOTHING)


class _Taps(NamedTuple):
    """How the pixels of an image along one axis are sampled from the windows of one scaled image."""

    first: Tensor  # (K,) long: first pixel of the image that window k may touch
    indices: Tensor  # (2, K, n) long: the two neighbouring window pixels, clamped
    weights: Tensor  # (2, K, n) float: their weights, 0 where the neighbour lies outside the window


def _axis_taps(length: int, scaled: int, starts: Tensor, window: int, like: Tensor) -> _Taps:
    """Bilinear sampling with half-pixel centres, as if every window were pasted on zeros of the scaled size."""
    low, fraction = source_pixels(torch.arange(length), length, scaled)
    # Pixels whose two neighbours can reach into the window: searchsorted instead of a mask over the whole axis.
    first = torch.searchsorted(low, starts - 1)
    last = torch.searchsorted(low, starts + window)
    count = int((last - first).max())
    first = first.clamp(max=length - count)
    pixels = first[:, None] + torch.arange(count)
    tap = torch.stack([low[pixels], low[pixels] + 1]) - starts[:, None]
    weight = torch.stack([1 - fraction[pixels], fraction[pixels]])
    weight = torch.where((tap >= 0) & (tap < window), weight, 0)
    return _Taps(first, tap.clamp(0, window - 1).to(like.device), weight.to(like))


class _Chunk(NamedTuple):
    """Some windows of one scale with everything that bringing their maps to the image needs."""

    patches: slice
    rows: _Taps
    columns: _Taps

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for taps in (self.rows, self.columns) for tensor in taps)


_Geometry = tuple[_Chunk, ...]
_Key = tuple[Size, tuple[Window, ...], torch.device, torch.dtype]


class _Geometries:
    """The geometries that were used last, for all threads, of so many bytes and so many of them at most."""

    def __init__(self, most_bytes: int, most: int) -> None:
        self.most_bytes, self.most = most_bytes, most
        self.nbytes = 0
        self._kept: OrderedDict[_Key, _Geometry] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, key: _Key) -> _Geometry:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = _geometry(*key)
        nbytes = _nbytes(found)
        with self._lock:
            if key not in self._kept and nbytes <= self.most_bytes:
                self._kept[key] = found
                self.nbytes += nbytes
            while self.nbytes > self.most_bytes or len(self) > self.most:
                self.nbytes -= _nbytes(self._kept.popitem(last=False)[1])
        return found


def _nbytes(geometry: _Geometry) -> int:
    return sum(chunk.nbytes for chunk in geometry)


_geometries = _Geometries(_KEPT_BYTES, _KEPT)


def _geometry(size: Size, windows: tuple[Window, ...], device: torch.device, dtype: torch.dtype) -> _Geometry:
    like = torch.empty(0, device=device, dtype=dtype)
    chunks, done = [], 0
    for (scaled_h, scaled_w), group in groupby(windows, key=lambda w: (w.scaled_h, w.scaled_w)):
        same_scale = list(group)
        window = same_scale[0]
        touched = size[0] * size[1] * (window.y2 - window.y1) * (window.x2 - window.x1) // (scaled_h * scaled_w)
        count = max(1, min(_CHUNK, _CHUNK_PIXELS // max(1, touched)))
        for begin in range(0, len(same_scale), count):
            part = same_scale[begin : begin + count]
            first = part[0]
            rows = _axis_taps(size[0], scaled_h, torch.tensor([w.y1 for w in part]), first.y2 - first.y1, like)
            columns = _axis_taps(size[1], scaled_w, torch.tensor([w.x1 for w in part]), first.x2 - first.x1, like)
            chunks.append(_Chunk(slice(done, done + len(part)), rows, columns))
            done += len(part)
    return tuple(chunks)


def _sampled(maps: Tensor, rows: _Taps, columns: _Taps) -> Tensor:
    """Sample `(K, h, w)` at the rows and columns of the taps: `(K, n, m)`."""
    count, height, width = maps.shape
    lines = maps.reshape(count * height, width)
    start = torch.arange(0, count * height, height, device=maps.device)[:, None]
    by_row = [  # whole lines are copied, which is faster than to gather their pixels
        lines.index_select(0, (start + index).flatten()).view(*index.shape, width).mul_(weight[:, :, None])
        for index, weight in zip(rows.indices, rows.weights, strict=True)
    ]
    sampled = by_row[0].add_(by_row[1])
    by_column = [
        sampled.gather(2, index[:, None].expand(-1, sampled.shape[1], -1)).mul_(weight[:, None])
        for index, weight in zip(columns.indices, columns.weights, strict=True)
    ]
    return by_column[0].add_(by_column[1])


def _calibrated_chunks(
    maps: Tensor, windows: Sequence[Window], size: Size
) -> Iterator[tuple[slice, list[int], list[int], Tensor]]:
    """The parts of the image that the maps of some windows touch: which windows, first rows, first columns, pieces."""
    for patches, rows, columns in _geometries.of((size, tuple(windows), maps.device, maps.dtype)):
        window = windows[patches.start]
        normalised = normalised_maps(maps[patches], (window.y2 - window.y1, window.x2 - window.x1))
        yield patches, rows.first.tolist(), columns.first.tolist(), _sampled(normalised, rows, columns)


def normalised_maps(maps: Tensor, size: Size) -> Tensor:
    """Maps `(K, h, w)` brought to `size` bilinearly and min-max normalised: a base method's map as SESS uses it."""
    # Interpolation stays between the extremes: what is finite here is finite there, and zeros stay zeros.
    finite = torch.isfinite(maps.amax((-2, -1), keepdim=True) - maps.amin((-2, -1), keepdim=True))
    maps = torch.where(finite, maps, 0)
    if tuple(maps.shape[-2:]) != tuple(size):
        maps = F.interpolate(maps[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low).div_(torch.where(high > low, high - low, 1))


def fuse(
    maps: Tensor,
    windows: Sequence[Window],
    weights: Tensor | None,
    size: Size,
    pool: str = "mean",
    threshold: float = 0.0,
) -> Tensor:
    """Fuse per-patch maps into the map of the image: Eq. 1 and Eq. 2.

    Args:
        maps: `(K, h, w)` per-patch maps of any resolution.
        windows: their windows, in extraction order.
        weights: `(K,)` channel-wise weights `S^c / max S^c`, or `None` for equal weights.
        size: height and width of the image.
        pool: `"mean"` averages the values above `threshold` (Eq. 2), `"plain_mean"` divides their sum by `K`, `"max"`
            takes the largest of them.
        threshold: theta of Eq. 2, applied to the weighted map.

    Returns:
        `(H, W)`, in [0, 1] when the weights are; 0 where no value is above the threshold.
    """
    # Sum and count lie in one tensor: a patch is added by one operation, in extraction order, so the bits never change.
    canvas = maps.new_zeros((1 if pool == "max" else 2, *size))
    for patches, y, x, pieces in _calibrated_chunks(maps, windows, size):
        if weights is not None:
            pieces.mul_(weights[patches, None, None])
        above = pieces > threshold
        pieces = torch.where(above, pieces, 0)
        layers = pieces[None] if pool == "max" else torch.stack([pieces, above.to(pieces.dtype)])
        for number, (top, left) in enumerate(zip(y, x, strict=True)):
            region = canvas[:, top : top + pieces.shape[1], left : left + pieces.shape[2]]
            if pool == "max":
                torch.maximum(region, layers[:, number], out=region)
            else:
                region += layers[:, number]
    if pool == "max":
        return canvas[0]
    return canvas[0] / (canvas[1].clamp(min=1) if pool == "mean" else max(len(windows), 1))


def calibrated(maps: Tensor, windows: Sequence[Window], size: Size) -> Tensor:
    """The map of every window brought to the image, `(K, H, W)`: zero outside the window (Algorithm 1, line 14).

    Args:
        maps: `(K, h, w)` per-patch maps of any resolution: brought to the window's size bilinearly, then min-maxed.
        windows: the `K` windows, in extraction order.
        size: height and width of the image.
    """
    canvas = maps.new_zeros((len(windows), *size))
    for patches, y, x, pieces in _calibrated_chunks(maps, windows, size):
        for layer, top, left, piece in zip(canvas[patches], y, x, pieces, strict=True):
            layer[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
    return canvas
