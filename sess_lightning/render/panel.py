"""Pictures of any size in panels of one size, and evenly spaced choices of what a page shows."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import resize

from sess_lightning.render.page import Colour

_Item = TypeVar("_Item")

_MOUNT: Colour = (58, 61, 67)  # fills the panel around a picture of another aspect ratio


class Fit(NamedTuple):
    """Size and position of a picture in its panel, in pixels."""

    height: int
    width: int
    top: int
    left: int


def panel_size(images: Sequence[Tensor], panel_height: int) -> tuple[int, int]:
    """Height and width of a page's panels: the median aspect ratio of the images, limited to leave room for text."""
    if not isinstance(panel_height, int) or panel_height < 32:
        raise ValueError(
            f"Expected argument `panel_height` to be an int of at least 32 pixels, but got {panel_height!r}."
        )
    aspect = median(image.shape[2] / image.shape[1] for image in images)
    return panel_height, round(panel_height * min(max(aspect, 0.75), 1.5))


def fitted(image: Tensor, size: tuple[int, int]) -> Fit:
    """The largest centred position in a panel that keeps the image's aspect ratio."""
    scale = min(size[0] / image.shape[1], size[1] / image.shape[2])
    height, width = (min(most, max(1, round(n * scale))) for most, n in zip(size, image.shape[1:], strict=True))
    return Fit(height, width, (size[0] - height) // 2, (size[1] - width) // 2)


def resized(image: Tensor, fit: Fit) -> Tensor:
    """The image resized to its position; enlarged three times or more, its pixels are drawn as squares."""
    sharp = fit.height >= 3 * image.shape[1]
    mode = InterpolationMode.NEAREST_EXACT if sharp else InterpolationMode.BICUBIC
    return resize(image, [fit.height, fit.width], interpolation=mode, antialias=not sharp)


def panels_of(pictures: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
    """Fit pictures `(3, H, W)` uint8 of any sizes into panels `(3, *size)`."""
    fits = [fitted(picture, size) for picture in pictures]
    return [mounted(resized(p.cpu(), fit), fit, size) for p, fit in zip(pictures, fits, strict=True)]


def mounted(picture: Tensor, fit: Fit, size: tuple[int, int]) -> Tensor:
    """Place the fitted picture in its panel `(3, *size)`."""
    panel = torch.tensor(_MOUNT, dtype=torch.uint8).view(3, 1, 1).repeat(1, *size)
    panel[:, fit.top : fit.top + fit.height, fit.left : fit.left + fit.width] = picture
    return panel


def evenly_spaced(items: Sequence[_Item], count: int) -> list[_Item]:
    """At most `count` of the items, evenly spaced, the first and the last among them; the first where `count` is 1.

    Example:
        >>> evenly_spaced(range(10), 4), evenly_spaced(range(3), 4), evenly_spaced(range(3), 1)
        ([0, 3, 6, 9], [0, 1, 2], [0])
    """
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(count - 1, 1))] for i in range(count)]
