"""One photo from disk as a picture: upright and of bounded size, or as its annotations count its pixels."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sess_lightning.data.decoding import as_rgb, orientation, turned

MAX_ASPECT = 16
# What Pillow knows by its suffix but has no decoder for, or needs another program to draw.
_NO_PHOTOS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "PDF", "WMF"})


class Photo(NamedTuple):
    """A photo and its size in the file."""

    picture: Tensor  # (3, H, W) uint8
    stored_size: tuple[int, int]  # height and width in the file, after EXIF rotation

    @property
    def reduced(self) -> bool:
        """Whether the photo was scaled down when it was read."""
        return tuple(self.picture.shape[1:]) != self.stored_size


class PhotoError(ValueError):
    """A photo is not as it has to be; the message says in what way."""


class NoPhotoError(PhotoError):
    """A file is no picture at all."""


class WrongSizeError(PhotoError):
    """A photo has another size than its annotations name."""


def is_photo(file: Path) -> bool:
    """Whether a file is to be taken for a photo when a folder is searched: by its suffix, and not hidden."""
    kind = Image.registered_extensions().get(file.suffix.lower(), "PDF")
    return kind not in _NO_PHOTOS and not file.name.startswith(".") and file.is_file()


def read_photo(path: str | Path, max_side: int | None = None) -> Photo:
    """Read a photo upright, as its EXIF or XMP data say, in 8-bit RGB, its longer side at most `max_side`.

    Memory stays bounded: a JPEG is decoded at a fraction of its size where that is enough, and of other formats at most
    what Pillow allows (179 million pixels) is decoded. Transparent parts become white, deeper values 8 bits.

    Args:
        path: any file that Pillow can read; of several frames the first is used.
        max_side: maximum of the longer side in pixels; larger photos are scaled down. `None` keeps the size.

    Raises:
        PhotoError: if the file is missing, no picture, broken, too large, or more than 16 times as long as wide.
    """
    with _opened(Path(path)) as file:
        turn = orientation(file)
        height, width = _size(file, turn)
        _check_aspect(height, width)
        return Photo(_tensor(turned(as_rgb(file, max_side), turn)), (height, width))


def read_annotated(path: str | Path, size: tuple[int, int] | None = None) -> Tensor:
    """Read a photo as its annotations count its pixels, in 8-bit RGB like `read_photo`, at its own size.

    That is as the pixels are stored, whatever EXIF data say, unless the annotated size is that of the photo upright.

    Args:
        path: any file that Pillow reads; of several frames the first.
        size: height and width that the annotations name; `None` if they name none.

    Returns:
        `(3, H, W)` uint8.

    Raises:
        PhotoError: if the file is missing, no picture, broken or too large, or (`WrongSizeError`) has another size.
    """
    with _opened(Path(path)) as file:
        turn = _annotated_turn(file, size)
        return _tensor(turned(as_rgb(file), turn))


def check_annotated_size(path: str | Path, size: tuple[int, int]) -> None:
    """Raise a `WrongSizeError` if the photo has another size than its annotations name; only its header is read.

    A photo that cannot be read passes: reading it says why.
    """
    try:
        with _opened(Path(path)) as file:
            _annotated_turn(file, size)
    except WrongSizeError:
        raise
    except PhotoError:
        pass


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file in Pillow; whatever is raised inside comes out as a `PhotoError` in words."""
    try:
        if not path.is_file():
            raise PhotoError(f"there is no {'such file' if not path.exists() else 'file, only a folder'}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # malformed EXIF data; large, which is bounded below
            # A stream, as Pillow maps an uncompressed TIFF of a named file into memory as if it were not to be turned.
            with path.open("rb") as stream, Image.open(stream) as file:
                if file.format == "TIFF":
                    file.load()  # Pillow turns it upright
                yield file
    except PhotoError:
        raise
    except UnidentifiedImageError as error:
        if path.stat().st_size == 0:
            raise PhotoError("the file is empty") from error
        raise NoPhotoError("this is no picture that can be read") from error
    except Image.DecompressionBombError as error:
        raise PhotoError(f"the picture is too large to be read safely: {error} Scale it down first.") from error
    except OSError as error:
        said = f"the file cannot be opened: {error.strerror}" if error.errno else f"the picture is broken: {error}"
        raise PhotoError(said) from error
    except Exception as error:  # Pillow's decoders raise SyntaxError, struct.error, IndexError and more
        raise PhotoError(f"the picture is broken: {type(error).__name__} {error}") from error


def _size(file: Image.Image, turn: int) -> tuple[int, int]:
    """Height and width after turning; 5 to 8 exchange them."""
    return (file.width, file.height) if turn >= 5 else (file.height, file.width)


def _check_aspect(height: int, width: int) -> None:
    """Refuse very long images: SESS scales the short side to the window, so the long side would exhaust the memory."""
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise PhotoError(
            f"the picture of {width} x {height} pixels is more than {MAX_ASPECT} times as long as wide. Crop it."
        )


def _annotated_turn(file: Image.Image, size: tuple[int, int] | None) -> int:
    """The orientation in which the photo has the annotated size: stored, or upright."""
    if size is None or size == _size(file, 1):
        return 1
    turn = orientation(file)
    if size == _size(file, turn):
        return turn
    raise WrongSizeError(
        f"the annotations say {size[1]} x {size[0]} pixels, but the file has {file.width} x {file.height}: boxes and "
        "masks would not fit"
    )


def _tensor(photo: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1).contiguous()
