"""Painting with numpy: anti-aliased outlines, grounds, textures, and colours that stand out.

A canvas is a `(H, W, 3)` float32 array in [0, 1]; everything here paints onto it in place. Randomness comes from the
generator that is passed in and from nowhere else.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sess_lightning.data.shapes.outlines import Outline

MIN_CONTRAST = 0.45
"""Least distance between the colour of an object and of its ground: Euclidean in RGB, where black to white is 1.73.
Pure red to orange is 0.5; below about 0.4 a thin star begins to melt into a textured ground."""

_SUPERSAMPLING = 8  # an outline is filled at 8 x 8 points a pixel; Pillow's edges are a fine pixel too generous
_GROUND = (0.3, 0.7)  # brightness of a ground: off the ends, so that a contrasting colour always exists
_TINT = 0.12  # how far a channel of a ground may lie from its brightness: muted, so that objects can be vivid
_CORNERS = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), axis=-1).reshape(8, 3).astype(np.float32)


@dataclass(frozen=True)
class Stamp:
    """An outline put on the pixel grid: its coverage and where it belongs.

    Attributes:
        coverage: share of each pixel that the outline covers, `(h, w)` float32 in [0, 1].
        x: column of the canvas at which the coverage begins.
        y: row of the canvas at which the coverage begins.
    """

    coverage: np.ndarray
    x: int
    y: int

    def crop(self, canvas: np.ndarray) -> np.ndarray:
        """The part of a canvas `(H, W, ...)` under the stamp, as a view `(h, w, ...)`."""
        height, width = self.coverage.shape
        return canvas[self.y : self.y + height, self.x : self.x + width]

    def mask(self, height: int, width: int) -> np.ndarray:
        """`(height, width)` bool: the pixels of the canvas that are covered by half or more."""
        mask = np.zeros((height, width), dtype=bool)
        self.crop(mask)[:] = self.coverage >= 0.5
        return mask

    def paint(self, canvas: np.ndarray, colour: np.ndarray) -> None:
        """Blend a colour `(3,)`, or a picture of the stamp's size `(h, w, 3)`, into the canvas."""
        under = self.crop(canvas)
        under += self.coverage[..., None] * (colour - under)


def place(outline: Outline, centre: tuple[float, float], size: float, turn: float, shape: tuple[int, int]) -> Stamp:
    """Turn an outline, scale it to a size in pixels, and fill it on the grid of a canvas.

    Args:
        outline: polygons around the origin, the first filled, the others holes.
        centre: x, y of the middle of its bounding box, in pixels.
        size: longer side of its upright bounding box after the turn, in pixels.
        turn: angle in radians.
        shape: height and width of the canvas; what sticks out of it is cut off.

    Returns:
        The coverage over the smallest whole-pixel box that holds the outline; empty if all of it lies outside.
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
    """Coverage `(height, width)` of the first polygon less the others, coordinates in pixels."""
    if width == 0 or height == 0:
        return np.zeros((height, width), dtype=np.float32)
    fine = Image.new("L", (width * _SUPERSAMPLING, height * _SUPERSAMPLING))
    draw = ImageDraw.Draw(fine)
    for index, polygon in enumerate(polygons):
        # Pillow puts a vertex at the middle of its pixel: half a fine pixel less makes the edges fall where they
        # belong.
        draw.polygon((polygon * _SUPERSAMPLING - 0.5).ravel().tolist(), fill=0 if index else 255)
    return np.asarray(fine.reduce(_SUPERSAMPLING), dtype=np.float32) / 255


def contrast(colour: np.ndarray, ground: np.ndarray) -> float:
    """How well a colour stands out: its distance to the nearest colours of a ground.

    Args:
        colour: `(3,)` RGB in [0, 1].
        ground: `(h, w, 3)` RGB in [0, 1], the pixels under and right around what is painted.

    Returns:
        The distance (Euclidean in RGB) that 95 % of the pixels of the ground exceed.

    Example:
        >>> contrast(np.array([1.0, 0.0, 0.0]), np.zeros((4, 4, 3)))
        1.0
    """
    differences = ground.reshape(-1, 3) - colour
    squares = np.einsum("ij,ij->i", differences, differences)
    rank = int(0.05 * len(squares))
    return float(np.sqrt(np.partition(squares, rank)[rank]))


def striking_colour(rng: np.random.Generator, ground: np.ndarray) -> np.ndarray:
    """A random colour that stands out from a ground.

    Args:
        rng: where the random numbers come from.
        ground: `(h, w, 3)`, the pixels under and right around what will be painted.

    Returns:
        `(3,)` float32: the first of eight uniformly random colours that keeps `MIN_CONTRAST`, or else the corner of the
        colour cube with the most contrast, which keeps it on any ground and texture of this file.
    """
    for colour in rng.random((8, 3), dtype=np.float32):
        if contrast(colour, ground) >= MIN_CONTRAST:
            return colour
    return max(_CORNERS, key=lambda corner: contrast(corner, ground))


def ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A ground to paint on: a gradient between two near tones, soft blotches, and grain.

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
    """A texture in two tones near those of the ground: stripes, checks, spots or noise.

    Args:
        rng: where the random numbers come from.
        ground: `(h, w, 3)`, the part of the canvas that the texture is to cover.

    Returns:
        `(h, w, 3)` float32 in [0, 1], to be painted there.
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
