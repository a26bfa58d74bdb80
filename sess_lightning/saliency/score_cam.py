"""Score-CAM (Wang et al., CVPR workshops 2020): channels as masks, weighted by what each shows the network."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from sess_lightning.checks import check_choice, check_count
from sess_lightning.layers import Reshape
from sess_lightning.logits import ACTIVATIONS
from sess_lightning.pixels import minmax
from sess_lightning.saliency.base import Explanation, wide
from sess_lightning.saliency.masking import forward_count, masked_scores
from sess_lightning.saliency.target_layer import LayerMethod


class ScoreCAM(LayerMethod):
    """`ReLU(sum_k p_c(x M_k) up(A_k))`: `M_k` is channel `k`, enlarged to the image and min-maxed.

    No gradient; a forward for every channel (512 for ResNet-18, 2048 for ResNet-50), so the dearest of the class
    activation maps: `SESS("scorecam", prefilter_ratio=0.99)`. Constant channels show nothing and cost nothing. The
    masked forwards of all images share batches. Maps have the image's resolution.

    Source: the weight is the class probability, as in the three published implementations. The paper subtracts a
    baseline's score and takes a softmax over the channels, in which the baseline cancels and which, over hundreds of
    probabilities in [0, 1], comes out near uniform.

    Args:
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch.
        reshape: function from the layer's output to `(N, C, h, w)`, as for `GradCAM`.
        activation: `"softmax"`, or `"sigmoid"` for multi-label heads.
        batch_size: masked images per forward; `None`: as many as are explained at a time, at least 4 of 224 x
            224 pixels or the like.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> ScoreCAM("1")(net, torch.rand(2, 3, 8, 8), torch.tensor([0, 1])).maps.shape
        torch.Size([2, 8, 8])
    """

    needs_gradient = False

    def __init__(
        self,
        target_layer: str | nn.Module | None = None,
        reshape: Reshape | None = None,
        activation: str = "softmax",
        batch_size: int | None = None,
    ) -> None:
        check_choice("activation", activation, ACTIVATIONS)
        check_count("batch_size", batch_size, optional=True)
        super().__init__(target_layer, reshape)
        self.activation, self.batch_size = activation, batch_size

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        activation, logits = self._layer.observe(model, images.clone())
        channels, pixels, size = activation.flatten(0, 1), wide(images), images.shape[-2:]
        weights = channels.new_zeros(len(channels))
        alive = (channels.amax((1, 2)) > channels.amin((1, 2))).nonzero()[:, 0]
        for part in alive.split(forward_count(self.batch_size, images)):
            image = part // activation.shape[1]
            masks = minmax(F.interpolate(channels[part, None], size, mode="bilinear", align_corners=False))[0]
            shown = (pixels[image] * masks.to(pixels.dtype)).to(images.dtype)
            weights[part] = masked_scores(model, shown, targets[image], self.activation).to(weights.dtype)
        maps = (weights.view(*activation.shape[:2], 1, 1) * activation).sum(1, keepdim=True)
        # Enlarged before the ReLU, as published: a layer may have negative activations.
        return Explanation(F.interpolate(maps, size, mode="bilinear", align_corners=False)[:, 0].relu_(), logits)

    def __repr__(self) -> str:
        return f"ScoreCAM(target_layer={self.target_layer!r}, activation={self.activation!r})"
