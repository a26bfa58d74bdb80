"""Maximal box accuracy: IoU of the objects' boxes and of boxes around the map's pixels above the best threshold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sess_lightning.boxes import check_boxes, pixel_boxes, xyxy_boxes
from sess_lightning.checks import check_choice
from sess_lightning.metrics.connected_components import boxes_by_level
from sess_lightning.metrics.objects import LocalisationMetric, Sample
from sess_lightning.metrics.saliency_input import check_same_count, split_maps

Components = Literal["all", "largest"]


def best_box_ious(
    saliency: Tensor | Sequence[Tensor],
    boxes: Sequence[Tensor],
    thresholds: int | Sequence[float] = 100,
    components: Components = "all",
) -> Tensor:
    """Returns the best IoU, at each threshold, of a box around salient pixels and a box of the objects.

    The map is min-max normalised; the pixels at or above the threshold fall into 8-connected components, each with its
    tightest box. Computed on the CPU.

    Args:
        saliency: `(N, H, W)` or a list of `(H, W)`.
        boxes: a list of `(M, 4)`: x1, y1, x2, y2 in pixels of the map, or `tv_tensors.BoundingBoxes`; read as the
            pixels inside.
        thresholds: how many, evenly spaced from 0 to below 1, or the thresholds themselves, ascending in [0, 1]. Choe
            et al. use 1000 on maps of 8 bits; 100 find nearly the same best.
        components: `"all"` boxes compete (MaxBoxAccV2), or only the `"largest"` component by area (MaxBoxAcc).

    Returns:
        `(N, T)` in [0, 1], float32, on the CPU; NaN for a map with a value that is not finite.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    Source: Choe et al., "Evaluating weakly supervised object localization methods right", CVPR 2020.

    Example:
        >>> saliency = torch.tensor([[[0.0, 1.0, 1.0, 0.4]]])
        >>> best_box_ious(saliency, [torch.tensor([[1.0, 0, 3, 1]])], thresholds=[0.0, 0.25, 0.5])
        tensor([[0.5000, 0.6667, 1.0000]])
    """
    check_choice("components", components, ("all", "largest"))
    grid = threshold_grid(thresholds)
    maps = split_maps(saliency)
    check_same_count("boxes", len(boxes), len(maps))
    boxes = [xyxy_boxes(own, f"entry {number} of argument `boxes`") for number, own in enumerate(boxes)]
    for number, own in enumerate(boxes):
        check_boxes(f"entry {number} of argument `boxes`", own, ascending=True)
        if len(own) == 0:
            raise ValueError(f"Expected entry {number} of argument `boxes` to hold at least one box, but got none.")
    rows = [
        _map_ious(one.cpu(), pixel_boxes(own.cpu(), (one.shape[0], one.shape[1])), grid, components == "largest")
        for one, own in zip(maps, boxes, strict=True)
    ]
    return torch.stack(rows) if rows else torch.zeros(0, len(grid))


class MaxBoxAccuracy(LocalisationMetric):
    """Share of samples whose object is localised by a box around the map at one common threshold. Higher is better.

    `MaxBoxAcc(d) = max over t of mean over samples of [best IoU at threshold t >= d]`; `compute` averages it over the
    IoU thresholds `d`.

    As input to `update` and `forward`: `saliency`, `targets` and `objects` as `PointingGame`, with the same samples
    skipped. A crowd's box is no object's; samples of crowds only, and maps with a value that is not finite, are
    skipped, too. Where only masks are given, the tightest boxes around them count. A map that `valid` calls without
    information counts as constant, which boxes the whole image.

    As output of `compute` and `forward`: a scalar in [0, 1]; NaN where no sample counted.

    Args:
        iou_thresholds: values in (0, 1]. .3, .5 and .7 as in Choe et al.: from coarse to fine localisation.
        thresholds: thresholds of the map, see `best_box_ious`.
        components: `"all"` or `"largest"`, see `best_box_ious`.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    Source: Choe et al., "Evaluating weakly supervised object localization methods right", CVPR 2020. The mean over
    three IoU thresholds and boxes around all components are MaxBoxAccV2 of the authors' repository and extended paper.

    Example:
        >>> objects = [{"boxes": torch.tensor([[1.0, 0, 3, 1]]), "labels": torch.tensor([0])}]
        >>> metric = MaxBoxAccuracy(thresholds=[0.0, 0.25])
        >>> metric(torch.tensor([[[0.0, 1.0, 1.0, 0.4]]]), torch.tensor([0]), objects)
        tensor(0.6667)
        >>> metric.iou_accuracies()
        tensor([1., 1., 0.])
    """

    skipped_state = "max_box_skipped"
    max_box_hits: Tensor
    max_box_total: Tensor
    max_box_skipped: Tensor

    def __init__(
        self,
        iou_thresholds: Sequence[float] = (0.3, 0.5, 0.7),
        thresholds: int | Sequence[float] = 100,
        components: Components = "all",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if len(iou_thresholds) == 0 or not all(0 < iou <= 1 for iou in iou_thresholds):
            raise ValueError(f"Expected argument `iou_thresholds` to hold values in (0, 1], got {iou_thresholds!r}.")
        check_choice("components", components, ("all", "largest"))
        self.iou_thresholds = tuple(iou_thresholds)
        self.thresholds = thresholds
        self.components = components
        self._add_count("max_box_hits", len(self.iou_thresholds), len(threshold_grid(thresholds)))
        self._add_count("max_box_total")
        self._add_count("max_box_skipped")

    def _measure(self, samples: list[Sample]) -> None:
        boxed = [(s.saliency, boxes) for s in samples if len(boxes := s.objects.pixel_boxes(s.saliency))]
        ious = best_box_ious([one for one, _ in boxed], [b for _, b in boxed], self.thresholds, self.components)
        finite = torch.isfinite(ious).all(1)
        wanted = torch.tensor(self.iou_thresholds)[:, None, None]
        self._increase("max_box_hits", (ious >= wanted).sum(1))  # NaN reaches no threshold
        self._increase("max_box_total", finite.sum())
        self._increase("max_box_skipped", len(samples) - finite.sum())

    def compute(self) -> Tensor:
        """Returns the mean over the IoU thresholds, a scalar in [0, 1]; NaN where no sample counted."""
        return self._accuracies().mean()

    def iou_accuracies(self) -> Tensor:
        """Returns the accuracy `(D,)` at each of `iou_thresholds` over all processes. Collective call."""
        with self._synced():
            return self._accuracies()

    def _accuracies(self) -> Tensor:
        return (self.max_box_hits / self.max_box_total).amax(1)


def threshold_grid(thresholds: int | Sequence[float]) -> Tensor:
    """Returns thresholds `(T,)` of a normalised map: so many, evenly spaced from 0, or those that are given."""
    if isinstance(thresholds, int) and not isinstance(thresholds, bool) and thresholds > 0:
        return torch.arange(thresholds) / thresholds
    if isinstance(thresholds, (list, tuple)) and thresholds:
        grid = torch.tensor(thresholds, dtype=torch.float32)
        if grid.ndim == 1 and ((grid >= 0) & (grid <= 1)).all() and (grid.diff() > 0).all():
            return grid
    raise ValueError(
        "Expected argument `thresholds` to be a positive int or a list of values in [0, 1], ascending, but got "
        f"{thresholds!r}."
    )


def thresholds_reached(saliency: Tensor, grid: Tensor) -> Tensor:
    """Returns how many thresholds each pixel of a finite map `(H, W)` reaches once it is min-max normalised.

    Args:
        saliency: a constant map becomes 0.
        grid: `(T,)`, ascending.
    """
    low, high = saliency.aminmax()
    normalised = (saliency - low) / (high - low) if high > low else torch.zeros_like(saliency)
    return torch.bucketize(normalised, grid.to(normalised), right=True)


def _map_ious(saliency: Tensor, boxes: Tensor, grid: Tensor, only_largest: bool) -> Tensor:
    """Returns the best IoU at each threshold `(T,)` for one map `(H, W)` and its pixel boxes `(M, 4)`."""
    if not torch.isfinite(saliency).all():
        return torch.full((len(grid),), torch.nan)
    levels = thresholds_reached(saliency, grid) - 1  # level t: at or above threshold t
    best = torch.zeros(len(grid))
    for level, found, areas in boxes_by_level(levels):
        if only_largest:
            found = found[areas.argmax()][None]
        best[level] = _box_ious(found, boxes).max()
    return best


def _box_ious(a: Tensor, b: Tensor) -> Tensor:
    """Returns the IoU `(N, M)` of pixel boxes `(N, 4)` and `(M, 4)`; 0 for boxes without pixels."""
    first, last = torch.maximum(a[:, None, :2], b[:, :2]), torch.minimum(a[:, None, 2:], b[:, 2:])
    shared = (last - first).clamp(min=0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1] - shared).clamp(min=1)
