"""The base method alone on the whole image: what SESS is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sess_lightning.pixels import minmax
from sess_lightning.probing import default_batch_size, model_device, probe
from sess_lightning.saliency.base import explain
from sess_lightning.sess.algorithm import SESS
from sess_lightning.sess.fusion import normalised_maps


def base_maps(
    sess: SESS, model: nn.Module, squashed: Tensor, targets: Tensor, images: Sequence[Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Explain the whole images by the base method of `sess`, and bring the maps to the size of the images.

    Args:
        sess: gives the method and the batch size.
        model: any classifier.
        squashed: the whole images squashed to the window, `(B, C, h, w)`, on the model's device.
        targets: `(B,)` long, the classes to explain.
        images: the images themselves, `(C, H, W)` each.

    Returns:
        One map `(H, W)` in [0, 1] an image, and `(B,)` bool: False where it is constant or not finite.
    """
    window = (squashed.shape[-2], squashed.shape[-1])
    count = sess.batch_size or default_batch_size(model_device(model, squashed.device), window)
    with probe(model):
        parts = zip(squashed.split(count), targets.split(count), strict=True)
        maps = torch.cat([explain(sess.method, model, part, classes).maps for part, classes in parts])
    valid = minmax(maps)[1]
    resized = [
        F.interpolate(m[None, None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
        for m, image in zip(normalised_maps(maps, window), images, strict=True)
    ]
    return resized, valid
