"""Drawing with NumPy: anti-aliased outlines, backgrounds, textures, and colours with a minimum contrast.

A canvas is a `(H, W, 3)` float32 array in [0, 1] that is modified in place. All random numbers come from the generator
passed as an argument.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sess_lightning.data.shapes.outlines import Outline

MIN_CONTRAST = 0.45
"""Minimum Euclidean RGB distance between an object and its background; black to white is 1.73, pure red to orange 0.5.
Below about 0.4 a thin star is hard to see on a textured background."""

_SUPERSAMPLING = 8  # outlines are rasterised at 8 x 8 samples per pixel; Pillow fills one sample too many at an edge
_GROUND = (0.3, 0.7)  # brightness of a background: away from 0 and 1, so that a contrasting colour always exists
_TINT = 0.12  # maximum deviation of a background channel from its brightness: low saturation
_CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3).astype(np.float32)


@dataclass(frozen=True)
class Stamp:
    """A rasterised outline and its position on the canvas.

    Attributes:
        coverage: `(h, w)` float32 in [0, 1], the fraction of each pixel that the outline covers.
        x: canvas column of the left edge of `coverage`.
        y: canvas row of the top edge of `coverage`.
    """

    coverage: np.ndarray
    x: int
    y: int

    def crop(self, canvas: np.ndarray) -> np.ndarray:
        """Returns the region of a canvas `(H, W, ...)` under the stamp, as a view `(h, w, ...)`."""
        height, width = self.coverage.shape
        return canvas[self.y : self.y + height, self.x : self.x + width]

    def mask(self, height: int, width: int) -> np.ndarray:
        """Returns a mask `(height, width)` bool of the canvas pixels that are covered by at least one half."""
        mask = np.zeros((height, width), dtype=bool)
        self.crop(mask)[:] = self.coverage >= 0.5
        return mask

    def paint(self, canvas: np.ndarray, colour: np.ndarray) -> None:
        """Alpha-blend a colour `(3,)`, or a picture `(h, w, 3)` of the stamp's size, into the canvas."""
        under = self.crop(canvas)
        under += self.coverage[..., None] * (colour - under)


def place(outline: Outline, centre: tuple[float, float], size: float, turn: float, shape: tuple[int, int]) -> Stamp:
    """Rotate an outline, scale it to a size in pixels, and rasterise it.

    Args:
        outline: polygons around the origin; the first is filled, the others are holes.
        centre: x, y of the centre of its bounding box, in pixels.
        size: longer side of its axis-aligned bounding box after the rotation, in pixels.
        turn: angle of rotation in radians.
        shape: height and width of the canvas; the outline is clipped to it.

    Returns:
        The coverage on the smallest pixel-aligned box that contains the outline; empty if it lies outside the canvas.
    """
    rotation = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    turned = [polygon @ rotation for polygon in outline]
    low, high = turned[0].min(axis=0), turned[0].max(axis=0)
    scale = size / (high - low).max()
    points = [(polygon - (low + high) / 2) * scale + centre for polygon in turned]
    limits = np.array(shape[::-1])
    first = np.clip(np.floor(points[0].min(axis=0)), 0, limits).astype(int)
    last = np.clip(np.ceil(points[0].max(axis=0)), first, limits).astype(int)
    return Stamp(_fill([polygon - first for polygon in points], *(last - first)), int(first[0]), int(first[1]))


def _fill(polygons: Outline, width: int, height: int) -> np.ndarray:
    """Returns the coverage `(height, width)` of the first polygon minus the others; coordinates are in pixels."""
    if width == 0 or height == 0:
        return np.zeros((height, width), dtype=np.float32)
    fine = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(fine)
    for index, polygon in enumerate(polygons):
        # Pillow places a vertex at the centre of its sample: a shift by half a sample puts the edges where they belong.
        draw.polygon((polygon * _SUPERSAMPLING - 0.5).ravel().tolist(), fill=0 if index else 255)
    return np.asarray(fine.reduce(_SUPERSAMPLING), dtype=np.float32) / 255


def contrast(colour: np.ndarray, ground: np.ndarray) -> float:
    """Returns the contrast of a colour to a background: the 5th percentile of its distances to the pixels.

    Args:
        colour: `(3,)` RGB in [0, 1].
        ground: `(h, w, 3)` RGB in [0, 1], the background pixels under the object and directly around it.

    Returns:
        The Euclidean RGB distance that 95 % of the background pixels exceed.

    Example:
        >>> contrast(np.array([1.0, 0.0, 0.0]), np.zeros((4, 4, 3)))
        1.0
    """
    differences = ground.reshape(-1, 3) - colour
    squares = np.einsum("ij,ij->i", differences, differences)
    rank = int(0.05 * len(squares))
    return float(np.sqrt(np.partition(squares, rank)[rank]))


def striking_colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Returns a random colour with a contrast of at least `MIN_CONTRAST` to a background.

    Args:
        rng: source of the random numbers.
        ground: `(h, w, 3)`, the background pixels under the object and directly around it.

    Returns:
        `(3,)` float32: the first of eight uniformly random colours with enough contrast, or else the corner of the
        RGB cube with the highest contrast, which is enough on all backgrounds and textures of this module.
    """
    for colour in rng.random((8, 3), dtype=np.float32):
        if contrast(colour, ground) >= MIN_CONTRAST:
            return colour
    return max(_CORNERS, key=lambda corner: contrast(corner, ground))


def ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a random background: a gradient between two similar tones, low-frequency noise and pixel noise.

    Returns:
        `(height, width, 3)` float32 in [0, 1].
    """
    tone = rng.uniform(*_GROUND) + rng.uniform(-_TINT, _TINT, 3)
    drift = rng.uniform(-_TINT, _TINT, 3)
    angle = rng.uniform(0, 2 * np.pi)
    x = np.linspace(-0.5, 0.5, width, dtype=np.float32)[None, :]
    y = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None]
    ramp = np.cos(angle) * x + np.sin(angle) * y
    coarse = Image.fromarray(rng.normal(0, 1, (2 + height // 16, 2 + width // 16)).astype(np.float32))
    blotches = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    canvas = (ramp[..., None] * drift + tone).astype(np.float32) + 0.04 * blotches[..., None]
    grain = rng.standard_normal((height, width), dtype=np.float32)
    return np.clip(canvas + 0.02 * grain[..., None], 0, 1)


def texture(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """Returns a random texture in two tones near those of the background: stripes, checks, spots or noise.

    Args:
        rng: source of the random numbers.
        ground: `(h, w, 3)`, the region of the canvas that the texture will cover.

    Returns:
        `(h, w, 3)` float32 in [0, 1].
    """
    height, width = ground.shape[:2]
    angle, pitch = rng.uniform(0, np.pi), rng.uniform(4, 10)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    u = (np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / pitch)
    v = (np.cos(angle) * y - np.sin(angle) * x) * (2 * np.pi / pitch)
    kind = rng.integers(4)
    if kind == 0:
        wave = np.sin(u)
    elif kind == 1:
        wave = np.sign(np.sin(u)) * np.sign(np.sin(v))
    elif kind == 2:
        wave = np.clip(2 * (np.sin(u) + np.sin(v)) - 1.5, -1, 1)
    else:
        wave = rng.uniform(-1, 1, (height, width)).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    swing = rng.choice([-1, 1], 3) * rng.uniform(0.06, 0.18, 3)
    tone = ground.mean(axis=(0, 1)) + rng.uniform(-0.08, 0.08, 3)
    return np.clip(tone + wave[..., None] * swing, 0, 1).astype(np.float32)
