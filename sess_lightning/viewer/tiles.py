"""Maps as tiles of one 8-bit grey picture, images as small JPEGs."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from sess_lightning.pixels import resize
from sess_lightning.render.picture import as_pillow

Tile = npt.NDArray[np.uint8]
Place = list[int]
"""Left and top, width and height of a tile in the picture."""

LONGEST_IMAGE = 512
_QUALITY = 88  # of JPEGs


def tile(saliency: Tensor, longest: int) -> Tile:
    """Returns `round(255 * value)` of a map `(H, W)` in [0, 1], its longer side at most `longest`; NaN becomes 0."""
    height, width = saliency.shape
    scale = min(1.0, longest / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    values = saliency.detach().float().cpu().nan_to_num(0.0, 0.0, 0.0)
    small = resize(values[None, None], size)[0, 0]
    tiled: Tile = (small.clamp(0, 1) * 255).round().byte().numpy()
    return tiled


def packed(tiles: Sequence[Tile]) -> tuple[bytes, list[Place]]:
    """Lay tiles in rows, from left to right and in their order, into one PNG.

    Returns:
        The file, and the place of each tile.
    """
    area = sum(one.size for one in tiles)
    width = max([math.isqrt(area) + 1, *(one.shape[1] for one in tiles)])
    places: list[Place] = []
    x = y = below = 0
    for one in tiles:
        if x + one.shape[1] > width:
            x, y = 0, below
        places.append([x, y, one.shape[1], one.shape[0]])
        x, below = x + one.shape[1], max(below, y + one.shape[0])
    picture = np.zeros((max(below, 1), width), dtype=np.uint8)
    for one, (left, top, w, h) in zip(tiles, places, strict=True):
        picture[top : top + h, left : left + w] = one
    return _encoded(Image.fromarray(picture), "PNG"), places


def drift(now: Tile, before: Tile | None) -> float | None:
    """One minus the cosine similarity of two tiles, in [0, 1]; `None` without an earlier one, or one of zeros."""
    if before is None or before.shape != now.shape:
        return None
    a, b = now.astype(np.float64), before.astype(np.float64)
    norms = math.sqrt(float((a * a).sum()) * float((b * b).sum()))
    return None if norms == 0 else max(0.0, 1 - float((a * b).sum()) / norms)


def jpeg(picture: Tensor) -> bytes:
    """A picture `(3, H, W)` uint8 as JPEG, its longer side at most `LONGEST_IMAGE`."""
    image = as_pillow(picture.cpu())
    image.thumbnail((LONGEST_IMAGE, LONGEST_IMAGE))  # never enlarges
    return _encoded(image, "JPEG", quality=_QUALITY)


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()
