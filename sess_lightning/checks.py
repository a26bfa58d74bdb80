"""Bad input gets a clear error before work starts: options, devices and images."""

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


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Raise a `ValueError` unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"Expected argument `{name}` to be one of {tuple(allowed)}, but got {value!r}.")


def check_count(name: str, value: Any, optional: bool = False) -> None:
    """Raise a `ValueError` unless `value` is a positive int, or None where that is allowed."""
    if not (optional and value is None) and not is_positive_int(value):
        raise ValueError(
            f"Expected argument `{name}` to be a positive int{' or None' if optional else ''}, but got {value!r}."
        )


def chosen_device(name: str, argument: str = "device") -> torch.device:
    """Returns the device of that name; `"auto"` is CUDA where there is one, else the CPU.

    Args:
        name: `"auto"`, or a torch device.
        argument: what the name was given as.

    Raises:
        ValueError: if torch knows no such device, or this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except Exception as error:  # each kind of device raises something else where it is missing
        raise ValueError(
            f"Expected argument `{argument}` to be 'auto' or a torch device of this machine, but got {name!r}: "
            f"{(str(error).splitlines() or [''])[0]}"
        ) from error
    return device


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


def is_positive_int(value: Any) -> bool:
    """Whether `value` is an int above 0; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
