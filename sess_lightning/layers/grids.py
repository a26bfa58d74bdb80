"""What a layer gives as maps `(N, C, h, w)`: maps as they are, channels-last maps turned, tokens laid on their grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sess_lightning.layers.trace import Call, Trace
from sess_lightning.pixels import Size

Reshape = Callable[[Tensor], Tensor]

_MOST_PREFIX_TOKENS = 16  # class token, distillation token, registers
_GUESSED_PREFIX_TOKENS = range(9)


def to_grid(activation: Tensor, image: Size, reshape: Reshape | None = None) -> Tensor:
    """An activation as `(N, C, h, w)`: maps as they are, channels-last maps turned, tokens laid on their grid.

    Args:
        activation: `(N, C, h, w)`, `(N, h, w, C)` or `(N, T, C)`.
        image: height and width of the input. Its aspect tells channels-last maps from others and the grid of tokens;
            maps of another aspect are taken as `(N, C, h, w)`.
        reshape: used instead of all that, if given.

    Raises:
        ValueError: if the shape fits no grid.
    """
    if reshape is not None:
        grid: Tensor | None = reshape(activation)
    elif activation.ndim == 4:
        grid = activation.permute(0, 3, 1, 2) if _axes_of_map(activation.shape, image) == (1, 2) else activation
    else:
        grid = _tokens_by_aspect(activation, image) if activation.ndim == 3 else None
    if grid is None or grid.ndim != 4:
        seen = tuple(activation.shape if grid is None else grid.shape)
        raise ValueError(
            "Expected the target layer to give a map (N, C, h, w), (N, h, w, C) or tokens (N, T, C), but got "
            f"{seen} for an image of {image[0]} x {image[1]} pixels. Pass reshape=, e.g. tokens_to_grid(height, width)."
        )
    return grid


def is_map(activation: Tensor, image: Size) -> bool:
    """Whether an activation is `(N, C, h, w)` or `(N, h, w, C)` of the image's aspect, so that its shape says all."""
    return activation.ndim == 4 and _axes_of_map(activation.shape, image) is not None


def tokens_to_grid(height: int, width: int, prefix_tokens: int | None = None, sequence_first: bool = False) -> Reshape:
    """A `reshape` for transformers: `(N, T, C)` tokens to `(N, C, height, width)`, tokens before the grid dropped.

    Args:
        height: rows of the grid.
        width: columns of the grid.
        prefix_tokens: class and register tokens at the front; `None` drops all tokens that are too many.
        sequence_first: whether tokens come as `(T, N, C)`.

    Example:
        >>> import torch
        >>> tokens_to_grid(2, 3)(torch.zeros(1, 7, 16)).shape
        torch.Size([1, 16, 2, 3])
    """
    return TokensToGrid(height, width, prefix_tokens, sequence_first)


@dataclass(frozen=True)
class TokensToGrid:
    """What `tokens_to_grid` gives: a class, as a nested function could not be pickled."""

    height: int
    width: int
    prefix_tokens: int | None
    sequence_first: bool = False

    def __call__(self, tokens: Tensor) -> Tensor:
        """Lay tokens on the grid.

        Raises:
            ValueError: if there are too few or too many.
        """
        tokens = self._batch_first(tokens)
        count = self.height * self.width
        prefix = self._num_prefix(tokens)
        if prefix < 0 or tokens.shape[1] - prefix != count:
            raise ValueError(
                f"Expected {count} tokens for a grid of {self.height} x {self.width} behind {max(prefix, 0)} "
                f"prefix tokens, but the layer gives {tokens.shape[1]}. Change height, width or prefix_tokens of "
                "tokens_to_grid."
            )
        return tokens[:, prefix:].transpose(1, 2).unflatten(2, (self.height, self.width))

    def prefix(self, tokens: Tensor) -> Tensor:
        """The tokens `(N, P, C)` before the grid."""
        tokens = self._batch_first(tokens)
        return tokens[:, : self._num_prefix(tokens)]

    def _batch_first(self, tokens: Tensor) -> Tensor:
        return tokens.transpose(0, 1) if self.sequence_first else tokens

    def _num_prefix(self, tokens: Tensor) -> int:
        return tokens.shape[1] - self.height * self.width if self.prefix_tokens is None else self.prefix_tokens


def maps_as_they_are(maps: Tensor) -> Tensor:
    """A `reshape` for maps `(N, C, h, w)`."""
    return maps


def channels_last(maps: Tensor) -> Tensor:
    """A `reshape` for maps `(N, h, w, C)`."""
    return maps.permute(0, 3, 1, 2)


class GridBook:
    """The grids on which a model's maps and tokens lie, as one forward pass shows them.

    A grid is known from maps, from the patches that pixels are laid out in, and from `nn.Unfold`; from there on from
    token counts that halve it, as patch merging does, if the tokens lie where the grid says (latents do not). Tokens
    beyond a known grid are class tokens and registers.

    Args:
        trace: of the model on images of the size in question.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._size, self._batch, self._cuts = trace.size, trace.batch, trace.cuts
        self._grids: list[Size] = []
        self._counts: set[int] = set()  # of tokens, whatever they are: sides of attention matrices
        self._latents: set[int] = set()  # counts of tokens that are on no grid
        self._streams: dict[Size, tuple[Tensor, Reshape]] = {}  # the last cut of the graph on each grid
        for call in trace.calls:
            if call.output.ndim == 3:
                self._counts.add(self._count(call.output))
            if call.node is not None:
                self._learn(call)

    def reshape_of(self, call: Call) -> Reshape | None:
        """What lays an output on its grid, for any number of images of this size; `None` if it is no map or token."""
        if call.output.ndim == 4:
            return self._map(call)
        return self._tokens(call.output) if call.output.ndim == 3 else None

    def _map(self, call: Call) -> Reshape | None:
        shape = call.output.shape
        if shape[0] != self._batch or self._is_attention(call):
            return None
        axes = _axes_of_map(shape, self._size)
        if axes is None:  # of another aspect than the image: the model has resized it, or strides differ
            axes = next((a for a in ((2, 3), (1, 2)) if (shape[a[0]], shape[a[1]]) in self._grids), None)
        return None if axes is None else maps_as_they_are if axes == (2, 3) else channels_last

    def _is_attention(self, call: Call) -> bool:
        """Whether a 4-D output holds a weight for each pair of tokens: the values that it weighs go past it."""
        output, counts = call.output, self._counts
        if call.node in self._cuts:
            return False
        if any(output.shape[a] in counts and output.shape[b] in counts for a, b in ((2, 3), (1, 2))):
            return True
        if output.is_meta or not output.is_floating_point():
            return False
        sums = output.detach().float().sum(-1)
        return bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)

    def _count(self, tokens: Tensor) -> int:
        """Number of tokens in `(N, T, C)` or `(T, N, C)`; images may be cut into several windows."""
        return tokens.shape[0 if self._is_sequence_first(tokens) else 1]

    def _is_sequence_first(self, tokens: Tensor) -> bool:
        return tokens.shape[1] == self._batch != tokens.shape[0]

    def _tokens(self, output: Tensor) -> Reshape | None:
        if self._batch not in output.shape[:2]:
            return None
        count = self._count(output)
        fits = [grid for grid in self._grids if 0 <= count - grid[0] * grid[1] <= _MOST_PREFIX_TOKENS]
        if not fits:
            return None
        height, width = max(fits, key=lambda grid: grid[0] * grid[1])
        return TokensToGrid(height, width, count - height * width, self._is_sequence_first(output))

    def _learn(self, call: Call) -> None:
        """Add the grids that a call shows."""
        output, module, source = call.output, call.module, call.source
        if isinstance(module, nn.Unfold) and source is not None and source.ndim == 4:
            self._add([_unfolded(module, source)])
        if output.ndim == 4 and (isinstance(module, nn.Conv2d) or output.shape[0] == self._batch):
            axes = (2, 3) if isinstance(module, nn.Conv2d) else _axes_of_map(output.shape, self._size)
            if axes is not None and not self._is_attention(call):
                self._add([(output.shape[axes[0]], output.shape[axes[1]])])
        for tensor in (source, output):
            if tensor is not None and tensor.ndim == 3 and tensor.shape[0] == self._batch:
                self._add(_pixel_patches(tensor.shape[1], tensor.shape[2], self._trace.channels, self._size))
        if output.ndim == 3 and self._batch in output.shape[:2] and self._tokens(output) is None:
            self._learn_tokens(output)
        reshape = self.reshape_of(call) if call.node in self._cuts else None
        if reshape is not None:
            self._streams[_size(reshape(output))] = (output, reshape)

    def _learn_tokens(self, tokens: Tensor) -> None:
        """Add the grid of tokens of a count that is new."""
        count = self._count(tokens)
        if not self._grids:  # patches were cut by functions that no hook sees: the first tokens are the patches
            self._add(_grids_by_aspect(count, self._size))
        elif count not in self._latents:
            batch_first = tokens.transpose(0, 1) if self._is_sequence_first(tokens) else tokens
            for whole, half in _halves(self._grids):
                if half[0] * half[1] != count or whole not in self._streams:
                    continue
                if self._trace.is_local(batch_first, *self._streams[whole]):
                    return self._add([half])
            self._latents.add(count)
        return None

    def _add(self, grids: Iterable[Size]) -> None:
        self._grids += [grid for grid in grids if grid not in self._grids and grid[0] * grid[1] > 1]


def _unfolded(module: nn.Unfold, source: Tensor) -> Size:
    """Rows and columns of the patches that an `nn.Unfold` cuts."""

    def pair(value: Any) -> Size:
        return (value, value) if isinstance(value, int) else (value[0], value[1])

    kernel, dilation, padding, stride = map(pair, (module.kernel_size, module.dilation, module.padding, module.stride))
    rows, columns = (
        (source.shape[2 + a] + 2 * padding[a] - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1 for a in (0, 1)
    )
    return rows, columns


def _pixel_patches(count: int, width: int, channels: int, image: Size) -> list[Size]:
    """The grid of `count` tokens that hold the pixels of square patches; the image may have been padded or cropped."""
    side = math.isqrt(width // channels)
    if width != channels * side * side:
        return []
    floor, ceil = (image[0] // side, image[1] // side), (-(-image[0] // side), -(-image[1] // side))
    return [grid for grid in (floor, ceil) if grid[0] * grid[1] == count][:1]


def _halves(grids: list[Size]) -> list[tuple[Size, Size]]:
    """Grids and what they are at half the resolution, rounded up or down; latest first."""
    up = [((rows, columns), (-(-rows // 2), -(-columns // 2))) for rows, columns in reversed(grids)]
    return up + [((rows, columns), (rows // 2, columns // 2)) for rows, columns in reversed(grids)]


def _size(maps: Tensor) -> Size:
    return maps.shape[-2], maps.shape[-1]


def _axes_of_map(shape: torch.Size, image: Size) -> tuple[int, int] | None:
    """Which axes of a 4-D shape have the image's aspect: (2, 3), or (1, 2) where channels come last."""
    return next((a for a in ((2, 3), (1, 2)) if _is_grid((shape[a[0]], shape[a[1]]), image)), None)


def _tokens_by_aspect(activation: Tensor, image: Size) -> Tensor | None:
    for fits in (_is_even_grid, _is_grid):
        for prefix in _GUESSED_PREFIX_TOKENS:
            for grid in _grids_by_aspect(activation.shape[1] - prefix, image, fits):
                return TokensToGrid(*grid, prefix)(activation)
    return None


def _grids_by_aspect(count: int, image: Size, fits: Callable[[Size, Size], bool] | None = None) -> list[Size]:
    """The grid of `count` cells in the aspect of the image, if there is one."""
    rows = round(math.sqrt(max(count, 0) * image[0] / image[1]))
    grid = (rows, count // rows) if rows > 0 and count > 1 and count % rows == 0 else None
    return [grid] if grid is not None and (fits or _is_grid)(grid, image) else []


def _is_even_grid(grid: Size, image: Size) -> bool:
    """Whether a grid is the image cut into equal squares, as patch embeddings do."""
    return image[0] % grid[0] == 0 and image[1] % grid[1] == 0 and image[0] * grid[1] == image[1] * grid[0]


def _is_grid(grid: Size, image: Size) -> bool:
    """Whether a grid is the image at some stride: no larger, and of its aspect up to rounding."""
    rows, columns = int(grid[0]), int(grid[1])
    if rows > image[0] or columns > image[1]:
        return False
    stride = math.sqrt(image[0] * image[1] / (rows * columns))
    return abs(image[0] / stride - rows) <= 1 and abs(image[1] / stride - columns) <= 1
