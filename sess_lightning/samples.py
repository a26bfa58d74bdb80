"""Images, labels, boxes or masks of one validation batch, read from the usual forms of batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors

from sess_lightning.boxes import xyxy_boxes
from sess_lightning.labels import UNKNOWN, class_indices

__all__ = ["UNKNOWN", "Objects", "Samples", "batch_to_samples", "describe", "target_label"]

IMAGE_KEYS = ("image", "images", "pixel_values", "img", "imgs", "x", "input", "inputs", "data")
LABEL_KEYS = (
    "label", "labels", "target", "targets", "y", "class", "classes", "class_id", "class_idx", "class_label",
    "class_labels",
)  # fmt: skip
OBJECT_KEYS = ("objects", "boxes", "bbox_xyxy")

_WAY_OUT = (
    "Pass batch_to_samples=, a function from your batch to sess_lightning.samples.Samples(images, labels, objects), "
    "to SESSCallback."
)

Objects = dict[str, Tensor]


@dataclass
class Samples:
    """Images with their labels and objects, as far as they are known.

    Attributes:
        images: `(B, C, H, W)`, or a list of `(C, H, W)` of any sizes; floating point, normalised as the model expects.
        labels: `(B,)` long, -1 where unknown, or `None`.
        objects: for each image `None` or a detection target as torchvision writes it: `boxes` `(N, 4)` xyxy in pixels
            of the image or `masks` `(N, H, W)`, and `labels` `(N,)`. `tv_tensors.BoundingBoxes` are converted by their
            format.
        multi_label: whether some sample has several classes, of which `labels` holds the first.
        notes: what a user should be told about the batch, a sentence by kind.

    Raises:
        ValueError: if the numbers of images, labels and objects differ, or boxes are rotated.
    """

    images: Tensor | list[Tensor]
    labels: Tensor | None = None
    objects: list[Objects | None] | None = None
    multi_label: bool = False
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in (("labels", self.labels), ("objects", self.objects)):
            if value is not None and len(value) != len(self.images):
                raise ValueError(
                    f"Expected as many `{name}` as images, but got {len(value)} for {len(self.images)} images. "
                    f"{_WAY_OUT}"
                )
        if self.objects is not None:
            for image, target in zip(self.images, self.objects, strict=True):
                self.notes |= _canvas_note(image, target)
            self.objects = [target if target is None else _with_xyxy(target) for target in self.objects]

    def __len__(self) -> int:
        return len(self.images)

    def __add__(self, other: Samples) -> Samples:
        return Samples(
            [*self.images, *other.images],
            torch.cat([self._known_labels(), other._known_labels()]),
            [*self._known_objects(), *other._known_objects()],
        )

    def select(self, indices: Sequence[int]) -> Samples:
        """Returns copies of the samples at `indices` on the CPU, which later changes of the batch do not affect."""
        return Samples(
            [_clone(self.images[i]) for i in indices],
            None if self.labels is None else _clone(self.labels, list(indices)),
            None if self.objects is None else [_on(self.objects[i], torch.device("cpu"), copy=True) for i in indices],
        )

    def pick(self, indices: Sequence[int], device: torch.device) -> Samples:
        """Returns the samples at `indices` on `device`."""
        return Samples(
            [self.images[i].to(device) for i in indices],
            None if self.labels is None else self.labels[list(indices)].to(device),
            None if self.objects is None else [_on(self.objects[i], device) for i in indices],
        )

    def _known_labels(self) -> Tensor:
        return torch.full((len(self),), UNKNOWN) if self.labels is None else self.labels

    def _known_objects(self) -> list[Objects | None]:
        return [None] * len(self) if self.objects is None else self.objects


def batch_to_samples(batch: Any) -> Samples:
    """Read a batch of one of the usual forms.

    - images alone;
    - `(images, labels)`, labels as class indices or as rows of scores (one-hot, multi-hot, soft: the first largest),
      see `sess_lightning.labels.class_indices`;
    - `(images, targets)` with one detection target a sample: a dict of `boxes` or `masks` and `labels`. Its class is
      its `label` if there is one, else the class of its largest object, else unknown;
    - `(images, labels or targets, more...)`, where the rest holds no images;
    - a dict, named tuple or dataclass with images, and labels or objects if there are any, under the usual names.

    Raises:
        TypeError: for a batch of another form, or images that are not floating point.
        ValueError: if the images are no images, or the numbers of images and labels differ.

    Example:
        >>> samples = batch_to_samples((torch.rand(2, 3, 8, 8), torch.tensor([4, 1])))
        >>> len(samples), samples.labels
        (2, tensor([4, 1]))
    """
    if isinstance(batch, Samples):
        return batch
    images, labels, objects, notes = _parts(batch)
    _check_images(images, batch)
    images = images if isinstance(images, Tensor) else list(images)
    several = False
    try:
        if _is_targets(labels):
            labels, objects = torch.stack([target_label(target) for target in labels]), list(labels)
        if labels is not None:
            labels, several = class_indices(labels)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{error} The batch is {describe(batch)}. {_WAY_OUT}") from error
    if objects is not None:
        objects = _targets(objects, labels, batch)
    return Samples(images, labels, objects, several, notes)


def target_label(target: Mapping[str, Any]) -> Tensor:
    """The class of a detection target: its `label`, else the class of its largest object, else -1.

    Example:
        >>> target_label({"boxes": torch.tensor([[0, 0, 2, 2], [0, 0, 9, 9]]), "labels": torch.tensor([5, 7])})
        tensor(7)
    """
    if target.get("label") is not None:
        return class_indices(torch.as_tensor(target["label"]).reshape(1, -1))[0][0]
    labels = torch.as_tensor(target["labels"]).reshape(-1).long()
    known = labels >= 0
    if not known.any():
        return torch.tensor(UNKNOWN, device=labels.device)
    if target.get("masks") is not None:
        areas = torch.as_tensor(target["masks"]).flatten(1).sum(1)
    else:
        x1, y1, x2, y2 = xyxy_boxes(target["boxes"]).reshape(-1, 4).unbind(1)
        areas = (x2 - x1) * (y2 - y1)
    return labels[known][areas.to(labels.device)[known].argmax()]


_Parts = tuple[Any, Any, Any, dict[str, str]]


def _parts(batch: Any) -> _Parts:
    """Images, labels and objects, unchecked, and what to tell about them."""
    if isinstance(batch, Tensor):
        return batch, None, None, {}
    named = _named_parts(batch)
    if named is not None:
        return _by_name(named, batch)
    if isinstance(batch, (list, tuple)) and len(batch) == 1:
        return batch[0], None, None, {}
    if isinstance(batch, (list, tuple)) and len(batch) > 1:
        return _by_position(batch)
    raise TypeError(
        f"Expected a batch of images, (images, labels), (images, targets) or a dict, but got {describe(batch)}. "
        f"{_WAY_OUT}"
    )


def _named_parts(batch: Any) -> Mapping[str, Any] | None:
    """A dict, a dataclass, or a named tuple whose names say which part are the images."""
    if isinstance(batch, Mapping):
        return batch
    if is_dataclass(batch) and not isinstance(batch, type):
        return vars(batch)
    names = getattr(batch, "_fields", ())
    return dict(zip(names, batch, strict=True)) if set(names) & set(IMAGE_KEYS) else None


def _by_name(batch: Mapping[str, Any], given: Any) -> _Parts:
    images = _first(batch, IMAGE_KEYS, _is_of_tensors)
    if images is None:
        raise TypeError(
            f"Found no images in a batch that is {describe(given)}: none of the names {IMAGE_KEYS}. {_WAY_OUT}"
        )
    return images, *_known_by_name(batch), {}


def _known_by_name(parts: Mapping[str, Any]) -> tuple[Any, Any]:
    """Labels and objects out of named parts; labels of single objects go with their boxes."""
    objects = _first(parts, OBJECT_KEYS)
    of_objects = [key for key in LABEL_KEYS if key in parts and _one_per_box(parts[key], objects)]
    labels = _first(parts, [key for key in LABEL_KEYS if key not in of_objects], _is_no_text)
    if of_objects:
        rows = zip(objects, parts[of_objects[0]], strict=True)
        objects = [{"boxes": boxes, "labels": classes} for boxes, classes in rows]
        labels = objects if labels is None else labels
    return labels, objects


def _one_per_box(labels: Any, objects: Any) -> bool:
    """Whether labels belong to single boxes, as padded `(B, N)` or one `(N,)` an image, and not to images."""
    if isinstance(labels, Tensor) and isinstance(objects, Tensor):
        return labels.ndim == 2 and objects.ndim == 3 and labels.shape == objects.shape[:2]
    if not isinstance(labels, (list, tuple)) or not isinstance(objects, (list, tuple)) or len(labels) != len(objects):
        return False
    pairs = list(zip(labels, objects, strict=True))
    tensors = all(isinstance(one, Tensor) for pair in pairs for one in pair)
    return tensors and all(classes.ndim == 1 and 4 * len(classes) == boxes.numel() for classes, boxes in pairs)


def _by_position(batch: Sequence[Any]) -> _Parts:
    images, known, *rest = batch
    if any(map(_holds_images, batch[1:])):
        raise TypeError(
            f"Expected one image per sample, but several parts of the batch hold images: it is {describe(batch)}. "
            f"Say which to explain. {_WAY_OUT}"
        )
    notes = {}
    if rest:
        notes["parts"] = (
            f"reads the first part of the batch as images and the second as labels; it is {describe(batch)}. Where "
            f"that is wrong: {_WAY_OUT}"
        )
    if isinstance(known, Mapping):
        return images, *_known_by_name(known), notes
    return images, known, None, notes


def _holds_images(part: Any) -> bool:
    if isinstance(part, Tensor):
        return part.ndim > 3
    return isinstance(part, (list, tuple)) and len(part) > 0 and all(isinstance(p, Tensor) and p.ndim > 2 for p in part)


def _first(batch: Mapping[str, Any], keys: Sequence[str], fits: Callable[[Any], bool] = lambda value: True) -> Any:
    """The first entry that fits, else the first that is there, for an error to describe."""
    found = [batch[key] for key in keys if key in batch and batch[key] is not None]
    return next(filter(fits, found), found[0] if found else None)


def _is_of_tensors(value: Any) -> bool:
    return all(isinstance(one, Tensor) for one in (value if isinstance(value, (list, tuple)) else [value]))


def _is_no_text(value: Any) -> bool:
    return not any(isinstance(one, str) for one in (value if isinstance(value, (list, tuple)) else [value]))


def _check_images(images: Any, batch: Any) -> None:
    several = list(images) if isinstance(images, (list, tuple)) else [images]
    dims = 4 if isinstance(images, Tensor) else 3
    if not several or not all(isinstance(image, Tensor) for image in several):
        arrays = any(isinstance(image, np.ndarray) for image in several)
        hint = " Make tensors of them in the data set, e.g. with albumentations' ToTensorV2." if arrays else ""
        raise TypeError(
            f"Expected images as a tensor (B, C, H, W) or a list of (C, H, W) in {describe(batch)}.{hint} {_WAY_OUT}"
        )
    for image in several:
        if image.ndim != dims:
            raise ValueError(
                f"Expected images of shape {'(B, C, H, W)' if dims == 4 else '(C, H, W)'}, but the first part of "
                f"the batch has shape {tuple(image.shape)}: SESSCallback explains image classifiers only, one image "
                f"per sample. {_WAY_OUT}"
            )
        if _is_channels_last(image):
            raise ValueError(
                f"Expected images with their channels first, {'(B, C, H, W)' if dims == 4 else '(C, H, W)'}, but the "
                f"batch holds {tuple(image.shape)}, which looks like channels last. If your model takes that, it "
                f"needs a forward that permutes, and: {_WAY_OUT}"
            )
        if not image.is_floating_point():
            raise TypeError(
                f"Expected floating point images, normalised as the model expects, but the batch holds {image.dtype}. "
                "Convert them in the data set, e.g. with torchvision.transforms.v2.ToDtype(torch.float32, scale=True) "
                f"and Normalize, or: {_WAY_OUT}"
            )


def _is_channels_last(image: Tensor) -> bool:
    """Not every last dimension of 1 is one: a signal `(C, T, 1)` is an image for a network of `(k, 1)` kernels."""
    height, width, channels = image.shape[-3:]
    return min(height, width) > 4 and (channels in (3, 4) or (channels == 1 and height == width))


def _is_targets(labels: Any) -> bool:
    return (
        isinstance(labels, (list, tuple))
        and len(labels) > 0
        and all(isinstance(t, Mapping) and "labels" in t and ("boxes" in t or "masks" in t) for t in labels)
    )


def _targets(objects: Any, labels: Tensor | None, batch: Any) -> list[Objects | None]:
    """Read detection targets from a list of them, or from a list of boxes whose class is that of the image."""
    if _is_targets(objects):
        return [{key: value for key, value in target.items() if value is not None} for target in objects]
    if isinstance(objects, (list, tuple, Tensor)) and labels is not None and len(objects) == len(labels):
        if all(isinstance(boxes, Tensor) for boxes in objects):
            pairs = zip(objects, labels, strict=True)
            return [{"boxes": boxes, "labels": label.expand(boxes.numel() // 4)} for boxes, label in pairs]
        if all(boxes is None or _is_targets([boxes]) for boxes in objects):
            return list(objects)
    raise TypeError(
        "Expected objects as one dict of `boxes` (N, 4) or `masks` (N, H, W) and `labels` (N,) per image in "
        f"{describe(batch)}. "
        f"{_WAY_OUT}"
    )


def _with_xyxy(target: Objects) -> Objects:
    if target.get("boxes") is None:
        return target
    boxes = xyxy_boxes(target["boxes"], "`boxes` of a batch's objects")
    return {**target, "boxes": boxes.reshape(-1, 4) if boxes.numel() % 4 == 0 else boxes}


def _canvas_note(image: Tensor, target: Objects | None) -> dict[str, str]:
    boxes = None if target is None else target.get("boxes")
    size = tuple(image.shape[-2:])
    if not isinstance(boxes, tv_tensors.BoundingBoxes) or tuple(boxes.canvas_size) == size:
        return {}
    return {
        "canvas": f"got boxes of a picture of {boxes.canvas_size[0]} x {boxes.canvas_size[1]} pixels (canvas_size) "
        f"with an image of {size[0]} x {size[1]}, and compares them as they are: resize both by one transform."
    }


def describe(batch: Any) -> str:
    """Describe a batch for an error message: types, shapes and keys.

    Example:
        >>> describe({"left": torch.zeros(2, 3)})
        'a dict of left: Tensor (2, 3) float32'
    """
    named = _named_parts(batch)
    if named is not None:
        kind = "dict" if isinstance(batch, Mapping) else type(batch).__name__
        return f"a {kind} of {', '.join(f'{key}: {_item(value)}' for key, value in named.items())}"
    if isinstance(batch, (list, tuple)):
        shown = ", ".join(map(_item, batch[:4]))
        return f"a {type(batch).__name__} of {len(batch)}: {shown}{', ...' if len(batch) > 4 else ''}"
    return _item(batch)


def _item(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"Tensor {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, np.ndarray):
        return f"ndarray {value.shape} {value.dtype}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}{f' {type(value[0]).__name__}' if value else ''}"
    return type(value).__name__


def _clone(tensor: Tensor, rows: list[int] | None = None) -> Tensor:
    """A plain copy on the CPU, of some rows only if they are given, that is no inference tensor."""
    with torch.inference_mode(False), torch.no_grad():
        return (tensor if rows is None else tensor[rows]).detach().to("cpu", copy=True).as_subclass(Tensor)


def _on(target: Objects | None, device: torch.device, copy: bool = False) -> Objects | None:
    if target is None:
        return None
    with torch.inference_mode(False), torch.no_grad():
        return {k: v.detach().to(device, copy=copy) if isinstance(v, Tensor) else v for k, v in target.items()}
