"""Reads one photo from disk: rotated upright, in RGB, with a bounded size."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

MAX_ASPECT = 16


class Photo(NamedTuple):
    """A photo and its size in the file."""

    picture: Tensor  # (3, H, W) uint8
    stored_size: tuple[int, int]  # height and width in the file, after EXIF rotation

    @property
    def reduced(self) -> bool:
        """Whether the photo was scaled down when it was read."""
        return tuple(self.picture.shape[1:]) != self.stored_size


def read_photo(path: str | Path, max_side: int) -> Photo:
    """Read a photo in RGB, rotated as its EXIF data says, with a longer side of at most `max_side`.

    Memory is bounded: a JPEG is decoded at a reduced size where that is enough, and other formats up to Pillow's limit
    of 179 million pixels. Transparent pixels become white; 16-bit channels are reduced to 8 bits.

    Args:
        path: any file that Pillow can read; of several frames the first is used.
        max_side: maximum of the longer side in pixels; larger photos are scaled down.

    Raises:
        ValueError: if the file is missing, is not an image, is broken or too large, or if one side is more than 16
            times the other.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no {'such file' if not path.exists() else 'file, only a folder'}")
    try:
        with warnings.catch_warnings():
            # Not shown: the photo is scaled down here, and the caller reports it.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                height, width = _upright_size(file)
                _check_aspect(height, width)
                return Photo(_decoded(file, max_side), (height, width))
    except UnidentifiedImageError as error:
        raise ValueError("this is no picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"the picture is too large to be read safely: {error} Scale it down first.") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"the picture is broken: {error}") from error


def _upright_size(file: Image.Image) -> tuple[int, int]:
    turned = file.getexif().get(0x0112, 1) >= 5  # orientations 5 to 8 exchange width and height
    return (file.width, file.height) if turned else (file.height, file.width)


def _check_aspect(height: int, width: int) -> None:
    """Refuse very long images: SESS scales the short side to the window, so the long side would exhaust the memory."""
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise ValueError(
            f"the picture of {width} x {height} pixels is more than {MAX_ASPECT} times as long as wide. Crop it."
        )


def _decoded(file: Image.Image, max_side: int) -> Tensor:
    photo: Image.Image = file
    if photo.mode.startswith("I;16"):
        photo = Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
    elif photo.mode in ("RGBA", "LA", "PA") or "transparency" in photo.info:
        photo.thumbnail((2 * max_side, 2 * max_side), Image.Resampling.BOX)
        photo = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo.convert("RGBA"))
    elif photo.mode == "P":
        photo = photo.convert("RGB")
    photo.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)  # decodes a JPEG at a reduced size
    if photo is not file:
        photo.info.update({key: value for key, value in file.info.items() if key == "exif"})
    upright = ImageOps.exif_transpose(photo).convert("RGB")
    return torch.from_numpy(np.array(upright)).permute(2, 0, 1).contiguous()
