"""The energy-based pointing game: how much of the saliency lies on the objects of the explained class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sess_lightning.metrics.mask_overlap import MaskOverlapMetric
from sess_lightning.metrics.saliency_input import check_masks, split_maps


def pointing_energy(saliency: Tensor | Sequence[Tensor], masks: Tensor | Sequence[Tensor]) -> Tensor:
    """Returns the share of each map's energy inside its mask: `sum(S over the mask) / sum(S over the image)`.

    Args:
        saliency: `(N, H, W)` or a list of `(H, W)`; negative values count as 0.
        masks: `(N, H, W)` bool, or a list of `(H, W)`, of the same sizes.

    Returns:
        `(N,)` in [0, 1]; NaN for a map without energy (nowhere positive) or with a value that is not finite.

    Raises:
        ValueError: if masks and maps differ in number or size.

    Source: Wang et al., "Score-CAM", CVPR Workshops 2020.

    Example:
        >>> pointing_energy(torch.tensor([[[3.0, 1.0]]]), torch.tensor([[[True, False]]]))
        tensor([0.7500])
    """
    maps = split_maps(saliency)
    shares = []
    for one, mask in zip(maps, check_masks(masks, maps), strict=True):
        energy = one.clamp(min=0)
        energy = energy / energy.max()  # the sum of large values may overflow; no energy and infinity become NaN
        shares.append((energy * mask).sum() / energy.sum())
    return torch.stack(shares) if shares else torch.zeros(0)


class EnergyPointingGame(MaskOverlapMetric):
    """Mean share of the saliency on the objects of the explained class. Higher is better.

    Unlike `PointingGame` it looks at the whole map and needs no tolerance. Large objects score high by themselves: a
    constant map scores the share of the image that they cover.

    As input to `update` and `forward`: `saliency`, `targets` and `objects` as `PointingGame`, with the same samples
    skipped; maps without energy or with NaN are skipped, too. A map that `valid` calls without information counts as
    constant: it scores the share of the image that the objects cover.

    As output of `compute` and `forward`: a scalar in [0, 1], the mean of `pointing_energy` over samples; NaN where no
    sample counted.

    Args:
        kwargs: those of `torchmetrics.Metric`.

    Source: Wang et al., "Score-CAM", CVPR Workshops 2020: `sum(S inside) / (sum(S inside) + sum(S outside))`.

    Example:
        >>> objects = [{"boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([2])}]
        >>> metric = EnergyPointingGame()
        >>> metric(torch.tensor([[[3.0, 1.0]]]), torch.tensor([2]), objects)
        tensor(0.7500)
    """

    state = "energy"
    _scores = staticmethod(pointing_energy)
