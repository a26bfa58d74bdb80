"""Attention-IoU: a soft overlap of a map and a mask, both read as distributions over the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sess_lightning.metrics.mask_overlap import MaskOverlapMetric
from sess_lightning.metrics.saliency_input import check_masks, split_maps


def attention_iou(saliency: Tensor | Sequence[Tensor], masks: Tensor | Sequence[Tensor]) -> Tensor:
    """Returns `sum(a m) / sum(((a + m) / 2)^2)`, where map `a` and mask `m` each sum to 1.

    The map is min-max normalised before, as the authors' code does. A constant map, which the authors leave open,
    counts as the same everywhere: where the mask covers the share p of the image, it scores `4 p / (1 + 3 p)`.

    Args:
        saliency: `(N, H, W)` or a list of `(H, W)` in any range.
        masks: `(N, H, W)` bool, or a list of `(H, W)`, of the same sizes.

    Returns:
        `(N,)` in [0, 1]: 1 for a map that is the mask, 0 for one that lies outside; NaN for an empty mask, or a map
        with a value that is not finite.

    Raises:
        ValueError: if masks and maps differ in number or size.

    Source: Serianni et al., "Attention IoU: Examining biases in CelebA using attention maps", CVPR 2025, and the
    authors' repository aaronserianni/attention-iou.

    Example:
        >>> masks = torch.tensor([[[True, True, False]]])
        >>> attention_iou(torch.tensor([[[1.0, 1.0, 0.0]], [[2.0, 0.0, 2.0]]]), masks.expand(2, -1, -1))
        tensor([1.0000, 0.6667])
    """
    maps = split_maps(saliency)
    scores = [_score(one, mask) for one, mask in zip(maps, check_masks(masks, maps), strict=True)]
    return torch.stack(scores) if scores else torch.zeros(0)


def _score(saliency: Tensor, mask: Tensor) -> Tensor:
    low, high = saliency.aminmax()
    spread = torch.ones_like(saliency) if low == high else (saliency - low) / (high - low)
    a, m = spread / spread.sum(), mask / mask.sum()  # NaN for an empty mask, and for values that are not finite
    return (a * m).sum() / ((a + m) / 2).square().sum()


class AttentionIoU(MaskOverlapMetric):
    """Mean Attention-IoU of the maps and the objects of the explained class. Higher is better.

    Unlike `EnergyPointingGame` it wants the map to cover the object evenly: a single pixel on it scores low.

    As input to `update` and `forward`: `saliency`, `targets` and `objects` as `PointingGame`, with the same samples
    skipped; maps with a value that is not finite are skipped, too. A map that `valid` calls without information counts
    as constant: it scores `4 p / (1 + 3 p)`, where the objects cover the share p of the image.

    As output of `compute` and `forward`: a scalar in [0, 1], the mean of `attention_iou` over samples; NaN where no
    sample counted.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Source: see `attention_iou`.

    Example:
        >>> objects = [{"boxes": torch.tensor([[0.0, 0, 2, 1]]), "labels": torch.tensor([2])}]
        >>> metric = AttentionIoU()
        >>> metric(torch.tensor([[[2.0, 0.0, 2.0]]]), torch.tensor([2]), objects)
        tensor(0.6667)
    """

    state = "attention_iou"
    _scores = staticmethod(attention_iou)
