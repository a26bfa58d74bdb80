"""Bad input gets a clear error before work starts: options and images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def check_share(name: str, value: Any, advice: str = "") -> None:
    """Raise a `ValueError` unless `value` is a number in [0, 1)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        raise ValueError(f"Expected argument `{name}` to be in [0, 1), but got {value!r}.{advice}")


def check_step(step: tuple[int, int] | None, window: tuple[int, int] | None) -> None:
    """Raise a `ValueError` if steps of the window would leave gaps."""
    if window and step and any(s > w for s, w in zip(step, window, strict=True)):
        raise ValueError(
            f"Expected argument `step_size` to be at most `window_size` {window}, as a larger step leaves gaps, but "
            f"got {step}."
        )


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise a `ValueError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"Expected argument `{name}` to be one of {tuple(allowed)}, but got {value!r}.")


def check_count(name: str, value: Any, optional: bool = False) -> None:
    """Raise a `ValueError` unless `value` is a positive int, or None where that is allowed."""
    if not (optional and value is None) and not _is_positive_int(value):
        raise ValueError(
            f"Expected argument `{name}` to be a positive int{' or None' if optional else ''}, but got {value!r}."
        )


def check_images(images: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """Images as a list of `(C, H, W)`, outside inference mode; nothing is copied.

    Raises:
        TypeError: if they are not floating point tensors.
        ValueError: if there are none, one is not `(C, H, W)`, has no pixels, or is not finite, or channels differ.
    """
    if isinstance(images, Tensor) and images.ndim != 4:
        raise ValueError(
            f"Expected argument `images` to have shape (B, C, H, W), but got {tuple(images.shape)}. "
            "For one image pass image[None]; for images of different sizes a list of (C, H, W)."
        )
    if not isinstance(images, (Tensor, list, tuple)):
        raise TypeError(
            "Expected argument `images` to be a tensor (B, C, H, W) or a list of (C, H, W), but got "
            f"{type(images).__name__}."
        )
    if len(images) == 0:
        raise ValueError("Expected argument `images` to hold at least one image, but got none.")
    for number, image in enumerate(images):
        _check_image(number, image)
    channels = sorted({image.shape[0] for image in images})
    if len(channels) > 1:
        raise ValueError(f"Expected all of `images` to have the same number of channels, but got {channels}.")
    return [image.detach() for image in images]


def _check_image(number: int, image: Any) -> None:
    name = f"image {number} of argument `images`"
    if not isinstance(image, Tensor):
        raise TypeError(f"Expected {name} to be a tensor (C, H, W), but got {type(image).__name__}.")
    if image.ndim != 3:
        raise ValueError(f"Expected {name} to have shape (C, H, W), but got {tuple(image.shape)}.")
    if not image.is_floating_point():
        raise TypeError(
            f"Expected {name} to be floating point, normalised as the model expects, but got {image.dtype}. "
            "Convert it, e.g. with torchvision.transforms.v2.ToDtype(torch.float32, scale=True) and Normalize."
        )
    if image.numel() == 0:
        raise ValueError(
            f"Expected {name} to have at least one channel and one pixel, but got shape {tuple(image.shape)}."
        )
    if not torch.isfinite(image).all():
        raise ValueError(
            f"Expected {name} to be finite, but it holds NaN or infinity. Check its loading and normalisation."
        )


def check_scores(scores: Any, counts: Sequence[int]) -> None:
    """Raise a `ValueError` unless `scores` hold a tensor for each image with a score for each window, or are None."""
    if scores is None:
        return
    listed = isinstance(scores, (list, tuple))
    got = [tuple(getattr(one, "shape", ())) for one in scores] if listed else type(scores).__name__
    if got != [(count,) for count in counts]:
        raise ValueError(
            f"Expected argument `scores` to hold one tensor for each image, with {counts} scores, one a window, but "
            f"got {got}. Take `SESSResult.scores` of the same images and windows."
        )


def check_pyramid(num_scales: Any, scales: Any, window: Any) -> None:
    """Raise a `ValueError` unless exactly one of `num_scales` and `scales` says which scales, and the window fits."""
    if scales is None:
        check_count("num_scales", num_scales)
        return
    if num_scales is not None:
        raise ValueError(f"Expected only one of `num_scales` and `scales`, but got {num_scales!r} and {scales!r}.")
    if not scales or not all(_is_positive_int(s) for s in scales):
        raise ValueError(
            f"Expected argument `scales` to hold short sides in pixels, positive ints, but got {scales!r}."
        )
    if window is not None and min(scales) < min(window):
        raise ValueError(
            f"Expected every value of argument `scales` to be at least the window's {min(window)} pixels, but got "
            f"{min(scales)}."
        )


def check_pair(name: str, value: Any) -> None:
    """Raise a `ValueError` unless `value` is a pair of positive ints, or None."""
    if value is not None and not (isinstance(value, tuple) and len(value) == 2 and all(map(_is_positive_int, value))):
        raise ValueError(
            f"Expected argument `{name}` to be a positive int, a pair (vertical, horizontal) of them, or None, "
            f"but got {value!r}."
        )


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
