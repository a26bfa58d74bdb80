"""Relevance rank accuracy: of as many pixels as the object has, the most salient ones, how many are the object's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sess_lightning.metrics.mask_overlap import MaskOverlapMetric
from sess_lightning.metrics.saliency_input import check_masks, split_maps


def relevance_rank_accuracy(saliency: Tensor | Sequence[Tensor], masks: Tensor | Sequence[Tensor]) -> Tensor:
    """Returns the share of each map's K most salient pixels inside its mask of K pixels.

    Where the K-th value is that of several pixels, those of them that are inside count by their share: the mean over
    all orders of equal pixels.

    Args:
        saliency: `(N, H, W)` or a list of `(H, W)` in any range: only the order counts.
        masks: `(N, H, W)` bool, or a list of `(H, W)`, of the same sizes.

    Returns:
        `(N,)` in [0, 1]; NaN for an empty mask, or a map with a value that is not finite.

    Raises:
        ValueError: if masks and maps differ in number or size.

    Source: Arras et al., "CLEVR-XAI: A benchmark dataset for the ground truth evaluation of neural network
    explanations", Information Fusion 2022.

    Example:
        >>> masks = torch.tensor([[[True, True, False, False]]])
        >>> relevance_rank_accuracy(torch.tensor([[[4.0, 1.0, 3.0, 2.0]]]), masks)
        tensor([0.5000])
    """
    maps = split_maps(saliency)
    shares = [_share(one, mask) for one, mask in zip(maps, check_masks(masks, maps), strict=True)]
    return torch.stack(shares) if shares else torch.zeros(0)


def _share(saliency: Tensor, mask: Tensor) -> Tensor:
    count = int(mask.sum())
    if count == 0 or not torch.isfinite(saliency).all():
        return saliency.new_full((), torch.nan)
    last = saliency.flatten().kthvalue(saliency.numel() - count + 1).values
    above, tied = saliency > last, saliency == last
    places = count - above.sum()  # that are left for the tied pixels
    return ((above & mask).sum() + places * (tied & mask).sum() / tied.sum()).to(saliency.dtype) / count


class RelevanceRankAccuracy(MaskOverlapMetric):
    """Mean share of the most salient pixels on the objects of the explained class. Higher is better.

    As many pixels of the map are looked at as the objects have. Unlike `EnergyPointingGame` it does not depend on the
    range of the map. Large objects score high by themselves: a map without information scores the share of the image
    that they cover.

    As input to `update` and `forward`: `saliency`, `targets` and `objects` as `PointingGame`, with the same samples
    skipped; maps with a value that is not finite are skipped, too. A map that `valid` calls without information counts
    as constant: it scores the share of the image that the objects cover.

    As output of `compute` and `forward`: a scalar in [0, 1], the mean of `relevance_rank_accuracy` over samples; NaN
    where no sample counted.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Source: see `relevance_rank_accuracy`.

    Example:
        >>> objects = [{"boxes": torch.tensor([[0.0, 0, 2, 1]]), "labels": torch.tensor([2])}]
        >>> metric = RelevanceRankAccuracy()
        >>> metric(torch.tensor([[[4.0, 1.0, 3.0, 2.0]]]), torch.tensor([2]), objects)
        tensor(0.5000)
    """

    state = "rank"
    _scores = staticmethod(relevance_rank_accuracy)
