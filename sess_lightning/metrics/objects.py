"""Boxes or masks of the objects of a sample, for all metrics that compare saliency with them.

Pixel (x, y) is inside a box iff `floor(x1) <= x < ceil(x2)`, and likewise for y.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sess_lightning.boxes import check_boxes, holds_pixels, pixel_boxes, xyxy_boxes
from sess_lightning.logits import check_targets
from sess_lightning.metrics.base import SaliencyMetric
from sess_lightning.metrics.saliency_input import check_same_count, check_valid, resize_map, split_maps

Objects = Mapping[str, Any]


def boxes_to_mask(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the pixels inside any of the boxes, clipped to the image.

    Args:
        boxes: `(N, 4)`: x1, y1, x2, y2 in pixels, or `tv_tensors.BoundingBoxes` of an upright format.
        size: height and width of the image.

    Returns:
        `(H, W)` bool.

    Raises:
        ValueError: if the boxes are not `(N, 4)`, not finite or not ascending.

    Example:
        >>> boxes_to_mask(torch.tensor([[0.5, 0.0, 2.0, 1.0]]), (2, 3)).int()
        tensor([[1, 1, 0],
                [0, 0, 0]], dtype=torch.int32)
    """
    boxes = xyxy_boxes(boxes)
    check_boxes("argument `boxes`", boxes, ascending=True)
    return _boxes_to_mask(boxes, size)


def _boxes_to_mask(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    left, top, right, bottom = pixel_boxes(boxes, size)[:, None].unbind(-1)
    rows = torch.arange(size[0], device=boxes.device)
    columns = torch.arange(size[1], device=boxes.device)
    # A box is the outer product of its rows and columns, so the matrix product counts the boxes over each pixel.
    vertical = ((top <= rows) & (rows < bottom)).float()
    horizontal = ((left <= columns) & (columns < right)).float()
    return vertical.T @ horizontal > 0  # without a mask (H, W) per box


def mask_boxes(masks: Tensor) -> Tensor:
    """Returns the tightest pixel boxes `(N, 4)`, long, around masks `(N, H, W)`; zeros for an empty mask."""
    first_last = []
    for inside in (masks.any(1), masks.any(2)):  # columns (N, W), rows (N, H)
        # argmax gives the first pixel of the mask; on the flipped axis, its distance from the end.
        length = inside.shape[1]
        first = inside.float().argmax(1)
        last = length - inside.flip(1).float().argmax(1)
        some = inside.any(1)
        first_last.append((first * some, last * some))  # argmax of an empty mask is 0 as well: clear its last
    (left, right), (top, bottom) = first_last
    return torch.stack([left, top, right, bottom], 1)


@dataclass(frozen=True)
class ClassObjects:
    """The objects of the explained class in one sample.

    Attributes:
        boxes: `(N, 4)`: the given ones, else the tightest around the masks.
        masks: `(N, H, W)` bool, or None where only boxes were given.
        crowd: `(N,)` bool: whether the region holds many objects.
        distractor: whether an object of another class is in the image.
    """

    boxes: Tensor
    masks: Tensor | None
    crowd: Tensor
    distractor: bool

    def fit(self, saliency: Tensor) -> Tensor:
        """Returns the map resized to the masks; unchanged where there are only boxes, which refer to its size."""
        return saliency if self.masks is None else resize_map(saliency, (self.masks.shape[1], self.masks.shape[2]))

    def region(self, fitted: Tensor) -> Tensor:
        """Returns the union `(H, W)` bool of all objects, crowds too, at the size and on the device of `fitted`."""
        if self.masks is not None:
            return self.masks.to(fitted.device).any(0)
        return _boxes_to_mask(self.boxes.to(fitted.device), (fitted.shape[0], fitted.shape[1]))

    def pixel_boxes(self, fitted: Tensor) -> Tensor:
        """Returns one pixel box `(M, 4)` per object that is no crowd, on the CPU."""
        return pixel_boxes(self.boxes.cpu()[~self.crowd], (fitted.shape[0], fitted.shape[1]))


class Sample(NamedTuple):
    """A sample that can be judged: its map at the size of the objects' image, its class and their objects.

    Where the map is not valid, `saliency` is one everywhere.
    """

    saliency: Tensor
    target: int
    objects: ClassObjects
    valid: bool = True


def class_objects(
    sample: Objects | None, target: int, size: tuple[int, int], name: str = "objects"
) -> ClassObjects | None:
    """The objects of one class; None where there are none, or all are marked difficult (VOC07).

    There are none where `sample` is None or has an empty list of objects, too.

    Objects without a pixel inside the image are none: nobody can hit them.

    Args:
        sample: `{"boxes": (N, 4) xyxy or "masks": (N, H, W), "labels": (N,)}`, and optionally `"difficult": (N,)` and
            `"iscrowd": (N,)`. Where both are given, masks say which pixels belong to the objects. Boxes may be
            `tv_tensors.BoundingBoxes` of an upright format.
        target: the class.
        size: height and width of the image that boxes refer to.
        name: what an error calls the sample.

    Raises:
        TypeError: if `sample` is no mapping.
        ValueError: if an entry is missing or does not fit the others.
    """
    if sample is None or is_empty(sample):
        return None
    boxes, masks = _regions(sample, name)
    count = len(boxes)
    labels = _flags(sample, "labels", count, name)
    seen = (holds_pixels(boxes, size) if masks is None else masks.flatten(1).any(1)).cpu()
    chosen = (labels == target) & seen
    difficult = _flags(sample, "difficult", count, name).bool()
    if not (chosen & ~difficult).any():
        return None
    return ClassObjects(
        boxes=boxes[chosen.to(boxes.device)],
        masks=None if masks is None else masks[chosen.to(masks.device)],
        crowd=_flags(sample, "iscrowd", count, name).bool()[chosen],
        distractor=bool(((labels != target) & seen).any()),
    )


def is_empty(sample: Objects) -> bool:
    """Whether a sample has a list of objects with nothing in it: boxes of shape `(0,)` or `(0, 4)`, or no masks."""
    if not isinstance(sample, Mapping):
        return False
    sizes = [torch.as_tensor(sample[key]).numel() for key in ("boxes", "masks") if key in sample]
    return bool(sizes) and not any(sizes)


class LocalisationMetric(SaliencyMetric):
    """Base of the metrics that compare saliency with objects; needs the state `skipped_state`."""

    skipped_state: str
    _warned_empty: bool = False

    @property
    def skipped(self) -> int:
        """Number of samples left out on this process since the last reset, e.g. without an object of the class."""
        return int(getattr(self, self.skipped_state))

    def update(
        self,
        saliency: Tensor | Sequence[Tensor],
        targets: Tensor,
        objects: Sequence[Objects | None] | None,
        valid: Tensor | Sequence[bool] | None = None,
    ) -> None:
        """Measure further samples; shapes are given in the docstring of the class.

        Raises:
            TypeError: if an argument is of a wrong type.
            ValueError: naming the argument, what was expected and what came.
        """
        self._measure(self._judged(saliency, targets, objects, valid))

    @abstractmethod
    def _measure(self, samples: list[Sample]) -> None:
        """Add samples to the states; they may be none."""

    def _judged(
        self,
        saliency: Tensor | Sequence[Tensor],
        targets: Tensor,
        objects: Sequence[Objects | None] | None,
        valid: Tensor | Sequence[bool] | None,
    ) -> list[Sample]:
        """Returns the samples that have an object of their class, and counts the others as skipped."""
        maps = split_maps(saliency)
        classes = check_targets(targets, len(maps)).tolist()
        informative = check_valid(valid, len(maps))
        if objects is None:
            objects = [None] * len(maps)
        if isinstance(objects, (Mapping, Tensor)) or not isinstance(objects, Sequence):
            raise TypeError(
                "Expected argument `objects` to be a list with one dict (or None) per sample, but got "
                f"{type(objects).__name__}. For one sample pass [objects]."
            )
        check_same_count("objects", len(objects), len(maps))
        self._warn_empty([number for number, sample in enumerate(objects) if sample is not None and is_empty(sample)])
        judged = []
        for number, (one, target, sample, ok) in enumerate(zip(maps, classes, objects, informative, strict=True)):
            size = (one.shape[0], one.shape[1])
            found = class_objects(sample, target, size, f"sample {number} of argument `objects`")
            if found is not None:
                judged.append(Sample(found.fit(one if ok else torch.ones_like(one)), target, found, ok))
        self._increase(self.skipped_state, len(maps) - len(judged))
        return judged

    def _warn_empty(self, numbers: list[int]) -> None:
        if not numbers or self._warned_empty:
            return
        self._warned_empty = True
        warnings.warn(
            f"{type(self).__name__} skips samples with an empty list of objects; in this update: sample "
            f"{', '.join(map(str, numbers))}. Pass None for samples that are not annotated. Further ones are only "
            "counted, in `skipped`.",
            stacklevel=5,
        )


def _regions(sample: Objects, name: str) -> tuple[Tensor, Tensor | None]:
    """Returns boxes `(N, 4)`, those around the masks if none are given, and masks `(N, H, W)` bool or None."""
    if not isinstance(sample, Mapping):
        raise TypeError(f"Expected {name} to be a dict or None, but got {type(sample).__name__}.")
    masks = None
    if "masks" in sample:
        masks = torch.as_tensor(sample["masks"]) != 0
        if masks.ndim != 3:
            raise ValueError(f"Expected `masks` of {name} to have shape (N, H, W), but got {tuple(masks.shape)}.")
    if "boxes" in sample:
        boxes = xyxy_boxes(sample["boxes"], f"`boxes` of {name}")
        check_boxes(f"`boxes` of {name}", boxes, ascending=True)
    elif masks is not None:
        boxes = mask_boxes(masks)
    else:
        keys = sorted(map(str, sample))
        raise ValueError(f"Expected {name} to hold `boxes` (N, 4) or `masks` (N, H, W), but got keys {keys}.")
    if masks is not None and len(boxes) != len(masks):
        raise ValueError(
            f"Expected `boxes` and `masks` of {name} to be equally many, but got {len(boxes)} and {len(masks)}."
        )
    return boxes, masks


def _flags(sample: Objects, key: str, count: int, name: str) -> Tensor:
    """Returns the entry `key` `(count,)` on the CPU; zeros where an optional one is missing."""
    if key not in sample and key != "labels":
        return torch.zeros(count, dtype=torch.bool)
    if key not in sample:
        keys = sorted(map(str, sample))
        raise ValueError(f"Expected {name} to hold `labels` (N,), each object's class, but got keys {keys}.")
    flags = torch.as_tensor(sample[key]).cpu()
    if flags.shape != (count,) or flags.is_floating_point():
        raise ValueError(
            f"Expected `{key}` of {name} to hold one integer or bool for each of its {count} objects, "
            f"but got {flags.dtype} of shape {tuple(flags.shape)}."
        )
    return flags
