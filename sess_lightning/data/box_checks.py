"""Boxes of a data set, checked while its files are read: what is malformed is named, what cannot be hit is left out."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sess_lightning.boxes import holds_pixels

Size = tuple[int, int]


class BoxChecks:
    """Checks the boxes of one data set and counts what it leaves out.

    Args:
        source: the file or folder that holds the boxes, for messages.
    """

    def __init__(self, source: Path) -> None:
        self.source = source
        self._left_out = self._strangers = 0
        self._example = ""

    def corners(self, box: Any, photo: str) -> list[float] | None:
        """x1, y1, x2, y2 of a box `[x, y, width, height]`; None, and counted, for an empty list or no box.

        Raises:
            ValueError: if it is no such box; names the file and the photo.
        """
        if box is None or (isinstance(box, (list, tuple)) and len(box) == 0):
            self._leave_out(photo, 1)
            return None
        numbers = isinstance(box, (list, tuple)) and len(box) == 4 and all(map(_is_finite, box))
        if not numbers or min(box[2:]) < 0:
            raise self.error(photo, f"expected bbox to be [x, y, width, height] in finite pixels, but got {box!r}")
        x, y, width, height = box
        return [x, y, x + width, y + height]

    def check_corners(self, boxes: Sequence[Sequence[float]], photo: str) -> None:
        """Raise a `ValueError` that names the file and the photo unless all are finite and ascending."""
        for box in boxes:
            if not all(map(_is_finite, box)) or box[2] < box[0] or box[3] < box[1]:
                raise self.error(photo, f"expected a box x1, y1, x2, y2, finite and ascending, but got {list(box)}")

    def visible(self, boxes: Tensor, size: Size | None, photo: str) -> Tensor:
        """Which boxes `(N, 4)` have a pixel inside a photo of `size` (height, width), `(N,)` bool; counts the others.

        Where the size is unknown, only boxes without any pixel are found.
        """
        seen = holds_pixels(boxes, size or (2**30, 2**30))
        self._leave_out(photo, int((~seen).sum()))
        return seen

    def strange(self, count: int) -> None:
        """Count annotations that belong to no photo of the list."""
        self._strangers += count

    def error(self, photo: str, what: str) -> ValueError:
        """A `ValueError` about one photo."""
        return ValueError(f"{self.source}, photo {photo}: {what}. Mend it or take it out.")

    def warn(self) -> None:
        """Say what was left out, if anything was."""
        if self._left_out:
            warnings.warn(
                f"{self.source}: left out {self._left_out} objects without a pixel inside their photo (no box, an "
                f"empty one, or one outside), which nobody can hit, e.g. in {self._example}.",
                stacklevel=3,
            )
        if self._strangers:
            warnings.warn(
                f"{self.source}: left out {self._strangers} annotations whose image_id is that of no photo listed.",
                stacklevel=3,
            )

    def _leave_out(self, photo: str, count: int) -> None:
        self._left_out += count
        if count and not self._example:
            self._example = photo


def photo_size(path: Path) -> Size | None:
    """Height and width of a photo as it is stored, from its header; None where there is none to read.

    For photos whose annotations name no size: those are read as stored too, whatever EXIF says.
    """
    try:
        with Image.open(path) as photo:
            if photo.format == "TIFF":
                photo.load()  # Pillow turns it upright, its older releases only then
            return photo.height, photo.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None  # whoever reads the photo says what is wrong with it


def annotated_size(photo: Mapping[str, Any]) -> Size | None:
    """Height and width as annotations give them, numbers or digits; None where they are missing, empty or 0.

    Raises:
        ValueError, TypeError: if they are no whole numbers.

    Example:
        >>> annotated_size({"height": 20, "width": "30"}), annotated_size({"height": 0, "width": 30})
        ((20, 30), None)
    """
    if not photo.get("height") or not photo.get("width"):
        return None
    size = int(photo["height"]), int(photo["width"])
    return size if min(size) > 0 else None


def as_number(value: Any) -> Any:
    """An id as an int where it is a whole number or written in digits, so that "1" and 1 meet; else as it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.strip().isdecimal() else value


def box_tensor(boxes: Sequence[Sequence[float]]) -> Tensor:
    """Boxes as `(N, 4)` float32, also where there are none."""
    return torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
