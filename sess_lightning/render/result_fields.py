"""What the figures read of a `SESSResult`, so that drawing does not depend on the algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from sess_lightning.render.picture import check_picture


class ResultFields(Protocol):
    """The fields of `SESSResult` that the figures read; that class documents them."""

    @property
    def maps(self) -> Tensor | Sequence[Tensor]:
        """One map `(H, W)` per image."""

    @property
    def targets(self) -> Tensor:
        """The explained classes, `(B,)` long."""

    @property
    def scores(self) -> Sequence[Tensor]:
        """The score of every patch, `(P,)` per image."""

    @property
    def windows(self) -> Sequence[Tensor]:
        """Corners x1, y1, x2, y2 and the scaled image's height and width, `(P, 6)` per image."""

    @property
    def kept(self) -> Sequence[Tensor]:
        """Indices of the patches that passed the pre-filter, `(K,)` per image."""

    @property
    def patch_maps(self) -> Sequence[Tensor] | None:
        """The calibrated maps of the kept patches, `(K, H, W)` per image."""

    @property
    def unsmoothed(self) -> Sequence[Tensor] | None:
        """The maps before smoothing, `(H, W)` per image."""


def window_boxes(windows: Tensor, picture: Tensor) -> Tensor:
    """Windows as boxes in the pixels of a picture of any size.

    Args:
        windows: `(P, 6)`: x1, y1, x2, y2 in the scaled image, and that image's height and width.
        picture: `(3, H, W)`.

    Returns:
        `(P, 4)` float64: x1, y1, x2, y2.
    """
    x = windows[:, 0:4:2].double() * picture.shape[2] / windows[:, 5:6]
    y = windows[:, 1:4:2].double() * picture.shape[1] / windows[:, 4:5]
    return torch.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1)


def check_image(image: Tensor, result: ResultFields, number: int) -> None:
    """Raise a `ValueError` unless `image` is a picture of the size of the result's map."""
    check_picture("image", image)
    size = tuple(result.maps[number].shape)
    if tuple(image.shape[1:]) != size:
        raise ValueError(
            f"Expected argument `image` to be the image that was explained, of {size[0]} x {size[1]} pixels, but got "
            f"{image.shape[1]} x {image.shape[2]}."
        )
