"""Methods that differentiate the class logit with respect to the pixels: input gradient and guided backpropagation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sess_lightning.logits import class_logits, read_logits
from sess_lightning.probing import hookable, on_this_thread
from sess_lightning.saliency.base import BaseMethod, Explanation, wide

_QUANTILE = 0.99


class InputGradient(BaseMethod):
    """`sum_channels |dz_c / dx|`, bright outliers clipped at the 99th percentile (Simonyan et al., 2014).

    The grey conversion is that of PAIR's saliency library and of the SESS release: `(s - min) / (q99 - min)`, clipped
    to [0, 1]. Costs one forward and one backward pass; maps have the resolution of the image.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
        >>> InputGradient()(net, torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 1, 0])).maps.shape
        torch.Size([4, 8, 8])
    """

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        gradient, logits = input_gradient(model, images, targets)
        return Explanation(grey(gradient), logits)

    def __repr__(self) -> str:
        return "InputGradient()"


class GuidedBackprop(BaseMethod):
    """The input gradient where every rectifier also passes only positive gradients back (Springenberg et al., 2015).

    Guided are `relu` and `relu6`, as modules, functions or methods, in place or not, on every call: at each of them the
    gradient that comes from above is cut at 0, and the rectifier's own derivative masks it as ever (for `relu6` also
    where it saturates). SiLU, GELU, Hardswish, leaky and other smooth or two-sided activations have no such rule and
    keep their plain derivative; a model without any rectifier gets the input gradient, and a warning. Grey conversion
    and cost as for `InputGradient`.

    Scripted models (`torch.jit`) hide their activations and so count as models without a rectifier.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> GuidedBackprop()(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 8, 8])
    """

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        with _Guided() as guided:
            gradient, logits = input_gradient(model, images, targets)
        if not guided.count:
            warnings.warn(
                f"GuidedBackprop found no relu or relu6 in {type(model).__name__}, so its maps are those of "
                "InputGradient. Smooth activations (SiLU, GELU) have no guided rule: choose another method.",
                stacklevel=2,
            )
        return Explanation(grey(gradient), logits)

    def __repr__(self) -> str:
        return "GuidedBackprop()"


def input_gradient(model: nn.Module, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient `(N, C, H, W)` of each sample's class logit with respect to its pixels, and the logits `(N, K)`.

    Args:
        model: under a probe.
        images: `(N, C, H, W)`.
        targets: `(N,)`, long, classes of this model.

    Raises:
        RuntimeError: if no gradient reaches the pixels; says what may be the cause.
    """
    leaf = images.detach().clone(memory_format=torch.preserve_format).requires_grad_(True)
    with gradients_throughout(model):
        # A clone, as the first layer may work in place.
        logits = read_logits(model(leaf.clone(memory_format=torch.preserve_format)), len(leaf))
        try:
            (gradient,) = torch.autograd.grad(class_logits(logits, targets).sum(), leaf)
        except RuntimeError as error:
            raise RuntimeError(
                f"No gradient of the class logit reaches the image: {error}\nPossible causes: the model detaches its "
                "input or an activation, runs a part in inference mode, or has gradient checkpointing of the reentrant "
                "kind (pass use_reentrant=False to torch.utils.checkpoint). GradCAM works with the first two if its "
                "layer is the last one there or behind it, and RISE with any."
            ) from error
    return gradient, logits.detach()


def grey(gradient: Tensor) -> Tensor:
    """Gradients `(N, C, H, W)` as maps `(N, H, W)` in [0, 1]: `(s - min) / (q99 - min)` clipped, `s = sum_c |g|`.

    Where 99 % of the pixels are alike, `q99 = min` would divide by zero: such a map is scaled by its maximum.

    Example:
        >>> grey(torch.tensor([[[[0.0, 1.0], [-2.0, 3.0]]]])).shape
        torch.Size([1, 2, 2])
    """
    magnitude = wide(gradient).abs().sum(1)
    flat = magnitude.flatten(1)
    # The percentile with linear interpolation, from the few largest values alone.
    rank = _QUANTILE * (flat.shape[1] - 1)
    top = flat.topk(flat.shape[1] - math.floor(rank)).values
    below, above = top[:, -1], top[:, max(-2, -top.shape[1])]
    quantile = below + (rank - math.floor(rank)) * (above - below)
    low = flat.amin(1)
    high = torch.where(quantile > low, quantile, top[:, 0])
    spread = torch.where(high > low, high - low, 1)
    return ((magnitude - low[:, None, None]) / spread[:, None, None]).clamp(0, 1)


class _Guided(TorchFunctionMode):
    """Cuts the gradients that arrive at rectifiers at 0, whichever way they are called; the model is not touched."""

    _RECTIFIERS = frozenset(
        {F.relu, F.relu_, F.relu6, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.hardtanh, F.hardtanh_}
    )

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in self._RECTIFIERS and output.requires_grad and _cuts_at_zero(func, args, kwargs or {}):
            self.count += 1
            output.register_hook(_positive)
        return output


def _cuts_at_zero(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a rectifier's lower bound is 0, as of `hardtanh(x, 0, 6)`, which is what ReLU6 calls."""
    if func not in (F.hardtanh, F.hardtanh_):
        return True
    return float(kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)) == 0


def _positive(gradient: Tensor) -> Tensor:
    return gradient.clamp(min=0)


@contextmanager
def gradients_throughout(model: nn.Module) -> Iterator[None]:
    """Gradients on in every module of the model, also in a trunk under its own `torch.no_grad()`."""
    switch_on = on_this_thread(_switch_on)
    with ExitStack() as stack:
        for module in hookable(model):
            stack.callback(module.register_forward_pre_hook(switch_on, prepend=True).remove)
        stack.enter_context(torch.enable_grad())
        yield


def _switch_on(module: nn.Module, args: Any) -> None:
    torch.set_grad_enabled(True)
