"""Grad-CAM (Selvaraju et al., ICCV 2017) at the cost of one forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sess_lightning.layers import Reshape, find_target_layer, get_layer, to_grid
from sess_lightning.outputs import check_targets, class_logits, read_logits
from sess_lightning.probing import probe
from sess_lightning.saliency.explanation import Explanation


class GradCAM:
    """`ReLU(sum_k mean_ij(dz_c / dA_k) A_k)` of a layer's activations `A`; `z_c` is the logit of the class.

    The gradient is only needed from the target layer up, so the trunk runs without a graph and the layer's output
    becomes
    the graph's leaf: one forward pass gives maps and logits, and the model's parameters never take part. Works on
    frozen
    models, in-place activations, trunks under their own `torch.no_grad()` and non-reentrant gradient checkpointing.

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

    def __init__(self, target_layer: str | nn.Module | None = None, reshape: Reshape | None = None) -> None:
        self.target_layer = target_layer
        self.reshape = reshape
        self.resolved_layer: str = ""
        """Name of the layer that the last call read; empty before."""
        self._found_on: weakref.ref[nn.Module] | None = None

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """Explain one class for each image.

        Args:
            model: any classifier; left as it is.
            images: `(N, C, H, W)`.
            targets: `(N,)`, long.

        Returns:
            Maps `(N, h, w)` at the layer's resolution, not negative, and the logits.

        Raises:
            ValueError: if the layer is unknown or a target out of range.
            RuntimeError: if the layer was not reached, or no gradient flows back to it.
        """
        with probe(model):
            self._resolve(model, images)
            with _Leaf(model, self.resolved_layer).attached() as leaf:
                logits = read_logits(model(images))
                checked = check_targets(targets, len(images), logits.shape[1]).clone()
                activation, gradient = leaf.gradient_of(class_logits(logits, checked).sum())
            size = (images.shape[-2], images.shape[-1])
            activation, gradient = (to_grid(_wide(t), size, self.reshape) for t in (activation, gradient))
            maps = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu_()
        return Explanation(maps, logits.detach())

    def __repr__(self) -> str:
        return f"GradCAM(target_layer={self.target_layer!r}, reshape={self.reshape!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found_on": None}

    def _resolve(self, model: nn.Module, images: Tensor) -> None:
        if self.target_layer is not None:
            self.resolved_layer = get_layer(model, self.target_layer)
        elif self._found_on is None or self._found_on() is not model:
            self.resolved_layer = find_target_layer(model, images)
            self._found_on = weakref.ref(model)


class _Leaf:
    """Cuts the graph at a layer: no graph below it, its output a leaf, gradients on above it."""

    def __init__(self, model: nn.Module, name: str) -> None:
        self._model, self._name, self._layer = model, name, model.get_submodule(name)
        self._activation: Tensor | None = None
        self._below: set[nn.Module] = set()
        self._differentiating = False

    @contextmanager
    def attached(self) -> Iterator[_Leaf]:
        """Hooks on while a forward pass runs; surrounding contexts give the grad mode back that they switch."""
        # An ancestor begins before the layer and ends behind it: it belongs to neither side.
        parts = self._name.split(".")
        ancestors = {self._model.get_submodule(".".join(parts[:i])) for i in range(len(parts) + 1)}
        with ExitStack() as stack:
            for module in self._model.modules():
                if module not in ancestors:
                    stack.callback(module.register_forward_pre_hook(self._on_enter).remove)
            stack.callback(self._layer.register_forward_pre_hook(self._on_enter).remove)
            stack.callback(self._layer.register_forward_hook(self._on_layer).remove)
            with torch.enable_grad():
                yield self

    def gradient_of(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's activation and the gradient of `score` with respect to it, both detached."""
        if self._activation is None:
            raise RuntimeError(
                f"The target layer {self._name!r} was not reached by the model's forward pass. Choose another "
                "target_layer; a compiled or exported model must be given as the module that it was made from."
            )
        self._differentiating = True  # non-reentrant checkpointing runs the layer again
        try:
            (gradient,) = torch.autograd.grad(score, self._activation)
        except RuntimeError as error:
            raise RuntimeError(
                f"No gradient of the class score reaches the target layer {self._name!r}: {error}\nPossible causes: "
                "the layer does not influence the logits (choose another target_layer); the model detaches behind it; "
                "or it lies in gradient checkpointing of the reentrant kind (pass use_reentrant=False to "
                "torch.utils.checkpoint)."
            ) from error
        return self._activation.detach(), gradient

    def _on_enter(self, module: nn.Module, args: Any) -> None:
        if self._differentiating:
            torch.set_grad_enabled(module not in self._below)
        elif self._activation is None:
            self._below.add(module)
            torch.set_grad_enabled(False)
        else:
            torch.set_grad_enabled(True)

    def _on_layer(self, module: nn.Module, args: Any, output: Any) -> Any:
        tensor = output[0] if isinstance(output, tuple) else output
        leaf = tensor.detach().requires_grad_(True)
        torch.set_grad_enabled(True)
        if not self._differentiating:
            self._activation = leaf  # of a layer that is called more than once, the last call counts
        passed = leaf.clone()  # an in-place activation may follow
        return (passed, *output[1:]) if isinstance(output, tuple) else passed


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
