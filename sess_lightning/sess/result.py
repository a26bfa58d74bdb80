"""What SESS found, image by image, and how a notebook shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from sess_lightning.checks import check_images
from sess_lightning.class_names import class_name
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.render.colormap import overlay
from sess_lightning.render.normalization import denormalize
from sess_lightning.render.photo_page import PhotoRow, explanation_page
from sess_lightning.render.picture import as_pillow
from sess_lightning.render.text import DOT


@dataclass
class SESSResult:
    """What SESS found, image by image.

    Attributes:
        maps: `(B, H, W)` in [0, 1], float32 (float64 for float64 models), on the model's device; a list of `(H, W)`
            where the sizes differ.
        targets: `(B,)` long, the classes explained.
        scores: one `(P,)` an image: probability of the class for every patch, `S^c` in the paper.
        windows: one `(P, 6)` int an image: x1, y1, x2, y2 in the scaled image, then its height and width.
        kept: one `(K,)` long an image: the patches that passed the pre-filter, ascending.
        valid: `(B,)` bool: False where the fused map was constant or not finite, and so is given as zeros.
        patch_maps: with `keep_patches=True` one `(K, H, W)` an image: the calibrated maps `L` of the kept patches,
            unweighted.
        unsmoothed: with `keep_patches=True` the maps before smoothing, one `(H, W)` an image.
    """

    maps: Tensor | list[Tensor]
    targets: Tensor
    scores: list[Tensor]
    windows: list[Tensor]
    kept: list[Tensor]
    valid: Tensor
    patch_maps: list[Tensor] | None = None
    unsmoothed: list[Tensor] | None = None

    def overlay(
        self,
        images: Tensor | Sequence[Tensor],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        opacity: float = 0.65,
    ) -> list[Image.Image]:
        """Each image under the colours of its map, as Pillow images: the last value of a notebook's cell is shown.

        Args:
            images: those that were explained, as they were given to SESS, or the same as uint8 pictures `(3, H, W)`.
            mean: that the images were normalised with; ImageNet's by default. Not used for uint8.
            std: likewise.
            opacity: share of the colours, in [0, 1]; at 0.65 outlines are still seen where the saliency is low.

        Raises:
            ValueError: if the images are not those that were explained.

        Example::

            result.overlay(images)[0]
        """
        pictures = _pictures(self, images, mean, std)
        maps = [saliency.cpu().float().clamp(0, 1) for saliency in self.maps]
        return [as_pillow(overlay(picture, m, opacity)) for picture, m in zip(pictures, maps, strict=True)]

    def figure(
        self,
        images: Tensor | Sequence[Tensor],
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        class_names: Mapping[int, str] | Sequence[str] | None = None,
        panel_height: int = 320,
    ) -> Image.Image:
        """One page for all images: each with its map, its class, and the scores of its patches on every scale.

        Args:
            images: as in `overlay`.
            mean: as in `overlay`.
            std: likewise.
            class_names: names by class index; None writes the index.
            panel_height: of each picture, in pixels, at least 32; 320 is read without zooming.

        Raises:
            ValueError: if the images are not those that were explained.

        Example::

            result.figure(images, class_names=["cat", "dog"])
        """
        rows = []
        for number, picture in enumerate(_pictures(self, images, mean, std)):
            scores = self.scores[number].cpu()
            target = int(self.targets[number])
            known = class_name(target, class_names)
            name = f"class {target}" if known == str(target) else f"{known} ({target})"
            maps = {"SESS": self.maps[number].cpu().float().clamp(0, 1)}
            caption = f"{name}{DOT}best patch {float(scores.nan_to_num(0).max()):.1%}"
            rows.append(PhotoRow(picture, maps, caption, self.windows[number], scores))
        return as_pillow(explanation_page(rows, panel_height=panel_height))


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
