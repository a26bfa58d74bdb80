"""Find the layer that a class activation map reads."""

from __future__ import annotations

import difflib
import logging
from dataclasses import replace

from torch import Tensor, nn

from sess_lightning.layers.grids import GridBook, Reshape, TokensToGrid
from sess_lightning.layers.trace import Call, Trace, trace

log = logging.getLogger(__name__)

# Layers that only pass on, pool or rearrange: the map worth explaining is the one before them.
_PASSING = (
    nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d, nn.FractionalMaxPool2d,
    nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten, nn.Upsample,
)  # fmt: skip
_SMALLEST_GRID = 4


def find_target_layer(model: nn.Module, images: Tensor) -> str:
    """Name of the last layer whose output is a map or tokens on a grid, and that all evidence passes through.

    One forward and one backward pass of real images tell. Candidates are outputs of modules on a grid at which the
    gradient of the logits is not zero everywhere; of tokens, at those of the picture. Taken is the last that every path
    from the images to the logits passes through: a block, not a branch within it, which a shortcut passes by. Where a
    block's norm is the last to carry gradient at the picture's tokens, as behind it only the class token counts, it is
    that norm. Not taken are attention matrices, latents, poolings, whatever only rearranges, and maps of class logits.

    Where several modules give the same map, the outermost counts that is not the whole trunk (`layer4` rather than
    `layer4.2.relu`, `features.18` rather than `features`).

    Args:
        model: run once or twice under the caller's probe.
        images: `(N, C, H, W)`, at least one.

    Raises:
        ValueError: if no module gives a spatial map, or no gradient reaches one.
    """
    return locate(model, images)[0]


def locate(model: nn.Module, images: Tensor) -> tuple[str, Reshape | None]:
    """As `find_target_layer`: the name, and what lays the layer's output on its grid, for images of this size."""
    search = _Search(trace(model, images))
    call = search.best()
    if call is None:  # zero weights or a black image
        search = _Search(trace(model, images, structure_only=True))
        call = search.best()
    if call is None and any(one.gradients for one in search.trace.calls):
        # Connected, yet every gradient is 0: a network that ignores its images has a constant map, not an error.
        search = _Search(replace(search.trace, differentiable=False))
        call = search.best()
    if call is None:
        raise ValueError(search.why_none())
    reshape = search.book.reshape_of(call)
    grid = (call.output if reshape is None else reshape(call.output)).shape[-2:]
    log.info("Explaining layer %r (%s), grid %d x %d", call.name, type(call.module).__name__, *grid)
    if search.is_early(call):
        log.warning(
            "The layer %r is the last whose output lies on a grid and is all that the logits depend on, but it comes "
            "early in %s: most layers follow. Its maps show little of what the network has learned. Pass "
            "target_layer= to choose another one.", call.name, type(model).__name__
        )  # fmt: skip
    if min(grid) < _SMALLEST_GRID:
        log.warning(
            "The layer %r gives a grid of only %d x %d for images of %d x %d pixels: maps will be coarse. Pass "
            "target_layer= to choose an earlier one.", call.name, *grid, *search.trace.size
        )  # fmt: skip
    return call.name, reshape


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


def find_reshape(model: nn.Module, images: Tensor, layer: str) -> Reshape | None:
    """What lays a layer's output on its grid, for images of this size; `None` where the forward pass does not show it.

    Args:
        model: run once under the caller's probe.
        images: `(N, C, H, W)`, at least one.
        layer: name of a layer.
    """
    traced = trace(model, images)
    calls = [call for call in traced.calls if call.name == layer]
    return GridBook(traced).reshape_of(calls[-1]) if calls else None


class _Search:
    """The candidates of one trace, and which of them to take."""

    def __init__(self, traced: Trace) -> None:
        self.trace, self.book = traced, GridBook(traced)
        self._passing = self._passing_outputs()
        # Of several calls of a module, methods read the last.
        last = {call.name: number for number, call in enumerate(traced.calls)}
        self._candidates = [
            n for n, call in enumerate(traced.calls)
            if last[call.name] == n and not call.unchanged and self._on_grid(call) and self._carries(call)
        ]  # fmt: skip

    def best(self) -> Call | None:
        """The layer to take, or `None` if no candidate carries any gradient."""
        calls, numbers = self.trace.calls, [n for n in self._candidates if not self._is_part(n)]
        cuts = [n for n in numbers if self._is_cut(calls[n]) or self._is_norm_of_block(n)]
        chosen = calls[self._before_class_token(cuts)] if cuts else None
        if chosen is None or self.is_early(chosen):
            # Branches side by side up to the head: the last block of the last branch.
            behind = [n for n in numbers if (not cuts or n > cuts[-1]) and self.trace.has_parts(n)]
            chosen = calls[behind[-1]] if behind else chosen
        if chosen is None and self._candidates:
            others = [n for n in self._candidates if not self._is_projection(n)]
            chosen = calls[(others or self._candidates)[-1]]
        return None if chosen is None else self._outermost(chosen)

    def _before_class_token(self, cuts: list[int]) -> int:
        """The last cut, or the first norm of its block if the class token holds a part of the evidence by then."""
        calls, last = self.trace.calls, cuts[-1]
        if not self._in_prefix(calls[last]):
            return last
        block = next(n for n, call in enumerate(calls) if call.output is calls[last].output and not call.unchanged)
        norms = [n for n in cuts if calls[block].first <= n < block and self._is_norm_of_block(n)]
        return norms[0] if norms else last

    def _in_prefix(self, call: Call) -> bool:
        """Whether tokens beside the picture's carry gradient."""
        reshape = self.book.reshape_of(call)
        if not isinstance(reshape, TokensToGrid) or not call.gradients or call.gradients[0].is_meta:
            return False
        return bool(reshape.prefix(call.gradients[0][..., None]).any())

    def is_early(self, call: Call) -> bool:
        """Whether more than half of the layers that carry gradient on tokens or maps come behind."""
        begun = self.trace.calls.index(call)
        weighted = [
            n for n, one in enumerate(self.trace.calls)
            if not self.trace.has_parts(n) and one.output.ndim > 2 and _has_weights(one.module) and self._carries(one)
            and not self._is_class_map(n)
        ]  # fmt: skip
        return sum(n > begun for n in weighted) > len(weighted) / 2

    def why_none(self) -> str:
        """The message where nothing was found."""
        size = "{} x {} pixels".format(*self.trace.size)
        way_out = "Pass target_layer= (a dotted name or a module), and reshape= if it gives tokens."
        maps = [call.name for call in self.trace.calls if self._on_grid(call)]
        if maps:
            return (
                f"Found no layer with a spatial map that the logits depend on, for images of {size}: no gradient "
                f"reaches {maps[-1]!r} or any other map. Does the model detach, or run its trunk in inference mode? "
                f"{way_out}"
            )
        return f"Found no layer with a spatial map larger than 1 x 1 for images of {size}. {way_out}"

    def _on_grid(self, call: Call) -> bool:
        reshape = self.book.reshape_of(call)
        if reshape is None:
            return False
        grid = reshape(call.output)
        return grid.shape[-1] * grid.shape[-2] > 1

    def _carries(self, call: Call) -> bool:
        """Whether the logits' gradient is not zero everywhere: of tokens on a grid, at those of the picture."""
        if not self.trace.differentiable:
            return True
        if not call.gradients or call.gradients[0].is_meta:  # no values there: a path in the graph decides
            return bool(call.gradients)
        carried = call.gradients[0]
        reshape = self.book.reshape_of(call) if carried.ndim else None
        return bool((reshape(carried[..., None]) if reshape is not None else carried).any())

    def _is_cut(self, call: Call) -> bool:
        return not self.trace.differentiable or call.node in self.trace.cuts

    def _is_norm_of_block(self, number: int) -> bool:
        """Whether a call is the norm at the start of a block whose shortcut passes it by."""
        call = self.trace.calls[number]
        at_start = call.source_node in self.trace.cuts and call.node not in self.trace.cuts
        return call.output.ndim == 3 and self._is_norm(number) and at_start

    def _is_norm(self, number: int) -> bool:
        call = self.trace.calls[number]
        if self.trace.has_parts(number) or call.source is None or call.source.shape != call.output.shape:
            return False
        shapes = [p.ndim for p in call.module.parameters()]
        return isinstance(call.module, (nn.LayerNorm, nn.RMSNorm)) or (bool(shapes) and max(shapes) == 1)

    def _is_part(self, number: int) -> bool:
        """Whether a candidate is no block: passed on or pooled, a projection of tokens, or a map of class logits."""
        call = self.trace.calls[number]
        return id(call.output) in self._passing or self._is_projection(number) or self._is_class_map(number)

    def _is_projection(self, number: int) -> bool:
        """Whether a call is one linear layer on tokens, as within an attention."""
        call = self.trace.calls[number]
        return call.output.ndim == 3 and not self.trace.has_parts(number) and _has_weights(call.module)

    def _is_class_map(self, number: int) -> bool:
        """Whether an output has a channel for each class, with nothing behind it that has weights."""
        call = self.trace.calls[number]
        reshape = self.book.reshape_of(call)
        if reshape is None or reshape(call.output).shape[1] != self.trace.num_classes:
            return False
        behind = self.trace.calls[number + 1 :]
        return not any(_has_weights(one.module) and one.first > number and one.node is not None for one in behind)

    def _passing_outputs(self) -> set[int]:
        """Outputs that a layer only pooled, rearranged or passed on, unless it gave the very tensor that it got."""
        seen: set[int] = set()
        passing: set[int] = set()
        for number, call in enumerate(self.trace.calls):
            if not call.unchanged and self._passes_on(number):
                passing |= {id(call.output)} - seen
            seen.add(id(call.output))
        return passing

    def _passes_on(self, number: int) -> bool:
        call = self.trace.calls[number]
        if self._is_norm(number) and (call.output.ndim == 3 or isinstance(call.module, nn.LayerNorm)):
            # The final norm, if what it reads can be had; not one at the start of a block.
            given = any(one.output is call.source for one in self.trace.calls[: call.first])
            return given and not self._is_norm_of_block(number)
        reshaped = call.source is not None and call.source.shape != call.output.shape
        return isinstance(call.module, _PASSING) or (reshaped and next(call.module.parameters(), None) is None)

    def _outermost(self, chosen: Call) -> Call:
        """Of the calls that gave this output, the outermost that is not the whole trunk."""
        calls = self.trace.calls
        same = [
            call for call in calls
            if call.output is chosen.output and not call.unchanged and not isinstance(call.module, _PASSING)
        ]  # fmt: skip
        first_leaf = next(call.name for number, call in enumerate(calls) if not self.trace.has_parts(number))
        parts = [call for call in same if not first_leaf.startswith(f"{call.name}.")]
        return min(reversed(parts or same or [chosen]), key=lambda call: call.name.count("."))


def _has_weights(module: nn.Module) -> bool:
    return any(p.ndim > 1 for p in module.parameters())


def _example(modules: dict[str, nn.Module]) -> str:
    return [name for name in modules if name][-1] if len(modules) > 1 else ""
