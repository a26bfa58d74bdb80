"""A picture of any of Pillow's modes as 8-bit RGB, and how it has to be turned: for `explain` and data sets alike."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

_ORIENTATION = 0x0112
_XMP_MARK = b"http://ns.adobe.com/xap/1.0/\x00"  # starts the APP1 segment of a JPEG that holds XMP
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def orientation(file: Image.Image) -> int:
    """How the stored pixels have to be turned to be upright, 1 (not at all) to 8, as EXIF or else XMP data say.

    Malformed data and values outside 1 to 8 count as 1. So does a TIFF, which Pillow turns itself when it loads it.
    """
    if file.format == "TIFF":
        return 1
    try:
        value = file.getexif().get(_ORIENTATION) or _said_by_xmp(file)
    except Exception:  # struct.error, TypeError, KeyError and others: Pillow does not say which malformed data raise
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _said_by_xmp(file: Image.Image) -> int | None:
    """The orientation in the XMP data of a JPEG, which Pillow's EXIF reader leaves out before its release 11."""
    for _, segment in getattr(file, "applist", []):
        found = re.search(rb'tiff:Orientation(?:="|>)(\d)', segment) if segment.startswith(_XMP_MARK) else None
        if found:
            return int(found.group(1))
    return None


def turned(photo: Image.Image, value: int) -> Image.Image:
    """The picture upright, `value` being its orientation."""
    return photo.transpose(_TURNS[value]) if value in _TURNS else photo


def as_rgb(file: Image.Image, max_side: int | None = None) -> Image.Image:
    """The pixels as stored, in 8-bit RGB: transparent parts white, deep grey values brought to 8 bits.

    16-bit files keep their upper 8 bits. Values of 32 bits are read by the range that they lie in: 0 to 1 (floats),
    0 to 255 or 0 to 65535; outside of these they are stretched from their minimum to their maximum.

    Args:
        file: as `Image.open` gives it.
        max_side: the longer side of the result at most; a JPEG is then decoded at a fraction of its size where that is
            enough. `None` keeps the size.
    """
    photo = _without_depth_and_alpha(file, max_side)
    if max_side is not None:
        photo.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    return photo.convert("RGB")


def _without_depth_and_alpha(photo: Image.Image, max_side: int | None) -> Image.Image:
    if photo.mode.startswith("I;16") or (photo.mode == "I" and photo.format in ("PNG", "PPM")):
        values = np.asarray(photo)
        levels = (values >> 8).astype(np.uint8)
        levels[values == photo.info.get("transparency", -1)] = 255  # PNG may name one value that is transparent
        return Image.fromarray(levels)
    if photo.mode in ("I", "F"):
        return Image.fromarray(_eight_bit(np.asarray(photo)))
    if photo.mode in ("RGBA", "LA", "PA") or "transparency" in photo.info:
        photo = photo.convert("RGBA")
        if max_side is not None:  # before two more pictures of this size are made
            photo.thumbnail((2 * max_side, 2 * max_side), Image.Resampling.BOX)
        return Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo)
    if photo.mode in ("1", "P"):  # Pillow scales these without averaging
        return photo.convert("RGB")
    return photo


def _eight_bit(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)].astype(np.float32)
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if low < 0 or high > 65535:
        start, scale = low, 255 / max(high - low, 1e-30)
    elif high > 255:
        start, scale = 0.0, 1 / 257
    elif high > 1 or values.dtype.kind != "f":
        start, scale = 0.0, 1.0
    else:
        start, scale = 0.0, 255.0
    inside = np.nan_to_num(values.astype(np.float32), nan=low, posinf=high, neginf=low)
    return np.clip((inside - start) * scale, 0, 255).round().astype(np.uint8)
