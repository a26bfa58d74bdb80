"""Pictures of a `SESSResult` for notebooks: Pillow images, which show themselves as the last value of a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from sess_lightning.checks import check_images
from sess_lightning.render.colormap import overlay
from sess_lightning.render.normalization import denormalize
from sess_lightning.render.photo_page import PhotoRow, explanation_page
from sess_lightning.render.text import DOT

if TYPE_CHECKING:  # SESSResult draws itself with this package
    from sess_lightning.sess import SESSResult

Names = Mapping[int, str] | Sequence[str]


def result_overlays(
    result: SESSResult, images: Tensor | Sequence[Tensor], mean: Sequence[float], std: Sequence[float], opacity: float
) -> list[Image.Image]:
    """Each image under the colours of its map, at its own size."""
    pictures = _pictures(result, images, mean, std)
    maps = [saliency.cpu().float().clamp(0, 1) for saliency in result.maps]
    return [_pillow(overlay(picture, m, opacity)) for picture, m in zip(pictures, maps, strict=True)]


def result_figure(
    result: SESSResult,
    images: Tensor | Sequence[Tensor],
    mean: Sequence[float],
    std: Sequence[float],
    class_names: Names | None,
    panel_height: int,
) -> Image.Image:
    """One page: each image with its map, the class explained and the score of every patch."""
    pictures = _pictures(result, images, mean, std)
    rows = []
    for number, picture in enumerate(pictures):
        scores = result.scores[number].cpu()
        target = int(result.targets[number])
        name = f"class {target}" if class_names is None else f"{class_names[target]} ({target})"
        maps = {"SESS": result.maps[number].cpu().float().clamp(0, 1)}
        caption = f"{name}{DOT}best patch {float(scores.nan_to_num(0).max()):.1%}"
        rows.append(PhotoRow(picture, maps, caption, result.windows[number], scores))
    return _pillow(explanation_page(rows, panel_height=panel_height))


def _pictures(
    result: SESSResult, images: Tensor | Sequence[Tensor], mean: Sequence[float], std: Sequence[float]
) -> list[Tensor]:
    """The images as pictures `(3, H, W)` uint8 on the CPU, checked against the maps; uint8 pictures as they are."""
    shown = list(images) if isinstance(images, Tensor) else images
    if len(shown) and all(isinstance(one, Tensor) and one.dtype == torch.uint8 for one in shown):
        pictures = [one.cpu() for one in shown]
    else:
        pictures = [denormalize(one.cpu(), mean, std) for one in check_images(images)]
    sizes = [tuple(picture.shape[-2:]) for picture in pictures]
    wanted = [tuple(saliency.shape) for saliency in result.maps]
    if sizes != wanted:
        raise ValueError(
            f"Expected argument `images` to be the images that were explained, of sizes {wanted[:4]}, but got "
            f"{sizes[:4]}. Pass what was passed to SESS, or the same pictures as uint8."
        )
    return pictures


def _pillow(picture: Tensor) -> Image.Image:
    return Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
