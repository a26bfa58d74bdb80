"""What is doubtful about the samples followed, said before they are explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sess_lightning.boxes import holds_pixels
from sess_lightning.pixels import Size
from sess_lightning.samples import Samples

Note = tuple[str, str]

_SLACK = 0.02  # of a side: by less a box may lie over the border in any data, by rounding or a small rotation
# Boxes at least, and their share of all. By chance cut-out images have 8 there and none on the other sides once
# in 250 sets of samples.
_LEAST_OVER, _SHARE_OVER = 8, 0.2


def finite_images(samples: Samples, positions: Sequence[int]) -> list[int]:
    """Those of the positions whose image holds no NaN and no infinity: others cannot be explained."""
    return [i for i in positions if bool(torch.isfinite(samples.images[i]).all())]


def checked_bands(bands: Sequence[int] | None) -> tuple[int, ...] | None:
    """The argument `bands` as a tuple.

    Raises:
        ValueError: unless it is None, or one or three numbers of channels.
    """
    if bands is None:
        return None
    numbers = isinstance(bands, (list, tuple)) and all(type(band) is int and band >= 0 for band in bands)
    if not numbers or len(bands) not in (1, 3):
        raise ValueError(
            "Expected argument `bands` to be the numbers of three channels, for red, green and blue, or of one, "
            f"counted from 0, but got {bands!r}."
        )
    return tuple(bands)


def check_bands(bands: Sequence[int] | None, images: Sequence[Tensor] | Tensor) -> None:
    """Raise a `ValueError` unless the images have all the channels that are to be drawn."""
    for image in images if bands is not None else []:
        if max(bands or ()) >= image.shape[-3]:
            raise ValueError(
                f"Expected argument `bands` to name channels of the images, 0..{image.shape[-3] - 1}, but got "
                f"{tuple(bands or ())}."
            )


def notes_on(samples: Samples, activation: str) -> Iterator[Note]:
    """What to tell the user about a batch or a part of it: kind and sentence.

    Args:
        samples: as they were read.
        activation: of the callback's SESS.
    """
    yield from samples.notes.items()
    if samples.multi_label and activation == "softmax":
        yield (
            "multi-label",
            "got samples with several classes, but explains one of them (the first) by a softmax over all. For a "
            'multi-label model pass SESSCallback(sess=SESS(num_scales=4, window_size=None, activation="sigmoid")).',
        )


class BoxNotes:
    """What is doubtful about the boxes of one loader's samples, which come in parts.

    A data set may resize its images and leave boxes in pixels of the photo. Those that then lie wholly outside are
    certain to be wrong; others reach over the right or lower border, and none over the left or upper one. An image cut
    out of a larger one has boxes over all its borders, as likely over one as over another.
    """

    def __init__(self) -> None:
        self._total = self._over = self._before = self._outside = 0

    def add(self, samples: Samples) -> Iterator[Note]:
        """What to tell about samples on the CPU and those before: kind and sentence."""
        yield from notes_on_boxes(samples)
        for boxes, (height, width) in _boxes_of(samples):
            size = torch.tensor([width, height])
            slack = (size * _SLACK).clamp(min=2)
            self._total += len(boxes)
            self._over += int((boxes[:, 2:] > size + slack).any(1).sum())
            self._before += int((boxes[:, :2] < -slack).any(1).sum())
            self._outside += int((~holds_pixels(boxes, (height, width))).sum())
        if self._over >= max(_LEAST_OVER, _SHARE_OVER * self._total) and not self._before and not self._outside:
            yield (
                "boxes over the border",
                f"got {self._over} of {self._total} boxes that reach over the right or lower border of their image, "
                "and none over the left or upper one. Are they in pixels of the photo before it was resized? Then they "
                "need the same transform as the image, e.g. torchvision.transforms.v2 with tv_tensors.BoundingBoxes. "
                "If the images were cut off there, all is well.",
            )


def notes_on_boxes(samples: Samples) -> Iterator[Note]:
    """What is doubtful about the boxes of samples on the CPU: kind and sentence."""
    total = outside = 0
    relative = True
    for boxes, size in _boxes_of(samples):
        total += len(boxes)
        outside += int((~holds_pixels(boxes, size)).sum())
        relative = relative and float(boxes.max()) <= 1 < min(size)
    if total and relative:
        yield (
            "relative boxes",
            "got boxes whose coordinates are all at most 1, and reads them as pixels. Where they are shares of the "
            "image, multiply x by its width and y by its height, e.g. in batch_to_samples=.",
        )
    elif outside:
        yield (
            "boxes outside",
            f"leaves out {outside} of {total} boxes of the samples followed, as no pixel of the image is inside them. "
            "Boxes in pixels of the photo before it was resized need the same transform as the image.",
        )


def _boxes_of(samples: Samples) -> Iterator[tuple[Tensor, Size]]:
    """The boxes `(N, 4)` of each image that has some, and its height and width."""
    for image, target in zip(samples.images, samples.objects or [], strict=False):
        boxes = None if target is None else target.get("boxes")
        if boxes is None or boxes.numel() == 0 or boxes.shape[-1] != 4 or not torch.isfinite(boxes).all():
            continue  # none, or the metrics say what is wrong with them
        yield boxes, (image.shape[-2], image.shape[-1])
