"""The colour map of saliency, and overlays of saliency on images.

Tensors in, uint8 tensors out, each on the device of its input. A wrong type or a NaN, which an image logger would
accept silently, is an error here.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sess_lightning.render.picture import check_finite, check_picture

# The 256 colours, lowest first, as "rrggbb"; the viewer's page takes them from the same file. They are a path in OKLab
# (B. Ottosson, "A perceptual color space for image processing", 2020): lightness rises in equal steps from .14 to .96
# while the hue turns on an arc around (a, b) = (.044, .027) of radius .119, from -110.5 to 136.6 degrees. All steps of
# such a helix are of equal length, which is what "perceptually uniform" means. A random search for the longest such
# path inside sRGB found these numbers.
_TABLE = Path(__file__).parents[1] / "viewer" / "static" / "colormap.json"

_GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma, as Pillow's "L"


def colorize(saliency: Tensor) -> Tensor:
    """Map saliency to colours from near-black violet over magenta and orange to pale yellow.

    The colour map is perceptually uniform, and lightness rises linearly with the value, so that it can be read without
    colour vision and when printed in grey.

    Args:
        saliency: `(..., H, W)`, floating point, in [0, 1]; values outside are clamped.

    Returns:
        `(..., 3, H, W)` uint8 on the device of `saliency`.

    Raises:
        ValueError: if `saliency` is not floating point, has fewer than two dimensions, no pixels, or is not finite.

    Example:
        >>> colorize(torch.tensor([[0.0, 0.5, 1.0]])).permute(1, 2, 0).tolist()
        [[[3, 1, 43], [193, 59, 73], [244, 250, 156]]]
    """
    check_finite("saliency", saliency, "(..., H, W)", 2)
    index = (saliency.float().clamp(0, 1) * 255).round().long()
    return torch.from_numpy(_table()).to(saliency.device)[index].movedim(-1, -3).contiguous()


def overlay(image: Tensor, saliency: Tensor, opacity: float = 0.65) -> Tensor:
    """Blend a picture with the colours of its saliency so that both stay readable.

    The picture is shown in grey, since its own colours could be mistaken for saliency.

    Args:
        image: `(3, H, W)` uint8.
        saliency: `(H, W)`, floating point, in [0, 1]; values outside are clamped.
        opacity: share of the saliency's colour, in [0, 1]; at 0.65 the picture is still visible where saliency is low.

    Returns:
        `(3, H, W)` uint8 on the device of `image`.

    Raises:
        ValueError: if a shape, a type or the opacity is not as above, or the saliency is not finite.

    Example:
        >>> overlay(torch.full((3, 1, 2), 255, dtype=torch.uint8), torch.tensor([[0.0, 1.0]])).flatten(1).T.tolist()
        [[91, 90, 117], [248, 252, 191]]
    """
    check_picture("image", image)
    check_finite("saliency", saliency, "(H, W)", 2, exact=True)
    if saliency.shape != image.shape[-2:]:
        raise ValueError(
            f"Expected argument `saliency` to have the image's size {tuple(image.shape[-2:])}, but got "
            f"{tuple(saliency.shape)}. Resize it, e.g. with torch.nn.functional.interpolate."
        )
    if not 0 <= opacity <= 1:
        raise ValueError(f"Expected argument `opacity` to be in [0, 1], but got {opacity!r}.")
    grey = torch.einsum("chw,c->hw", image.float(), torch.tensor(_GREY, device=image.device))
    colours = colorize(saliency.to(image.device)).float()
    return (grey + opacity * (colours - grey)).round().clamp(0, 255).to(torch.uint8)


@cache
def _table() -> np.ndarray:
    """The 256 colours, `(256, 3)` uint8 sRGB, lowest first."""
    colours = json.loads(_TABLE.read_text(encoding="utf-8"))
    return np.array([list(bytes.fromhex(colour)) for colour in colours], dtype=np.uint8)
