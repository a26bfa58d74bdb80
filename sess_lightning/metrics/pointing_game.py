"""The pointing game: does the highest point of the saliency map lie on an object of the explained class?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sess_lightning.checks import check_choice, check_count
from sess_lightning.metrics.objects import LocalisationMetric, Sample

Average = Literal["micro", "macro", "macro_all"]
Subset = Literal["all", "difficult"]


def pointing_hits(points: Tensor, masks: Tensor | Sequence[Tensor], tolerance: float = 15) -> Tensor:
    """Returns whether points lie on, or nearer than `tolerance` to, a pixel of their masks.

    Distances are measured between pixel indices and are strict: a pixel at exactly `tolerance` is a miss.

    Args:
        points: `(N, 2)`: x, y in pixels, counted from 0; fractions and points outside the image are allowed.
        masks: `(N, H, W)` bool, or a list of `(H, W)`.
        tolerance: in pixels, at least 0. 15 is the benchmark's; 0: the (nearest) pixel itself must lie inside.

    Returns:
        `(N,)` bool.

    Raises:
        TypeError: if an argument is of a wrong type.
        ValueError: naming the argument, what was expected and what came.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018; TorchRay's `PointingGame`,
    whose tolerance 0 never hits.

    Example:
        >>> mask = torch.zeros(1, 20, 20, dtype=torch.bool)
        >>> mask[0, 3, 19] = True
        >>> pointing_hits(torch.tensor([[5, 3]]), mask), pointing_hits(torch.tensor([[4, 3]]), mask)
        (tensor([True]), tensor([False]))
    """
    check_tolerance(tolerance)
    if not isinstance(points, Tensor):
        raise TypeError(f"Expected argument `points` to be a tensor (N, 2), but got {type(points).__name__}.")
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"Expected argument `points` to have shape (N, 2), x and y, but got {tuple(points.shape)}.")
    if isinstance(masks, Tensor) and masks.ndim != 3:
        raise ValueError(f"Expected argument `masks` to have shape (N, H, W), but got {tuple(masks.shape)}.")
    if len(masks) != len(points):
        raise ValueError(
            f"Expected argument `masks` to hold a mask for each of {len(points)} points, but got {len(masks)}."
        )
    points = points if points.dtype == torch.float64 else points.float()
    hits = [_hit(point, mask, tolerance) for point, mask in zip(points, masks, strict=True)]
    return torch.stack(hits) if hits else torch.zeros(0, dtype=torch.bool, device=points.device)


def _hit(point: Tensor, mask: Tensor, tolerance: float) -> Tensor:
    if mask.ndim != 2:
        raise ValueError(f"Expected every mask of argument `masks` to have shape (H, W), but got {tuple(mask.shape)}.")
    if tolerance == 0:
        point = (point + 0.5).floor()  # the nearest pixel
    # Squared distance of every pixel of the mask from the point.
    horizontal = torch.arange(mask.shape[1], device=point.device, dtype=point.dtype) - point[0]
    vertical = torch.arange(mask.shape[0], device=point.device, dtype=point.dtype) - point[1]
    squares = vertical[:, None] ** 2 + horizontal**2
    near = squares == 0 if tolerance == 0 else squares < tolerance**2
    return (near & (mask.to(point.device) != 0)).any()


class PointingGame(LocalisationMetric):
    """Pointing accuracy: how often the highest point of the map hits an object of its class. Higher is better.

    The point is the first maximum in row-major order (NaN counts as the maximum, a constant map points at the
    corner), as in TorchRay. Pixel (x, y) is inside a box iff `floor(x1) <= x < ceil(x2)`, likewise y.

    As input to `update` and `forward`:

    - `saliency`: `(B, H, W)`, or a list of `(H, W)`, at the size of the image that boxes refer to; resized (bilinear)
      to masks
    - `targets`: `(B,)`, the explained class
    - `objects`: for each sample None or a dict with `"boxes"` `(N, 4)` (x1, y1, x2, y2) or `"masks"` `(N, H, W)`,
      `"labels"` `(N,)`, and optionally `"difficult"` and `"iscrowd"` `(N,)`. Crowds count as objects. A sample is
      skipped, and counted in `skipped`, where it has no object of its class, or only difficult ones (as VOC07 marks
      them); otherwise difficult objects can be hit. Objects without a pixel inside the image are none.
      `tv_tensors.BoundingBoxes` are converted by their format
    - `valid`: `(B,)` bool, e.g. `SESSResult.valid`: a map that carries no information (False) is a miss; `None`: all
      are judged by their maximum

    As output of `compute` and `forward`: a scalar in [0, 1]; NaN where no sample counted.

    Args:
        num_classes: needed for the macro averages and for `class_accuracies`, as states must agree over processes.
        tolerance: in pixels. 15 is the benchmark's and suits photos of some 300 to 500 pixels; 0: the exact pixel.
        average: `"micro"`: over samples. `"macro"`: over the classes seen. `"macro_all"`: over all classes, one never
            seen counts 0, as TorchRay reports.
        subset: `"all"`, or `"difficult"`: only samples whose objects of the class cover less than a quarter of the
            image, in an image with an object of another class.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    Source: Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018; Fong et al., ICCV 2019
    (TorchRay).

    Example:
        >>> saliency = torch.zeros(2, 60, 60)
        >>> saliency[:, 30, 30] = 1
        >>> objects = [{"boxes": torch.tensor([[25.0, 25, 40, 40]]), "labels": torch.tensor([3])},
        ...            {"boxes": torch.tensor([[50.0, 30, 60, 40]]), "labels": torch.tensor([3])}]
        >>> metric = PointingGame()
        >>> metric(saliency, torch.tensor([3, 3]), objects)
        tensor(0.5000)
    """

    skipped_state = "pointing_skipped"
    pointing_correct: Tensor
    pointing_total: Tensor
    pointing_skipped: Tensor

    def __init__(
        self,
        num_classes: int | None = None,
        tolerance: float = 15,
        average: Average = "micro",
        subset: Subset = "all",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_count("num_classes", num_classes, optional=True)
        check_tolerance(tolerance)
        check_choice("average", average, ("micro", "macro", "macro_all"))
        check_choice("subset", subset, ("all", "difficult"))
        if average != "micro" and num_classes is None:
            raise ValueError(
                f"Expected argument `num_classes` with average={average!r}, as the states of all processes must agree "
                "in shape, but got None. Pass the number of classes, or average='micro'."
            )
        self.num_classes = num_classes
        self.tolerance = tolerance
        self.average = average
        self.subset = subset
        for name in ("pointing_correct", "pointing_total"):
            self._add_count(name, num_classes or 1)
        self._add_count("pointing_skipped")

    def _measure(self, samples: list[Sample]) -> None:
        if not samples:
            return
        rows = self._rows([sample.target for sample in samples])
        hits, counted = zip(*(self._judge(sample) for sample in samples), strict=True)
        counts = torch.stack([torch.stack(hits), torch.stack(counted)]).long().to(self.device)  # (2, N)
        # Sum over samples: (2, N, 1) times the one-hot rows (N, K) gives hits and counts by class (2, K).
        per_class = (counts[:, :, None] * rows.to(self.device)).sum(1)
        self._increase("pointing_correct", per_class[0])
        self._increase("pointing_total", per_class[1])
        self._increase("pointing_skipped", len(samples) - per_class[1].sum())

    def compute(self) -> Tensor:
        """Returns the accuracy, a scalar in [0, 1]; NaN where no sample counted."""
        hits, total = self.pointing_correct, self.pointing_total
        if self.average == "micro":
            return hits.sum() / total.sum()
        sum_of_classes = (hits / total.clamp(min=1)).sum()
        seen = (total > 0).sum()
        if self.average == "macro":
            return sum_of_classes / seen
        return torch.where(seen > 0, sum_of_classes / len(total), torch.nan)

    def class_accuracies(self) -> Tensor:
        """Returns the accuracy `(num_classes,)` of each class over all processes; NaN for classes never seen.

        Collective call.

        Raises:
            ValueError: if the metric was made without `num_classes`.
        """
        if self.num_classes is None:
            raise ValueError(
                "Expected argument `num_classes` for accuracies by class, but got None. "
                "Make PointingGame(num_classes=...)."
            )
        with self._synced():
            return self.pointing_correct / self.pointing_total

    def _judge(self, sample: Sample) -> tuple[Tensor, Tensor]:
        """Returns whether the sample is a hit and whether it counts, as tensors: nothing waits for the device."""
        region = sample.objects.region(sample.saliency)
        index = sample.saliency.argmax()
        width = sample.saliency.shape[1]
        point = torch.stack([index % width, index // width])
        hit = pointing_hits(point[None], region[None], self.tolerance)[0] & sample.valid
        if self.subset == "all":
            return hit, torch.ones_like(hit)
        counts = (region.sum() * 4 < region.numel()) & sample.objects.distractor
        return hit & counts, counts

    def _rows(self, classes: list[int]) -> Tensor:
        """Returns the row of the states that each sample belongs to, one-hot `(N, num_classes or 1)`."""
        if self.num_classes is None:
            return torch.ones(len(classes), 1, dtype=torch.long)
        if max(classes) >= self.num_classes or min(classes) < 0:
            wrong = next(c for c in classes if not 0 <= c < self.num_classes)
            raise ValueError(
                f"Expected every value of argument `targets` to be in 0..{self.num_classes - 1}, as num_classes is "
                f"{self.num_classes}, but got {wrong}."
            )
        return F.one_hot(torch.tensor(classes), self.num_classes)


def check_tolerance(tolerance: Any) -> None:
    """Raise a `ValueError` unless `tolerance` is a finite number, at least 0."""
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or not 0 <= tolerance < math.inf:
        raise ValueError(f"Expected argument `tolerance` to be a number of pixels, at least 0, but got {tolerance!r}.")
