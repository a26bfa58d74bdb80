"""One forward pass of a model, written down: what every module gives, and which of it the logits depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from sess_lightning.logits import read_logits
from sess_lightning.probing import hookable, on_this_thread

_LOCAL = 1.5  # times the gradient in the opposite quarter


@dataclass(eq=False)
class Call:
    """One call of a module.

    Attributes:
        name: of the module in the model.
        module: that was called.
        output: what it gave; the first of several.
        source: the first tensor that went in, if there is one.
        first: number of calls that had ended when it began: those behind are calls of its parts.
        node: of the autograd graph that made the output, before any later work in place; `None` where the output does
            not depend on the images.
        source_node: that made `source`, before the module worked on it in place.
        unchanged: whether the output is a tensor that went in, as it was.
        gradients: where the gradient of the logits with respect to the output is not 0: one bool tensor, `()` for maps,
            the first two axes for `(N, T, C)`; empty if no gradient came.
    """

    name: str
    module: nn.Module
    output: Tensor
    source: Tensor | None
    first: int
    node: Node | None
    source_node: Node | None
    unchanged: bool
    gradients: list[Tensor] = field(default_factory=list)


@dataclass
class Trace:
    """The calls of one forward pass of two images, in the order in which they ended.

    Attributes:
        calls: of all modules but the model itself, unless scripted.
        size: height and width of the images.
        batch: number of images.
        channels: of the images.
        num_classes: number of logits.
        cuts: nodes of the graph that every path from the logits to the images passes through.
        differentiable: whether gradients could be computed at all; where not, `gradients` says nothing.
    """

    calls: list[Call]
    size: tuple[int, int]
    batch: int
    channels: int
    num_classes: int
    cuts: set[Node]
    differentiable: bool

    def has_parts(self, number: int) -> bool:
        """Whether a call's module called others."""
        return self.calls[number].first < number

    def is_local(self, tokens: Tensor, source: Tensor, lay: Callable[[Tensor], Tensor]) -> bool:
        """Whether the first token comes from the top left of `source` and the last from the bottom right, as on a grid.

        Latents come from all of it alike. The first image is asked for the first token, the second for the last.

        Args:
            tokens: `(N, T, C)`, in the graph.
            source: what they were made of, in the graph.
            lay: lays `source` on its grid `(N, C, h, w)`.
        """
        if tokens.is_meta or not tokens.requires_grad:
            return False
        with torch.enable_grad():
            corners = torch.stack([tokens[0, 0], tokens[1, -1]])
            score = (corners * _noise(corners)).sum()
        try:
            (gradient,) = torch.autograd.grad(score, source, retain_graph=True)
        except RuntimeError:  # not made of it
            return False
        energy = lay(gradient).float().square().sum(1)
        rows, columns = energy.shape[1] // 2, energy.shape[2] // 2
        top, bottom = energy[:, :rows, :columns].mean((1, 2)), energy[:, -rows:, -columns:].mean((1, 2))
        return bool(top[0] > _LOCAL * bottom[0]) and bool(bottom[1] > _LOCAL * top[1])


def trace(model: nn.Module, images: Tensor, structure_only: bool = False) -> Trace:
    """Run a model once, forward and backward from its logits, and write down what happens.

    Parameters need no gradient meanwhile, so that a tensor is in the graph if and only if it depends on the images.
    Two images, as with one a batch axis looks like any other axis of length 1.

    Args:
        model: under a probe.
        images: `(N, C, H, W)`, at least one.
        structure_only: give noise instead of the images, and noise to weights that are all zero. A classifier that
            starts at zero, as many transformers' does, lets no gradient pass; what depends on what is seen even so.

    Raises:
        TypeError, ValueError: if the model's output holds no logits.
    """
    pair = images[[0, min(1, len(images) - 1)]].detach()
    recorder = _Recorder()
    with _frozen(model), torch.enable_grad():
        if structure_only:
            pair = _noise(pair)
        pixels = pair.clone().requires_grad_()
        with recorder.attached(model):
            given = pixels.clone()  # a model may work in place on its input
            weights = _noisy_zeros(model) if structure_only else {}
            output = torch.func.functional_call(model, weights, (given,)) if weights else model(given)
        logits = read_logits(output, len(given))
        # All classes at once, by weights that make it unlikely that they cancel out.
        score = (logits * _noise(logits[:1])).sum()
        cuts = _cuts(score.grad_fn)
        differentiable = _differentiated(score, pixels)
    size = (images.shape[-2], images.shape[-1])
    return Trace(recorder.calls, size, len(pair), images.shape[1], logits.shape[1], cuts, differentiable)


class _Recorder:
    """Writes down calls while its hooks are attached."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._begun: dict[nn.Module, tuple[int, list[tuple[Tensor, Node | None]]]] = {}

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Hooks on all modules but the model itself."""
        with ExitStack() as stack:
            names = {module: name for name, module in model.named_modules()}
            for module in hookable(model):
                if module is not model:
                    self._attach(stack, names[module], module)
            yield

    def _attach(self, stack: ExitStack, name: str, module: nn.Module) -> None:
        def on_start(module: nn.Module, args: Any, kwargs: Any) -> None:
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            self._begun[module] = len(self.calls), [(tensor, tensor.grad_fn) for tensor in given]
            torch.set_grad_enabled(True)  # also in a part that its model runs under no_grad, as methods do

        def on_end(module: nn.Module, args: Any, output: Any) -> None:
            tensor = output[0] if isinstance(output, tuple) and output else output
            if isinstance(tensor, Tensor):
                self._write(name, module, tensor)

        stack.callback(module.register_forward_pre_hook(on_this_thread(on_start), with_kwargs=True).remove)
        stack.callback(module.register_forward_hook(on_this_thread(on_end)).remove)

    def _write(self, name: str, module: nn.Module, output: Tensor) -> None:
        first, given = self._begun.get(module, (len(self.calls), []))
        node = output.grad_fn
        source, source_node = given[0] if given else (None, None)
        unchanged = any(output is tensor and node is before for tensor, before in given)
        call = Call(name, module, output, source, first, node, source_node, unchanged)
        self.calls.append(call)
        if output.requires_grad and output.ndim in (3, 4):

            def on_gradient(gradient: Tensor, gradients: list[Tensor] = call.gradients) -> None:
                # Not a word of the call itself: it holds the output, which would then keep itself alive.
                carried = gradient != 0
                gradients.append(carried.any(-1) if carried.ndim == 3 else carried.any())

            output.register_hook(on_gradient)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        for p, _ in flags:
            p.requires_grad_(False)
        yield
    finally:
        for p, requires_grad in flags:
            p.requires_grad_(requires_grad)


def _differentiated(score: Tensor, pixels: Tensor) -> bool:
    """Send the gradient down; false where that is impossible, e.g. through reentrant checkpointing or integers."""
    if not score.requires_grad:
        return False
    try:
        torch.autograd.grad(score, pixels, retain_graph=True, allow_unused=True)  # for `Trace.is_local`
    except RuntimeError:
        return False
    return True


def _cuts(root: Node | None) -> set[Node]:
    """Nodes that every path from `root` down to the images passes through."""
    if root is None:
        return set()
    below: dict[Node, list[Node]] = {}
    missing: dict[Node, int] = {root: 0}  # edges into a node from nodes that are yet to come
    stack = [root]
    while stack:
        node = stack.pop()
        below[node] = [function for function, _ in node.next_functions if function is not None]
        for function in below[node]:
            if function not in missing:
                stack.append(function)
            missing[function] = missing.get(function, 0) + 1
    edges = dict(missing)
    # From the logits down, each node behind all that need it: a node is a cut if all edges still open lead to it.
    cuts, open_edges, ready = set(), 0, [root]
    while ready:
        node = ready.pop()
        open_edges -= edges[node]
        if open_edges == 0:
            cuts.add(node)
        for function in below[node]:
            open_edges += 1
            missing[function] -= 1
            if missing[function] == 0:
                ready.append(function)
    return cuts


def _noise(like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(like.shape, generator=generator, device="cpu").to(like)


def _noisy_zeros(model: nn.Module) -> dict[str, Tensor]:
    return {name: 0.1 * _noise(p) for name, p in model.named_parameters() if p.is_floating_point() and not p.any()}
