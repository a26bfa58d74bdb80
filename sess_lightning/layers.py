"""Find the layer that a class activation map reads, and turn what it gives into `(N, C, h, w)`."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sess_lightning.logits import read_logits
from sess_lightning.pixels import Size

log = logging.getLogger(__name__)

Reshape = Callable[[Tensor], Tensor]

# Layers that only pass on, pool or rearrange: the map worth explaining is the one before them.
_POOLING = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.FractionalMaxPool2d)
_PASSING = (nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten, nn.LayerNorm, nn.Upsample)
_PREFIX_TOKENS = range(9)  # class token, distillation token, up to 8 registers
_SMALLEST_GRID = 4


@dataclass
class _Call:
    """One call of a module during the forward pass of a real batch."""

    name: str
    module: nn.Module
    output: Tensor
    children_called: bool
    unchanged: bool  # whether the output is the very tensor that went in


def find_target_layer(model: nn.Module, images: Tensor) -> str:
    """Name of the last module before pooling or classifier whose output is a spatial map, on a real batch.

    Where several modules give the same map, the outermost counts that is not the whole trunk (`layer4` rather than
    `layer4.2.relu`, `features.18` rather than `features`). Not taken are pooling layers, whatever lies behind them, and
    maps of class logits. In a transformer it is the norm before the last attention, as behind it only the class token
    counts.

    Args:
        model: run once under the caller's probe.
        images: `(N, C, H, W)`, at least one.

    Raises:
        ValueError: if no module gives a spatial map.
    """
    calls, num_classes = _trace(model, images[:2])  # two, as some models drop a batch of one
    size = (images.shape[-2], images.shape[-1])
    call = _token_norm(calls, size) or _last_map(calls, size, num_classes)
    if call is None:
        raise ValueError(
            f"Found no layer with a spatial map larger than 1 x 1 for images of {size[0]} x {size[1]} pixels. "
            "Pass target_layer= (a dotted name or a module), and reshape= if it gives tokens."
        )
    grid = tuple(to_grid(call.output, size).shape[-2:])
    log.info("Explaining layer %r (%s), grid %d x %d", call.name, type(call.module).__name__, *grid)
    if min(grid) < _SMALLEST_GRID:
        log.warning(
            "The layer %r gives a grid of only %d x %d for images of %d x %d pixels: maps will be coarse. Pass "
            "target_layer= "
            "to choose an earlier one.", call.name, *grid, *size
        )  # fmt: skip
    return call.name


def get_layer(model: nn.Module, layer: str | nn.Module) -> str:
    """Name of a layer given by dotted name or as a module of `model`.

    Raises:
        ValueError: if the model has no such layer; lists the nearest names.
    """
    modules = dict(model.named_modules())
    if isinstance(layer, nn.Module):
        for name, module in modules.items():
            if module is layer:
                return name
        raise ValueError(
            f"Expected argument `target_layer` to be a module of the model that is explained, but this "
            f"{type(layer).__name__} is none of its {len(modules)}. Pass its dotted name, e.g. {_example(modules)!r}."
        )
    if layer in modules and layer:
        return layer
    near = difflib.get_close_matches(layer, modules, n=5, cutoff=0.3) or [_example(modules)]
    endings = [name for name in modules if name.endswith(f".{layer}")]
    raise ValueError(
        f"Expected argument `target_layer` to name a layer of {type(model).__name__}, but got {layer!r}. "
        f"Nearest names: {', '.join(dict.fromkeys(endings + near))}."
    )


def to_grid(activation: Tensor, image: Size, reshape: Reshape | None = None) -> Tensor:
    """An activation as `(N, C, h, w)`: maps as they are, channels-last maps turned, tokens laid on their grid.

    Args:
        activation: `(N, C, h, w)`, `(N, h, w, C)` or `(N, T, C)`.
        image: height and width of the input, which tell the grid's aspect.
        reshape: used instead of all that, if given.

    Raises:
        ValueError: if the shape fits no grid.
    """
    grid = reshape(activation) if reshape is not None else _guess_grid(activation, image)
    if grid is None or grid.ndim != 4:
        seen = tuple(activation.shape if grid is None else grid.shape)
        raise ValueError(
            "Expected the target layer to give a map (N, C, h, w), (N, h, w, C) or tokens (N, T, C), but got "
            f"{seen} for an "
            f"image of {image[0]} x {image[1]} pixels. Pass reshape=, e.g. tokens_to_grid(height, width)."
        )
    return grid


def tokens_to_grid(height: int, width: int, prefix_tokens: int | None = None) -> Reshape:
    """A `reshape` for transformers: `(N, T, C)` tokens to `(N, C, height, width)`, tokens before the grid dropped.

    Args:
        height: rows of the grid.
        width: columns of the grid.
        prefix_tokens: class and register tokens at the front; `None` drops all tokens that are too many.

    Example:
        >>> import torch
        >>> tokens_to_grid(2, 3)(torch.zeros(1, 7, 16)).shape
        torch.Size([1, 16, 2, 3])
    """
    return _TokensToGrid(height, width, prefix_tokens)


@dataclass(frozen=True)
class _TokensToGrid:  # a class, as a nested function could not be pickled
    height: int
    width: int
    prefix_tokens: int | None

    def __call__(self, tokens: Tensor) -> Tensor:
        count = self.height * self.width
        prefix = tokens.shape[1] - count if self.prefix_tokens is None else self.prefix_tokens
        if prefix < 0 or tokens.shape[1] - prefix != count:
            raise ValueError(
                f"Expected {count} tokens for a grid of {self.height} x {self.width} behind {max(prefix, 0)} "
                "prefix tokens, "
                f"but the layer gives {tokens.shape[1]}. Change height, width or prefix_tokens of tokens_to_grid."
            )
        return tokens[:, prefix:].transpose(1, 2).unflatten(2, (self.height, self.width))


def _trace(model: nn.Module, images: Tensor) -> tuple[list[_Call], int | None]:
    """Every module call of one forward pass, in order of completion, and the number of logits."""
    calls: list[_Call] = []
    starts: dict[nn.Module, int] = {}

    def on_start(module: nn.Module, args: Any) -> None:
        starts[module] = len(calls)

    with ExitStack() as stack:
        for name, module in model.named_modules():

            def on_end(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
                tensor = output[0] if isinstance(output, tuple) and output else output
                if isinstance(tensor, Tensor):
                    unchanged = any(tensor is given for given in args)
                    calls.append(_Call(name, module, tensor, len(calls) > starts.get(module, len(calls)), unchanged))

            if name and not isinstance(module, torch.jit.ScriptModule):  # which takes no hook
                stack.callback(module.register_forward_pre_hook(on_start).remove)
                stack.callback(module.register_forward_hook(on_end).remove)
        output = model(images)
    try:
        num_classes = read_logits(output, len(images)).shape[1]
    except (TypeError, ValueError):
        num_classes = None  # logits_fn may read them elsewhere; only the exclusion of class maps needs this
    return calls, num_classes


def _last_map(calls: list[_Call], image: Size, num_classes: int | None) -> _Call | None:
    passed_on = _passed_on(calls)
    linear_behind = False
    last: Tensor | None = None
    for call in reversed(calls):
        linear_behind = linear_behind or isinstance(call.module, nn.Linear)
        grid = _guess_grid(call.output, image) if call.output.ndim == 4 else None
        if grid is None or grid.shape[-1] * grid.shape[-2] == 1 or id(call.output) in passed_on:
            continue
        if linear_behind or grid.shape[1] != num_classes:  # else a map of class logits
            last = call.output
            break
    if last is None:
        return None
    same = [call for call in calls if call.output is last and not isinstance(call.module, _PASSING)]
    first_leaf = next(call.name for call in calls if not call.children_called)
    parts = [call for call in same if not first_leaf.startswith(f"{call.name}.")]
    return min(reversed(parts or same), key=lambda call: call.name.count("."))


def _passed_on(calls: list[_Call]) -> set[int]:
    """Outputs that a layer only pooled, rearranged or passed on, unless it gave the very tensor that it got."""
    seen: set[int] = set()
    passed_on = set()
    for call in calls:
        if not call.unchanged and (isinstance(call.module, _POOLING + _PASSING) or _is_permute(call.module)):
            passed_on |= {id(call.output)} - seen
        seen.add(id(call.output))
    return passed_on


def _token_norm(calls: list[_Call], image: Size) -> _Call | None:
    """The norm before the last attention, if the model works on a sequence of tokens to its end."""
    attention = [i for i, call in enumerate(calls) if "attention" in type(call.module).__name__.lower()]
    if not attention or calls[attention[-1]].output.ndim != 3:
        return None
    if any(call.output.ndim == 4 and _guess_grid(call.output, image) is not None for call in calls[attention[-1] :]):
        return None  # attention in windows, or to be followed by convolutions: there is a map
    for call in reversed(calls[: attention[-1]]):
        if isinstance(call.module, nn.LayerNorm) and call.output.ndim == 3:
            return call if _guess_grid(call.output, image) is not None else None
    return None


def _guess_grid(activation: Tensor, image: Size) -> Tensor | None:
    if activation.ndim == 4:
        if _is_grid(activation.shape[2:], image):
            return activation
        if _is_grid(activation.shape[1:3], image):
            return activation.permute(0, 3, 1, 2)
    if activation.ndim == 3:
        for fits in (_is_even_grid, _is_grid):
            for prefix in _PREFIX_TOKENS:
                count = activation.shape[1] - prefix
                rows = round(math.sqrt(max(count, 0) * image[0] / image[1]))
                if rows > 0 and count > 1 and count % rows == 0 and fits((rows, count // rows), image):
                    return tokens_to_grid(rows, count // rows, prefix)(activation)
    return None


def _is_even_grid(grid: Size, image: Size) -> bool:
    """Whether a grid is the image cut into equal squares, as patch embeddings do."""
    return image[0] % grid[0] == 0 and image[1] % grid[1] == 0 and image[0] * grid[1] == image[1] * grid[0]


def _is_grid(grid: Any, image: Size) -> bool:
    """Whether a grid is the image at some stride: no larger, and of its aspect up to rounding."""
    rows, columns = int(grid[0]), int(grid[1])
    if rows > image[0] or columns > image[1]:
        return False
    stride = math.sqrt(image[0] * image[1] / (rows * columns))
    return abs(image[0] / stride - rows) <= 1 and abs(image[1] / stride - columns) <= 1


def _is_permute(module: nn.Module) -> bool:
    return type(module).__name__ == "Permute"  # torchvision.ops.misc.Permute and look-alikes


def _example(modules: dict[str, nn.Module]) -> str:
    return [name for name in modules if name][-1] if len(modules) > 1 else ""
