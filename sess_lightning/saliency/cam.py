"""Class activation maps at the cost of one forward pass: CAM, Grad-CAM and Grad-CAM++."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from sess_lightning.layers import Reshape
from sess_lightning.probing import on_this_thread
from sess_lightning.saliency.base import Explanation, wide
from sess_lightning.saliency.target_layer import LayerMethod


class GradCAM(LayerMethod):
    """`ReLU(sum_k mean_ij(dz_c / dA_k) A_k)` of a layer's activations `A`; `z_c` is the logit of the class.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017. The gradient is only needed from the target layer up, so the trunk
    runs without a graph and the layer's output becomes the graph's leaf: one forward pass gives maps and logits, and
    the model's parameters never take part. Works on frozen models, in-place activations, trunks under their own
    `torch.no_grad()` and non-reentrant gradient checkpointing. Maps have the layer's resolution.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch (see
            `resolved_layer`).
        reshape: function from the layer's output to `(N, C, h, w)`; `None` recognises channels-last maps and tokens.
            `sess_lightning.layers.tokens_to_grid` makes one.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> explanation = GradCAM("1")(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
        >>> explanation.maps.shape, explanation.logits.shape
        (torch.Size([2, 6, 6]), torch.Size([2, 2]))
    """

    single_pass = True

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        activation, gradient, logits = self._layer.read(model, images, targets)
        maps = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu_()
        return Explanation(maps, logits)

    def __repr__(self) -> str:
        return f"GradCAM(target_layer={self.target_layer!r}, reshape={self.reshape!r})"


class GradCAMPlusPlus(LayerMethod):
    """`ReLU(sum_k w_k A_k)` with `w_k = sum_ij alpha_kij ReLU(g_kij)`, `alpha = g^2 / (2 g^2 + sum_ab A_ab g^3)`.

    Source: Chattopadhyay et al., "Grad-CAM++", WACV 2018, eq. 19 (several libraries move `g^3` into the sum, which is
    another formula). The paper's factor `exp(z_c)` scales the whole map and is left out: it overflows float32 above
    a logit of 88, and maps are normalised. Where the denominator is 0, `alpha` is 0. Cost and arguments as `GradCAM`.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch.
        reshape: function from the layer's output to `(N, C, h, w)`, as for `GradCAM`.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> GradCAMPlusPlus("1")(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 6, 6])
    """

    single_pass = True

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        activation, gradient, logits = self._layer.read(model, images, targets)
        return Explanation(plus_plus(activation, gradient, gradient**2, gradient**3), logits)

    def __repr__(self) -> str:
        return f"GradCAMPlusPlus(target_layer={self.target_layer!r}, reshape={self.reshape!r})"


def plus_plus(activation: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """The map `(N, h, w)` of Grad-CAM++ from a layer's activation and three derivatives `(N, C, h, w)`."""
    denominator = 2 * second + activation.sum((2, 3), keepdim=True) * third
    alpha = torch.where(denominator != 0, second / denominator, 0)
    weights = (alpha * first.relu()).sum((2, 3), keepdim=True)
    return (weights * activation).sum(1).relu_()


class CAM(LayerMethod):
    """`sum_k w_ck A_k`, the activations under the classifier's own weights, for networks that end in average pooling.

    Source: Zhou et al., "Learning deep features for discriminative localization", CVPR 2016. Defined where the logit is
    a linear function of the layer's average (ResNet, MobileNetV2, DenseNet), or the average of a 1 x 1 convolution
    (SqueezeNet): its mean over the map is then the logit but for the bias. That is checked on the first batch, and
    every other network is refused; Grad-CAM is its generalisation. No ReLU, so maps may be negative. One forward pass,
    no gradient.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch.
        reshape: function from the layer's output to `(N, C, h, w)`, as for `GradCAM`.

    Raises:
        ValueError: on the first batch, if something other than average pooling lies between layer and classifier.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> CAM()(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 6, 6])
    """

    single_pass = True
    needs_gradient = False

    def __init__(self, target_layer: str | nn.Module | None = None, reshape: Reshape | None = None) -> None:
        super().__init__(target_layer, reshape)
        self._head: _Head | None = None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        head = self._head
        if head is None or head.model() is not model:
            self._head = head = self._find_head(model, images[:1])
        activation, logits = self._layer.observe(model, images)
        if head.rectified:
            activation = activation.relu()
        weights = wide(model.get_parameter(f"{head.name}.weight").detach()).flatten(1).to(activation.dtype)
        one_logit = logits.shape[1] == 1  # class 0 is explained by its negative
        chosen = weights * (2 * targets - 1)[:, None] if one_logit else weights[targets]
        return Explanation(torch.einsum("nk,nkhw->nhw", chosen, activation), logits)

    def _find_head(self, model: nn.Module, image: Tensor) -> _Head:
        """The last linear layer or 1 x 1 convolution that ran, if it sees the layer or its average."""
        seen: list[tuple[str, Tensor]] = []
        with ExitStack() as stack:
            for name, module in model.named_modules():
                if isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)):

                    def on_enter(module: nn.Module, args: Any, name: str = name) -> None:
                        seen.append((name, args[0].detach()))

                    stack.callback(module.register_forward_pre_hook(on_this_thread(on_enter)).remove)
            activation, _ = self._layer.observe(model, image.clone())
        if seen:
            name, given = seen[-1]
            for rectified, candidate in ((False, activation), (True, activation.relu())):
                if _same(candidate.mean((2, 3)), given.flatten(1)) or _same(candidate, given):
                    return _Head(weakref.ref(model), name, rectified)
        raise ValueError(
            f"CAM is defined for networks whose classifier sees the average of the target layer, but behind "
            f"{self.resolved_layer!r} of {type(model).__name__} lies more than average pooling. Take GradCAM, which is "
            "CAM for every other network, or choose another target_layer."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_head": None}

    def __repr__(self) -> str:
        return f"CAM(target_layer={self.target_layer!r}, reshape={self.reshape!r})"


class _Head:
    """Where the classifier's weights are, and whether a ReLU lies before its pooling (as in DenseNet)."""

    def __init__(self, model: weakref.ref[nn.Module], name: str, rectified: bool) -> None:
        self.model, self.name, self.rectified = model, name, rectified


def _same(expected: Tensor, given: Tensor) -> bool:
    """Equal up to the rounding of the model's dtype."""
    if expected.shape != given.shape:
        return False
    tolerance = 16 * torch.finfo(given.dtype).eps * float(expected.abs().max())
    return bool((expected - given).abs().max() <= max(tolerance, 1e-6))
