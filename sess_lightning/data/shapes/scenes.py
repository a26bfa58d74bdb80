"""Draws one scene: objects of one class among clutter and texture that belong to no class."""

from dataclasses import dataclass

import numpy as np

from sess_lightning.data.shapes.cues import Cue
from sess_lightning.data.shapes.drawing import Stamp, contrast, ground, place, striking_colour, texture
from sess_lightning.data.shapes.outlines import CLASSES, CLUTTER, Outline

_PLACING_TRIES = 20  # after so many tries the shape is left out, as the scene is full
_CLUTTER_AREA = 2400.0  # mean scene area in square pixels per clutter shape: one or two in a window of 64 px
_TEXTURE_AREA = 7000.0  # mean scene area in square pixels per textured patch
_GAP = 2  # pixels between the boxes of two shapes, so that outlines never touch


@dataclass(frozen=True)
class Scene:
    """A scene with its annotations.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        label: class of all its objects.
        boxes: `(N, 4)` int64 xyxy in pixels, x2 and y2 exclusive; tight around the masks.
        masks: `(N, H, W)` bool, the pixels that an object covers by at least one half.
        contrasts: `(N,)` float, contrast of each object to its background (`drawing.contrast`).
    """

    image: np.ndarray
    label: int
    boxes: np.ndarray
    masks: np.ndarray
    contrasts: np.ndarray


def draw_scene(
    rng: np.random.Generator,
    label: int,
    shape: tuple[int, int],
    sizes: tuple[float, float],
    max_objects: int = 3,
    cue: Cue | None = None,
) -> Scene:
    """Draw a scene.

    Shapes lie completely inside the scene and do not overlap, so that every object is fully visible. Sizes are
    log-uniform: as many objects between 10 and 20 px as between 20 and 40.

    Args:
        rng: source of the random numbers; the scene is a function of its state.
        label: class of the objects, an index into `outlines.CLASSES`.
        shape: height and width in pixels.
        sizes: minimum and maximum of the longer side of an object's box, in pixels; the same for clutter.
        max_objects: the number of objects is drawn from 1 to this; it is lower where there is no room.
        cue: a planted shortcut; `None` for an honest scene.

    Returns:
        The scene, with at least one object.
    """
    canvas = ground(rng, *shape)
    if cue is not None:
        cue.paint_ground(canvas)
    _paint_textures(rng, canvas)
    # (2, 2) each: the lower and the upper corner of a box, x and y
    taken: list[np.ndarray] = [] if cue is None else cue.taken(shape)
    objects, contrasts = [], []
    outline = list(CLASSES.values())[label]
    for _ in range(rng.integers(1, max_objects + 1)):
        stamp = _find_room(rng, outline(rng), shape, sizes, taken)
        if stamp is not None:
            objects.append(stamp)
            contrasts.append(_paint(rng, canvas, stamp, None if cue is None else cue.colour))
    clutter = list(CLUTTER.values())
    for _ in range(rng.poisson(shape[0] * shape[1] / _CLUTTER_AREA)):
        stamp = _find_room(rng, clutter[rng.integers(len(clutter))](rng), shape, sizes, taken)
        if stamp is not None:
            _paint(rng, canvas, stamp)
    if cue is not None:
        cue.paint_mark(canvas)
    masks = np.stack([stamp.mask(*shape) for stamp in objects])
    boxes = np.stack([_bounding_box(mask) for mask in masks])
    return Scene((canvas * 255 + 0.5).astype(np.uint8), label, boxes, masks, np.array(contrasts))


def _paint_textures(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Paint textured patches on a canvas, each in the outline of a pebble."""
    height, width = canvas.shape[:2]
    short = min(height, width)
    for _ in range(rng.poisson(height * width / _TEXTURE_AREA)):
        centre = (rng.uniform(0, width), rng.uniform(0, height))
        size = rng.uniform(0.3, 0.7) * min(short, 96)
        stamp = place(CLUTTER["pebble"](rng), centre, size, rng.uniform(0, 2 * np.pi), (height, width))
        if stamp.coverage.size:
            stamp.paint(canvas, texture(rng, stamp.crop(canvas)))


def _find_room(
    rng: np.random.Generator,
    outline: Outline,
    shape: tuple[int, int],
    sizes: tuple[float, float],
    taken: list[np.ndarray],
) -> Stamp | None:
    """Place an outline with a random size, rotation and position in a free region, and append its box to `taken`.

    Every try draws a new size, so that small shapes still fit into a scene that has no room for large ones.

    Returns:
        The stamp, or `None` if no try found room.
    """
    luck = rng.random((_PLACING_TRIES, 3))
    size = sizes[0] * (sizes[1] / sizes[0]) ** luck[:, :1]
    centre = size / 2 + luck[:, 1:] * (np.array(shape[::-1]) - size)
    low, high = centre - size / 2 - _GAP, centre + size / 2 + _GAP
    others = np.array(taken).reshape(-1, 2, 2)
    apart = np.any((low[:, None] >= others[:, 1]) | (high[:, None] <= others[:, 0]), axis=2)
    free = np.all(apart, axis=1)
    if not free.any():
        return None
    first = free.argmax()
    taken.append(np.stack([centre[first] - size[first] / 2, centre[first] + size[first] / 2]))
    turn = rng.uniform(0, 2 * np.pi)
    return place(outline, (centre[first, 0], centre[first, 1]), size[first, 0], turn, shape)


def _paint(rng: np.random.Generator, canvas: np.ndarray, stamp: Stamp, colour: np.ndarray | None = None) -> float:
    """Fill a stamp with this colour, or one that contrasts with the canvas below it; returns the contrast."""
    under = stamp.crop(canvas).copy()
    colour = striking_colour(rng, under) if colour is None else colour
    stamp.paint(canvas, colour)
    return contrast(colour, under)


def _bounding_box(mask: np.ndarray) -> np.ndarray:
    """Returns the box `(4,)` xyxy around the True pixels of a mask, x2 and y2 exclusive."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
