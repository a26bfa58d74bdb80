"""Grad-CAM (Selvaraju et al., ICCV 2017) at the cost of one forward pass."""

from __future__ import annotations

from torch import Tensor, nn

from sess_lightning.layers import Reshape
from sess_lightning.saliency.explanation import BaseMethod, Explanation
from sess_lightning.saliency.leaf import TargetLayer


class GradCAM(BaseMethod):
    """`ReLU(sum_k mean_ij(dz_c / dA_k) A_k)` of a layer's activations `A`; `z_c` is the logit of the class.

    The gradient is only needed from the target layer up, so the trunk runs without a graph and the layer's output
    becomes the graph's leaf: one forward pass gives maps and logits, and the model's parameters never take part. Works
    on frozen models, in-place activations, trunks under their own `torch.no_grad()` and non-reentrant gradient
    checkpointing. Maps have the layer's resolution.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch (see
            `resolved_layer`).
        reshape: function from the layer's output to `(N, C, h, w)`; `None` recognises channels-last maps and tokens.
            `sess_lightning.layers.tokens_to_grid` makes one.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> import torch
        >>> explanation = GradCAM("1")(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1]))
        >>> explanation.maps.shape, explanation.logits.shape
        (torch.Size([2, 6, 6]), torch.Size([2, 2]))
    """

    single_pass = True

    def __init__(self, target_layer: str | nn.Module | None = None, reshape: Reshape | None = None) -> None:
        self.target_layer, self.reshape = target_layer, reshape
        self._layer = TargetLayer(target_layer, reshape)

    @property
    def resolved_layer(self) -> str:
        """Name of the layer that the last call read; empty before."""
        return self._layer.name

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        activation, gradient, logits = self._layer.read(model, images, targets)
        maps = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).relu_()
        return Explanation(maps, logits)

    def __repr__(self) -> str:
        return f"GradCAM(target_layer={self.target_layer!r}, reshape={self.reshape!r})"
