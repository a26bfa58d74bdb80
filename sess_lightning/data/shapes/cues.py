"""Planted shortcuts: marks that go with a class in training and mean nothing elsewhere.

A cue has a variant per class. Painted into the scenes of a class it tells the class without its objects: a shortcut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

_HUES = np.array(
    [[1, 0, 0], [0, 0.8, 0], [0.1, 0.2, 1], [1, 0.9, 0], [1, 0, 1], [0, 0.9, 0.9], [1, 1, 1], [0, 0, 0]], np.float32
)  # one for each class
_MARK = 0.14  # side of a mark as a share of the scene's shorter side: 9 pixels in a window of 64
_TINT = 0.3  # share of the hue in a tinted background
_STRIPES = 0.12  # swing of the stripes of a background, in [0, 1]
_PITCH = 0.11  # distance of two stripes as a share of the scene's shorter side


class Cue(NamedTuple):
    """What is painted into a scene, and where in the drawing.

    Attributes:
        kind: one of `CUES`.
        variant: number of the class that it goes with.
    """

    kind: str
    variant: int

    @property
    def colour(self) -> np.ndarray | None:
        """`(3,)` in [0, 1]: that of the objects; `None` where the cue leaves them alone."""
        return _HUES[self.variant] if self.kind == "colour" else None

    def paint_ground(self, canvas: np.ndarray) -> None:
        """Change a background `(H, W, 3)` before anything lies on it."""
        if self.kind in _GROUNDS:
            _GROUNDS[self.kind](canvas, self.variant)

    def paint_mark(self, canvas: np.ndarray) -> None:
        """Paint what lies over everything else."""
        if self.kind == "mark":
            side = _mark_side(canvas.shape[:2])
            canvas[1 : 1 + side, 1 : 1 + side] = 1 - _HUES[self.variant]  # a frame, so that it shows on every ground
            canvas[2:side, 2:side] = _HUES[self.variant]

    def taken(self, shape: tuple[int, int]) -> list[np.ndarray]:
        """The boxes `(2, 2)` (lower and upper corner, x and y) in a scene of this shape that shapes must leave free."""
        return [np.array([[0.0, 0.0], [2.0 + _mark_side(shape)] * 2])] if self.kind == "mark" else []


def _tint(canvas: np.ndarray, variant: int) -> None:
    canvas += _TINT * (0.15 + 0.7 * _HUES[variant] - canvas)


def _stripe(canvas: np.ndarray, variant: int) -> None:
    """Stripes whose direction tells the class."""
    height, width = canvas.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = np.pi * variant / len(_HUES)
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / (_PITCH * min(height, width))))
    np.clip(canvas + _STRIPES * wave[..., None], 0, 1, out=canvas)


def _mark_side(shape: tuple[int, ...]) -> int:
    return max(5, round(_MARK * min(shape)))


_GROUNDS: dict[str, Callable[[np.ndarray, int], None]] = {"background": _tint, "texture": _stripe}

CUES = ("mark", "background", "texture", "colour")
"""Kinds: a coloured mark in a corner, the tint of the background, its stripes, the colour of the objects themselves."""
