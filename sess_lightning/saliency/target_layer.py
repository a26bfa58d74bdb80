"""A layer's activation and the gradient of a class logit with respect to it, at the cost of one forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge
from torch.utils.checkpoint import CheckpointError

from sess_lightning.layers import Reshape, find_reshape, get_layer, is_map, locate, to_grid
from sess_lightning.logits import class_logits, read_logits
from sess_lightning.pixels import Size
from sess_lightning.probing import hookable, on_this_thread
from sess_lightning.saliency.base import BaseMethod, Method, wide


class LayerReading(NamedTuple):
    """What a class activation map is made of."""

    activation: Tensor  # (N, C, h, w), float32 or float64
    gradient: Tensor  # the same shape: of each sample's class logit
    logits: Tensor  # (N, K)


@dataclass
class _Found:
    """What is known of the layer in one model."""

    name: str
    reshapes: dict[Size, Reshape | None] = field(default_factory=dict)  # by the size of the images
    switches: weakref.WeakSet[nn.Module] | None = None  # learned from the first pass


class TargetLayer:
    """The layer that a class activation map reads, found on the first batch where it is not given.

    Args:
        layer: dotted name or module; `None` finds the last spatial map.
        reshape: function from the layer's output to `(N, C, h, w)`; `None` recognises channels-last maps and tokens.
    """

    def __init__(self, layer: str | nn.Module | None, reshape: Reshape | None) -> None:
        self.layer = layer
        self.reshape = reshape
        self.name = ""  # in the model of the last call
        # By model, so that threads that explain one each do not meet.
        self._found: weakref.WeakKeyDictionary[nn.Module, _Found] = weakref.WeakKeyDictionary()

    def read(self, model: nn.Module, images: Tensor, targets: Tensor) -> LayerReading:
        """One forward pass without a graph below the layer, and the gradient back to it.

        Args:
            model: under a probe.
            images: `(N, C, H, W)`.
            targets: `(N,)`, long, classes of this model.

        Raises:
            ValueError: if the layer is unknown, or gives no grid.
            RuntimeError: if the layer was not reached, or no gradient flows back to it.
        """
        with self.cut(model, images) as leaf:
            logits = read_logits(model(images), len(images))
            gradient = leaf.class_gradient(logits, targets)
        on_grid = self.grid(model, images, leaf.activation)
        return LayerReading(on_grid(wide(leaf.activation)), on_grid(wide(gradient)), logits.detach())

    def observe(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's activation `(N, C, h, w)` and the logits `(N, K)` of one forward pass without gradients.

        Args:
            model: under a probe.
            images: `(N, C, H, W)`.

        Raises:
            ValueError: if the layer is unknown, or gives no grid.
            RuntimeError: if the layer was not reached.
        """
        with torch.no_grad(), self.cut(model, images, gradients=False) as leaf:
            logits = read_logits(model(images), len(images))
        return self.grid(model, images, leaf.activation)(wide(leaf.activation)), logits

    @contextmanager
    def cut(self, model: nn.Module, images: Tensor, gradients: bool = True) -> Iterator[Leaf]:
        """The graph cut at the layer, for the forward pass inside.

        Args:
            model: under a probe.
            images: that the forward pass will see.
            gradients: whether a graph is wanted above the layer.
        """
        found = self._find(model, images)
        leaf = Leaf(model, found.name, gradients, found.switches)
        with leaf.attached():
            yield leaf
        if gradients and (found.switches is None or leaf.missed):
            found.switches = leaf.switches() if found.switches is None else None  # None: the next pass learns anew

    def resolve(self, model: nn.Module, images: Tensor) -> str:
        """Name of the layer in this model, looked for on the first batch where it is not given."""
        return self._find(model, images).name

    def _find(self, model: nn.Module, images: Tensor) -> _Found:
        found = self._found.get(model)
        if found is None:
            if self.layer is None:
                name, reshape = locate(model, images)
                found = _Found(name, {(images.shape[-2], images.shape[-1]): reshape})
            else:
                found = _Found(get_layer(model, self.layer))
            self._found[model] = found
        self.name = found.name
        return found

    def grid(self, model: nn.Module, images: Tensor, activation: Tensor | None = None) -> Reshape:
        """What lays the layer's output for images of this size, and gradients of its shape, on `(N, C, h, w)`.

        Args:
            model: under a probe; run once more for each size of images where the shape alone does not tell.
            images: `(N, C, H, W)`.
            activation: what the layer gave, if it is known.

        Raises:
            ValueError: when the function returned is called, if the shape fits no grid.
        """
        size = (images.shape[-2], images.shape[-1])
        reshape = self.reshape
        if reshape is None and (activation is None or not is_map(activation, size)):
            found = self._find(model, images)
            if size not in found.reshapes:
                found.reshapes[size] = find_reshape(model, images, found.name)
            reshape = found.reshapes[size]
        return partial(to_grid, image=size, reshape=reshape)

    def __reduce__(self) -> Any:
        return TargetLayer, (self.layer, self.reshape), {"name": self.name}


class LayerMethod(BaseMethod):
    """What the methods share that read a layer's activations.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch.
        reshape: function from the layer's output to `(N, C, h, w)`; `None` recognises channels-last maps and tokens.
    """

    needs_layer = True

    def __init__(self, target_layer: str | nn.Module | None = None, reshape: Reshape | None = None) -> None:
        self.target_layer, self.reshape = target_layer, reshape
        self._layer = TargetLayer(target_layer, reshape)

    @property
    def resolved_layer(self) -> str:
        """Name of the layer that the last call read; empty before."""
        return self._layer.name

    def on_layer(self, target_layer: str | nn.Module | None, reshape: Reshape | None) -> LayerMethod:
        """The same method on another layer; this one is left as it is. What is `None` stays as it was."""
        other = copy(self)
        other.target_layer = self.target_layer if target_layer is None else target_layer
        other.reshape = self.reshape if reshape is None else reshape
        other._layer = TargetLayer(other.target_layer, other.reshape)
        return other


def with_target_layer(method: Method, target_layer: str | nn.Module | None, reshape: Reshape | None = None) -> Method:
    """A base method on another layer; the one given is left as it is.

    Args:
        method: any base method.
        target_layer: dotted name or module; `None` leaves the method's own.
        reshape: function from the layer's output to `(N, C, h, w)`; `None` leaves the method's own.

    Raises:
        ValueError: if the method reads no layer.
    """
    if target_layer is None and reshape is None:
        return method
    on_layer = getattr(method, "on_layer", None)
    if on_layer is None:
        raise no_layer(method)
    return cast(Method, on_layer(target_layer, reshape))


def no_layer(method: Method) -> ValueError:
    """The error for a layer given to a method that reads none."""
    return ValueError(
        f"Expected no argument `target_layer` or `reshape`, as the base method {method!r} reads no layer of the model. "
        "Leave them out, or take a method that reads one, such as SESS('gradcam')."
    )


def read_layer(method: Method, model: nn.Module, images: Tensor, targets: Tensor) -> LayerReading | None:
    """What a method finds at its layer; `None` for a method that has read none yet.

    Args:
        method: any base method, called before.
        model: under a probe.
        images: `(N, C, H, W)`.
        targets: `(N,)`, long, classes of this model.
    """
    layer = getattr(method, "_layer", None)
    return layer.read(model, images, targets) if isinstance(layer, TargetLayer) and layer.name else None


class Leaf:
    """Cuts the graph at a layer: no graph below it, its output a leaf, gradients on above it if wanted.

    Args:
        model: under a probe.
        name: of the layer.
        gradients: whether a graph is wanted above the layer.
        switches: modules at which the grad mode is switched, as an earlier pass of this model gave them; `None`: all.
    """

    def __init__(
        self, model: nn.Module, name: str, gradients: bool, switches: weakref.WeakSet[nn.Module] | None = None
    ) -> None:
        self._model, self._name, self._layer = model, name, model.get_submodule(name)
        self._gradients, self._switches = gradients, switches
        self._activation: Tensor | None = None
        # An ancestor begins before the layer and ends behind it: it belongs to neither side.
        parts = name.split(".")
        self._ancestors = {model.get_submodule(".".join(parts[:i])) for i in range(len(parts))}
        self._below: set[nn.Module] = set()
        self._above: set[nn.Module] = set()  # a module that is called several times may be in both
        self._switched: set[nn.Module] = set()  # those that did not find the grad mode they need
        self.missed = False  # whether the layer was reached with gradients on: a module below has come that switches
        self._differentiating = False

    @contextmanager
    def attached(self) -> Iterator[Leaf]:
        """Hooks on while a forward pass runs; surrounding contexts give the grad mode back that they switch."""
        with ExitStack() as stack:
            if self._gradients:
                on_enter = on_this_thread(self._on_enter)
                for module in hookable(self._model) if self._switches is None else self._switches:
                    stack.callback(module.register_forward_pre_hook(on_enter, prepend=True).remove)
                stack.enter_context(torch.enable_grad())
            stack.callback(self._layer.register_forward_hook(on_this_thread(self._on_layer)).remove)
            yield self

    def switches(self) -> weakref.WeakSet[nn.Module]:
        """Modules at which later passes need to switch: those above the layer, those below that found gradients on.

        Below the layer that is mostly the first module alone. Hooks on all modules cost a small network 2 % of its
        time.
        """
        return weakref.WeakSet(set(hookable(self._model)) - self._ancestors - (self._below - self._switched))

    @property
    def leaf(self) -> Tensor:
        """The layer's output in the graph.

        Raises:
            RuntimeError: if the forward pass did not reach the layer.
        """
        if self._activation is None:
            raise RuntimeError(
                f"The target layer {self._name!r} was not reached by the model's forward pass. Choose another "
                "target_layer; a compiled or exported model must be given as the module that it was made from."
            )
        return self._activation

    @property
    def activation(self) -> Tensor:
        """The layer's output, detached."""
        return self.leaf.detach()

    def class_gradient(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The gradient of each sample's class logit with respect to the layer's output.

        Raises:
            RuntimeError: as `gradient_of`.
        """
        leaf = self.leaf
        self._differentiating = True  # reading what the graph has saved also runs a checkpointed layer again
        with self._causes_named():
            explained = _explained_output(logits, targets, leaf)
        return self.gradient_of(*explained)

    def gradient_of(self, output: Tensor | GradientEdge, weights: Tensor | None = None) -> Tensor:
        """The gradient of `output` with respect to the layer's output, weighted by `weights` where it is no scalar.

        Raises:
            RuntimeError: if no gradient flows back to the layer; says what may be the cause.
        """
        leaf = self.leaf
        self._differentiating = True  # non-reentrant checkpointing runs the layer again
        with self._causes_named():
            (gradient,) = torch.autograd.grad(output, leaf, weights)
        return gradient

    @contextmanager
    def _causes_named(self) -> Iterator[None]:
        try:
            yield
        except CheckpointError as error:
            raise RuntimeError(
                "Gradient checkpointing runs a part of the model again for the gradient of the target layer "
                f"{self._name!r}, and that went another way than the first time: {error}\nLet the model checkpoint in "
                "training mode only (`if self.training`), or choose another target_layer or method: methods that "
                "replace derivatives while the model runs, as excitation backprop, do not work with it."
            ) from error
        except RuntimeError as error:
            raise RuntimeError(
                f"No gradient of the class score reaches the target layer {self._name!r}: {error}\nPossible causes: "
                "the layer does not influence the logits (choose another target_layer); the model detaches behind it, "
                "or runs what follows in inference mode (torch.no_grad() in its place works, as does SESS('rise')); "
                "or it lies in gradient checkpointing of the reentrant kind (pass use_reentrant=False to "
                "torch.utils.checkpoint)."
            ) from error

    def _on_enter(self, module: nn.Module, args: Any) -> None:
        if module in self._ancestors:
            return
        if not self._differentiating:
            (self._below if self._activation is None else self._above).add(module)
        elif module in self._below and module in self._above:
            return  # what is run again may lie on either side: the mode is that of the modules around it
        wanted = module not in self._below if self._differentiating else self._activation is not None
        if torch.is_grad_enabled() != wanted:
            self._switched.add(module)
            torch.set_grad_enabled(wanted)

    def _on_layer(self, module: nn.Module, args: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        with torch.inference_mode(False):  # of a trunk under inference mode: the head behind it needs a graph
            leaf = (tensor.clone() if tensor.is_inference() else tensor).detach().requires_grad_(self._gradients)
        if not self._differentiating:
            self.missed = torch.is_grad_enabled()
            self._activation = leaf  # of a layer that is called more than once, the last call counts
        torch.set_grad_enabled(self._gradients)
        with torch.inference_mode(False), torch.set_grad_enabled(self._gradients):
            passed = leaf.clone()  # an in-place activation may follow
        return (passed, *output[1:]) if isinstance(output, tuple) else passed


def _explained_output(logits: Tensor, targets: Tensor, leaf: Tensor) -> tuple[Tensor | GradientEdge, Tensor | None]:
    """What to differentiate, and the weights of it: the class logits, or the input of the linear layer they come from.

    There the gradient is known, the class's row of that layer's weight. The way through the layer is a product of its
    whole weight with a one-hot vector: on a CPU, which reads megabytes for it, 2 % of a small network's forward pass.
    """
    layer: Any = logits.grad_fn
    listened = logits._backward_hooks or logits.retains_grad  # who waits for the gradient of the logits gets it
    if layer is not None and layer.name() == "AddmmBackward0" and layer._saved_alpha == 1:
        (bias, _), (function, number), (weight, _) = layer.next_functions
        constant = _is_constant(bias, leaf) and _is_constant(weight, leaf)
        if function is not None and constant and logits.shape[1] > 1 and not listened:
            return GradientEdge(function, number), layer._saved_mat2.detach().t().index_select(0, targets)
    return class_logits(logits, targets).sum(), None


def _is_constant(function: Any, leaf: Tensor) -> bool:
    """Whether a node of the graph gives a parameter, transposed or cast at most, and nothing made from the layer."""
    while function is not None and len(function.next_functions) == 1:
        function = function.next_functions[0][0]
    return function is None or (function.name().endswith("AccumulateGrad") and function.variable is not leaf)
