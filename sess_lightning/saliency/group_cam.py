"""Group-CAM (Zhang et al., 2021): groups of channels as masks, weighted by what each shows the network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sess_lightning.checks import check_choice, check_count
from sess_lightning.layers import Reshape
from sess_lightning.logits import ACTIVATIONS
from sess_lightning.pixels import gaussian_blur, minmax
from sess_lightning.saliency.base import Explanation, wide
from sess_lightning.saliency.masking import forward_count, masked_scores, pair_batches
from sess_lightning.saliency.target_layer import LayerMethod


class GroupCAM(LayerMethod):
    """`sum_l ReLU(p_c(x M'_l + x~ (1 - M'_l)) - p_c(x~)) M_l` over groups `l` of consecutive channels.

    `M_l = ReLU(sum_{k in l} mean_ij(g_k) A_k)`, `M'_l` is `M_l` min-maxed at the image's size, `x~` the image blurred
    by a Gaussian of 51 pixels, sigma 50, with reflected border. Costs `groups + 2` forwards and one head-only backward;
    the masked forwards of all images share batches. A group without any activation adds nothing (the published code
    turns the whole map into NaN). Maps have the layer's resolution.

    Source: the formula as in the authors' code (ffd807b), which has no "de-noising" of the masks.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch.
        groups: of consecutive channels; 32 as in the paper. A layer of fewer channels has a group for each.
        reshape: function from the layer's output to `(N, C, h, w)`, as for `GradCAM`.
        activation: `"softmax"`, or `"sigmoid"` for multi-label heads.
        batch_size: masked images per forward; `None`: as many as are explained at a time, at least 4 of 224 x
            224 pixels or the like.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> GroupCAM("1", groups=2)(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 6, 6])
    """

    def __init__(
        self,
        target_layer: str | nn.Module | None = None,
        groups: int = 32,
        reshape: Reshape | None = None,
        activation: str = "softmax",
        batch_size: int | None = None,
    ) -> None:
        check_count("groups", groups)
        check_choice("activation", activation, ACTIVATIONS)
        check_count("batch_size", batch_size, optional=True)
        super().__init__(target_layer, reshape)
        self.groups, self.activation, self.batch_size = groups, activation, batch_size

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        activation, gradient, logits = self._layer.read(model, images.clone(), targets)
        weighted = gradient.mean((2, 3), keepdim=True) * activation
        masks = torch.stack([group.sum(1).relu_() for group in weighted.chunk(self.groups, dim=1)], dim=1)
        # A last mask of zeros shows the blurred image alone: p_c(x~).
        scores = self._scores(model, images, targets, F.pad(masks, (0, 0, 0, 0, 0, 1)))
        gains = (scores[:, :-1] - scores[:, -1:]).relu_()
        # Upsampling is linear: SESS may do it after the sum.
        return Explanation((gains.to(masks.dtype)[:, :, None, None] * masks).sum(1), logits)

    def _scores(self, model: nn.Module, images: Tensor, targets: Tensor, masks: Tensor) -> Tensor:
        """Probability `(N, L)` of the class for each image under each of its masks `(N, L, h, w)`."""
        size, scores = images.shape[-2:], []
        pixels = wide(images)
        blurred = gaussian_blur(pixels, 51, 50.0)
        for image, mask in pair_batches(len(masks), masks.shape[1], forward_count(self.batch_size, images)):
            upsampled = F.interpolate(masks[image, mask][:, None], size, mode="bilinear", align_corners=False)
            shown = minmax(upsampled)[0].to(pixels.dtype)
            mixed = torch.lerp(blurred[image], pixels[image], shown).to(images.dtype)
            scores.append(masked_scores(model, mixed, targets[image], self.activation))
        return torch.cat(scores).reshape(masks.shape[:2])

    def __repr__(self) -> str:
        return f"GroupCAM(target_layer={self.target_layer!r}, groups={self.groups}, activation={self.activation!r})"
