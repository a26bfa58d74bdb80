"""Images, labels, boxes or masks of one validation batch, read from the usual forms of batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IMAGE_KEYS = ("image", "images", "pixel_values", "img", "imgs", "x", "input", "inputs")
LABEL_KEYS = ("label", "labels", "target", "targets", "y", "class", "classes")
OBJECT_KEYS = ("objects", "boxes")

UNKNOWN = -1
"""Label of a sample of unknown class, for which the predicted class is explained."""

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
            of the image or `masks` `(N, H, W)`, and `labels` `(N,)`.

    Raises:
        ValueError: if the numbers of images, labels and objects differ.
    """

    images: Tensor | list[Tensor]
    labels: Tensor | None = None
    objects: list[Objects | None] | None = None

    def __post_init__(self) -> None:
        for name, value in (("labels", self.labels), ("objects", self.objects)):
            if value is not None and len(value) != len(self.images):
                raise ValueError(
                    f"Expected as many `{name}` as images, but got {len(value)} for {len(self.images)} images. "
                    f"{_WAY_OUT}"
                )

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
    - `(images, labels)`, labels as class indices or as rows of scores (one-hot, multi-hot, soft: the first largest);
    - `(images, targets)` with one detection target a sample: a dict of `boxes` or `masks` and `labels`. Its class is
      its `label` if there is one, else the class of its largest object, else unknown;
    - a dict with images, and labels or objects if there are any, under the usual keys.

    Raises:
        TypeError: for a batch of another form, or images that are not floating point.
        ValueError: if the images are no images, or the numbers of images and labels differ.

    Example:
        >>> samples = batch_to_samples((torch.rand(2, 3, 8, 8), torch.tensor([4, 1])))
        >>> len(samples), samples.labels
        (2, tensor([4, 1]))
    """
    images, labels, objects = _parts(batch)
    _check_images(images, batch)
    images = images if isinstance(images, Tensor) else list(images)
    if _is_targets(labels):
        labels, objects = torch.stack([target_label(t) for t in labels]), list(labels)
    if labels is not None:
        labels = _class_indices(labels, batch)
    if objects is not None:
        objects = _targets(objects, labels, batch)
    return Samples(images, labels, objects)


def target_label(target: Mapping[str, Tensor]) -> Tensor:
    """Returns the class of a detection target: its `label`, else the class of its largest object, else -1.

    Example:
        >>> target_label({"boxes": torch.tensor([[0, 0, 2, 2], [0, 0, 9, 9]]), "labels": torch.tensor([5, 7])})
        tensor(7)
    """
    if "label" in target:
        return torch.as_tensor(target["label"]).reshape(()).long()
    labels = torch.as_tensor(target["labels"]).reshape(-1)
    if len(labels) == 0:
        return torch.tensor(UNKNOWN, device=labels.device)
    if target.get("masks") is not None:
        areas = target["masks"].flatten(1).sum(1)
    else:
        x1, y1, x2, y2 = target["boxes"].reshape(-1, 4).unbind(1)
        areas = (x2 - x1) * (y2 - y1)
    return labels[areas.argmax()].long()


def _parts(batch: Any) -> tuple[Any, Any, Any]:
    """Split a batch into images, labels and objects, without checks."""
    if isinstance(batch, Tensor):
        return batch, None, None
    if isinstance(batch, Mapping):
        images = _first(batch, IMAGE_KEYS)
        labels = _first(batch, LABEL_KEYS)
        objects = _first(batch, OBJECT_KEYS)
        if images is None:
            raise TypeError(
                f"Found no images in a batch that is {describe(batch)}: none of the keys {IMAGE_KEYS}. {_WAY_OUT}"
            )
        return images, labels, objects
    if isinstance(batch, (list, tuple)) and len(batch) == 1:
        return batch[0], None, None
    if isinstance(batch, (list, tuple)) and len(batch) == 2:
        return batch[0], batch[1], None
    raise TypeError(
        f"Expected a batch of images, (images, labels), (images, targets) or a dict, but got {describe(batch)}. "
        f"{_WAY_OUT}"
    )


def _first(batch: Mapping[str, Any], keys: Sequence[str]) -> Any:
    return next((batch[key] for key in keys if key in batch), None)


def _check_images(images: Any, batch: Any) -> None:
    several = list(images) if isinstance(images, (list, tuple)) else [images]
    dims = 4 if isinstance(images, Tensor) else 3
    if not several or not all(isinstance(image, Tensor) for image in several):
        raise TypeError(
            f"Expected images as a tensor (B, C, H, W) or a list of (C, H, W) in {describe(batch)}. {_WAY_OUT}"
        )
    for image in several:
        if image.ndim != dims:
            raise ValueError(
                f"Expected images of shape {'(B, C, H, W)' if dims == 4 else '(C, H, W)'}, but the first part of "
                f"the batch has shape {tuple(image.shape)}: SESSCallback explains image classifiers only. {_WAY_OUT}"
            )
        if not image.is_floating_point():
            raise TypeError(
                f"Expected floating point images, normalised as the model expects, but the batch holds {image.dtype}. "
                f"Convert them in the data set, or: {_WAY_OUT}"
            )


def _class_indices(labels: Any, batch: Any) -> Tensor:
    if isinstance(labels, (list, tuple)) and all(isinstance(label, int) for label in labels):
        labels = torch.tensor(labels)
    if not isinstance(labels, Tensor) or labels.ndim not in (1, 2):
        raise TypeError(
            "Expected labels as class indices (B,), or one row of scores per sample (B, K), in "
            f"{describe(batch)}. {_WAY_OUT}"
        )
    if labels.ndim == 2:
        labels = labels[:, 0] if labels.shape[1] == 1 else labels.float().argmax(1)
    if labels.is_floating_point() and not torch.equal(labels, labels.round()):
        raise ValueError(
            f"Expected labels to be whole numbers, the indices of classes, but got {labels[:4].tolist()}. {_WAY_OUT}"
        )
    return labels.long()


def _is_targets(labels: Any) -> bool:
    return (
        isinstance(labels, (list, tuple))
        and len(labels) > 0
        and all(isinstance(t, Mapping) and "labels" in t and ("boxes" in t or "masks" in t) for t in labels)
    )


def _targets(objects: Any, labels: Tensor | None, batch: Any) -> list[Objects | None]:
    """Read detection targets from a list of them, or from a list of boxes whose class is that of the image."""
    if _is_targets(objects):
        known = [{key: value for key, value in target.items() if value is not None} for target in objects]
        return [{**target, **_boxes(target)} for target in known]
    if isinstance(objects, (list, tuple, Tensor)) and labels is not None and len(objects) == len(labels):
        if all(isinstance(boxes, Tensor) for boxes in objects):
            flat = [boxes.reshape(-1, 4) for boxes in objects]
            return [{"boxes": b, "labels": label.expand(len(b))} for b, label in zip(flat, labels, strict=True)]
        if all(boxes is None or _is_targets([boxes]) for boxes in objects):
            return list(objects)
    raise TypeError(
        "Expected objects as one dict of `boxes` (N, 4) or `masks` (N, H, W) and `labels` (N,) per image in "
        f"{describe(batch)}. "
        f"{_WAY_OUT}"
    )


def _boxes(target: Mapping[str, Tensor]) -> Objects:
    return {"boxes": target["boxes"].reshape(-1, 4)} if "boxes" in target else {}


def describe(batch: Any) -> str:
    """Describe a batch for an error message: types, shapes and keys.

    Example:
        >>> describe({"left": torch.zeros(2, 3)})
        'a dict of left: Tensor (2, 3) float32'
    """
    if isinstance(batch, Mapping):
        return f"a dict of {', '.join(f'{key}: {_item(value)}' for key, value in batch.items())}"
    if isinstance(batch, (list, tuple)):
        shown = ", ".join(map(_item, batch[:4]))
        return f"a {type(batch).__name__} of {len(batch)}: {shown}{', ...' if len(batch) > 4 else ''}"
    return _item(batch)


def _item(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"Tensor {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__} of {len(value)}{f' {type(value[0]).__name__}' if value else ''}"
    return type(value).__name__


def _clone(tensor: Tensor, rows: list[int] | None = None) -> Tensor:
    """Returns a copy on the CPU that is no inference tensor, of the given rows only, if any."""
    with torch.inference_mode(False), torch.no_grad():
        return (tensor if rows is None else tensor[rows]).detach().to("cpu", copy=True)


def _on(target: Objects | None, device: torch.device, copy: bool = False) -> Objects | None:
    if target is None:
        return None
    with torch.inference_mode(False), torch.no_grad():
        return {k: v.detach().to(device, copy=copy) if isinstance(v, Tensor) else v for k, v in target.items()}
