"""What is doubtful about the samples followed, said before they are explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sess_lightning.boxes import holds_pixels
from sess_lightning.samples import Samples

Note = tuple[str, str]


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


def notes_on_boxes(samples: Samples) -> Iterator[Note]:
    """What is doubtful about the boxes of samples on the CPU: kind and sentence."""
    total = outside = 0
    relative = True
    for image, target in zip(samples.images, samples.objects or [], strict=False):
        boxes = None if target is None else target.get("boxes")
        if boxes is None or boxes.numel() == 0 or boxes.shape[-1] != 4 or not torch.isfinite(boxes).all():
            continue  # none, or the metrics say what is wrong with them
        total += len(boxes)
        outside += int((~holds_pixels(boxes, (image.shape[-2], image.shape[-1]))).sum())
        relative = relative and float(boxes.max()) <= 1 < min(image.shape[-2:])
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
