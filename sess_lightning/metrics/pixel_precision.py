"""Pixel average precision: the map as a detector of the object's pixels, over all thresholds and all images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sess_lightning.metrics.max_box import threshold_grid, thresholds_reached
from sess_lightning.metrics.objects import LocalisationMetric, Sample
from sess_lightning.metrics.saliency_input import check_masks, split_maps


def pixel_average_precision(
    saliency: Tensor | Sequence[Tensor],
    masks: Tensor | Sequence[Tensor],
    thresholds: int | Sequence[float] = 1000,
) -> Tensor:
    """Returns the area under the precision-recall curve of the pixels of all maps, with thresholds that all share.

    `sum over t of precision(t) * (recall(t) - recall(t + 1))`: precision is the share of the pixels at or above
    threshold t that lie in the masks, recall the share of the masks' pixels at or above it, both over all images
    together. Each map is min-max normalised before; a constant one becomes 0.

    Args:
        saliency: `(N, H, W)` or a list of `(H, W)`.
        masks: `(N, H, W)` bool, or a list of `(H, W)`, of the same sizes.
        thresholds: how many, evenly spaced from 0 to below 1, or the thresholds themselves, ascending in [0, 1]. Choe
            et al. use 1000.

    Returns:
        A scalar in [0, 1]; NaN if no mask has a pixel. Maps with a value that is not finite are left out.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    Source: Choe et al., "Evaluating weakly supervised object localization methods right", CVPR 2020, Sec. 4.2 (PxAP).

    Example:
        >>> masks = torch.tensor([[[True, False, True, False]]])
        >>> pixel_average_precision(torch.tensor([[[1.0, 0.9, 0.4, 0.0]]]), masks)
        tensor(0.8333)
    """
    maps = split_maps(saliency)
    return _average_precision(_histograms(maps, check_masks(masks, maps), threshold_grid(thresholds))[0])


def _histograms(maps: Sequence[Tensor], masks: Sequence[Tensor], grid: Tensor) -> tuple[Tensor, int]:
    """Counts pixels.

    Returns:
        Those outside and inside the masks `(2, T + 1)` by the number of thresholds that they reach, and the number of
        maps that were finite.
    """
    bins = len(grid) + 1
    counts, used = torch.zeros(2, bins, dtype=torch.long), 0
    for one, mask in zip(maps, masks, strict=True):
        if not torch.isfinite(one).all():
            continue
        reached = thresholds_reached(one, grid)
        counts += torch.bincount((reached + bins * mask).flatten(), minlength=2 * bins).view(2, bins).cpu()
        used += 1
    return counts, used


def _average_precision(counts: Tensor) -> Tensor:
    """Returns the area under the curve from `_histograms`."""
    salient = counts.flip(1).cumsum(1).flip(1)[:, 1:]  # pixels at or above each threshold
    precision = salient[1] / salient.sum(0).clamp(min=1)
    return (precision * (counts[1, 1:] / counts[1].sum())).sum()


class PixelAveragePrecision(LocalisationMetric):
    """Area under the pixels' precision-recall curve over all samples (PxAP). Higher is better.

    Made for masks: boxes count with all pixels inside. Samples weigh by their pixels, not equally. A map without
    information scores the share of all pixels that the objects cover.

    As input to `update` and `forward`: `saliency`, `targets` and `objects` as `PointingGame`, with the same samples
    skipped; maps with a value that is not finite are skipped, too. A map that `valid` calls without information counts
    as constant, which is 0 everywhere.

    As output of `compute` and `forward`: a scalar in [0, 1]; NaN where no sample counted.

    Args:
        thresholds: see `pixel_average_precision`.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    Source: see `pixel_average_precision`.

    Example:
        >>> objects = [{"masks": torch.tensor([[[True, False, True, False]]]), "labels": torch.tensor([2])}]
        >>> metric = PixelAveragePrecision()
        >>> metric(torch.tensor([[[1.0, 0.9, 0.4, 0.0]]]), torch.tensor([2]), objects)
        tensor(0.8333)
    """

    skipped_state = "pixel_skipped"
    pixel_counts: Tensor
    pixel_skipped: Tensor

    def __init__(self, thresholds: int | Sequence[float] = 1000, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.thresholds = thresholds
        self._add_count("pixel_counts", 2, len(threshold_grid(thresholds)) + 1)
        self._add_count("pixel_skipped")

    def _measure(self, samples: list[Sample]) -> None:
        regions = [sample.objects.region(sample.saliency) for sample in samples]
        counts, used = _histograms([one.saliency for one in samples], regions, threshold_grid(self.thresholds))
        self._increase("pixel_counts", counts)
        self._increase("pixel_skipped", len(samples) - used)

    def compute(self) -> Tensor:
        """Returns the area, a scalar in [0, 1]; NaN where no sample counted."""
        return _average_precision(self.pixel_counts)
