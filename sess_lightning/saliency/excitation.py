"""Excitation backpropagation: the probability of each neuron to have contributed to the class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sess_lightning.layers import Reshape
from sess_lightning.logits import class_logits, read_logits
from sess_lightning.saliency.base import Explanation, wide
from sess_lightning.saliency.target_layer import LayerMethod

_WEIGHTED = frozenset(
    {F.linear, torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose2d, F.conv2d, F.conv_transpose2d}
)
_AVERAGING = frozenset({F.avg_pool2d, F.adaptive_avg_pool2d, torch.mean, Tensor.mean})
_NORMALISING = frozenset({F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm})
_ADDING = frozenset({torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__})
_ADDING_IN_PLACE = frozenset({Tensor.add_, Tensor.__iadd__})
_ATTENDING = frozenset({F.multi_head_attention_forward, F.scaled_dot_product_attention})


class ExcitationBackprop(LayerMethod):
    """Winning probabilities sent down from the class: `p_j = x_j sum_i w+_ij p_i / sum_k w+_ik x_k`.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", ECCV 2016. The rule holds for
    convolutions and linear layers (biases take no part) and average pooling; batch and layer norms pass probabilities
    as they are, a sum splits them in proportion to its summands, ReLU, max pooling and what else there is have their
    own derivative. Activations below 0 count as 0. The map is the sum over the layer's channels.

    With `contrastive=True` the same pass for "not this class" - the last layer's weights negated - is subtracted, and
    what remains below 0 is cut: regions that only this class explains. The rule is linear in `p`, so it makes no
    difference at which layer the two are subtracted.

    One forward; the backward pass reaches down to the target layer only. Networks with attention above the target layer
    are refused: the rule does not know softmax.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch. Earlier layers give
            finer maps.
        contrastive: whether to subtract the pass for all that is not the class.
        reshape: function from the layer's output to `(N, C, h, w)`, as for `GradCAM`.

    Raises:
        ValueError: when called, if attention lies above the target layer, or no linear or convolution layer does.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> ExcitationBackprop("1")(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 6, 6])
    """

    single_pass = True

    def __init__(
        self,
        target_layer: str | nn.Module | None = None,
        contrastive: bool = False,
        reshape: Reshape | None = None,
    ) -> None:
        super().__init__(target_layer, reshape)
        self.contrastive = contrastive

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        with self._layer.cut(model, images) as leaf:
            with _Excitation() as excitation:
                logits = read_logits(model(images), len(images))
            last = excitation.last
            if last is None:
                raise ValueError(
                    f"Expected a linear or convolution layer behind the target layer {self.resolved_layer!r}, but "
                    "excitation backprop found none. Choose an earlier target_layer."
                )
            (top,) = torch.autograd.grad(class_logits(logits, targets).sum(), last.output, retain_graph=True)
            probability = last.descend(top)
            if self.contrastive:
                probability = probability - last.descend(-top)
            if last.given is not leaf.leaf:
                probability = leaf.gradient_of(last.given, probability)
        maps = self._layer.grid(model, images, leaf.activation)(wide(probability)).sum(1)
        return Explanation(maps.relu_(), logits.detach())

    def __repr__(self) -> str:
        return f"ExcitationBackprop(target_layer={self.target_layer!r}, contrastive={self.contrastive})"


class _Linear(Protocol):
    """A convolution or linear layer without its bias, under other weights."""

    def __call__(self, x: Tensor, under: Tensor) -> Tensor: ...


class _Weighted(NamedTuple):
    """One call of a convolution or linear layer."""

    given: Tensor
    output: Tensor
    apply: _Linear
    weight: Tensor

    def descend(self, top: Tensor) -> Tensor:
        """What the layer hands down of `top`; where that is negative, as if the weights were negated."""
        below = torch.zeros_like(self.given, dtype=wide(self.given).dtype)
        for sign in (1, -1):
            leaf = self.given.detach().requires_grad_(True)
            weight = (sign * self.weight.detach()).clamp(min=0)
            passed = _passed(leaf, partial(self.apply, under=weight))
            below += torch.autograd.grad(passed, leaf, (sign * top).clamp(min=0))[0]
        return below.to(self.given.dtype)


class _Excitation(TorchFunctionMode):
    """Replaces derivatives by the rule while the outputs stay what they are; the model is not touched.

    For a linear map `f` with weights `w+` and an input `x0`, the ordinary derivative of `f(x * x0) / f(x0)` with
    respect to `x` sends `p` to `x0 * f'(p / f(x0))`, which is the rule. So each output gets that as its graph.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last: _Weighted | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _ATTENDING and torch.is_grad_enabled():
            raise ValueError(
                "Excitation backprop knows no rule for attention, but attention lies above the target layer. Take "
                "GradCAM, or a target_layer behind the last attention."
            )
        if not (args and isinstance(args[0], Tensor) and args[0].requires_grad and torch.is_grad_enabled()):
            return func(*args, **kwargs)
        if func in _WEIGHTED:
            return self._weighted(func, args, kwargs)
        if func in _AVERAGING:
            return _with_graph(func(*args, **kwargs), _passed(args[0], lambda x: func(x, *args[1:], **kwargs)))
        if func in _NORMALISING:
            return _with_graph(func(*args, **kwargs), args[0])
        if func in _ADDING | _ADDING_IN_PLACE and len(args) > 1 and _alike(args[0], args[1]):
            return _added(func, args, kwargs)
        return func(*args, **kwargs)

    def _weighted(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        given, weight, rest = args[0], args[1] if len(args) > 1 else kwargs["weight"], list(args[2:])
        options = {key: value for key, value in kwargs.items() if key not in ("weight", "bias")}
        if rest:
            rest[0] = None  # the bias

        def apply(x: Tensor, under: Tensor) -> Tensor:
            return func(x, under, *rest, **options)

        positive = weight.detach().clamp(min=0)
        output = _with_graph(func(*args, **kwargs), _passed(given, lambda x: apply(x, positive)))
        self.last = _Weighted(given, output, apply, weight)
        return output


def _passed(x: Tensor, linear: Callable[[Tensor], Tensor]) -> Tensor:
    """A tensor whose derivative with respect to `x` is the rule for this linear map with weights not below 0."""
    excited = x.detach().clamp(min=0)
    with torch.no_grad():
        total = linear(excited) + _epsilon(x)
    return linear(x * excited) / total


def _added(func: Any, args: Any, kwargs: Any) -> Tensor:
    first, second = args[0], args[1]
    in_place = func in _ADDING_IN_PLACE
    plain = torch.add if in_place else func
    ours, theirs = (tensor.detach().clamp(min=0) for tensor in (first, second))
    passed = (first * ours + second * theirs) / (ours + theirs + _epsilon(ours))
    output = _with_graph(plain(first, second, **kwargs), passed)
    return first.copy_(output) if in_place else output


def _epsilon(tensor: Tensor) -> float:
    """Keeps 0 / 0 away: 1e-20 as published, more in float16, which has no such number."""
    return max(1e-20, torch.finfo(tensor.dtype).tiny)


def _alike(first: Tensor, second: Any) -> bool:
    return isinstance(second, Tensor) and second.is_floating_point() and second.shape == first.shape


def _with_graph(output: Tensor, passed: Tensor) -> Tensor:
    """The values of `output` with the graph of `passed`."""
    return output.detach() + (passed - passed.detach())
