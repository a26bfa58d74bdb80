"""Outlines of the shapes in a scene: those of the classes, and those of the clutter, which belongs to no class.

An outline is a list of closed polygons, each `(V, 2)` float x, y around the origin: the first is filled, the others are
holes in it. Their scale is arbitrary; `drawing.place` rotates and scales an outline to its size in pixels.
"""

from collections.abc import Callable

import numpy as np

Outline = list[np.ndarray]

_ROUND = 40  # vertices of a full circle: a disc of 60 px then deviates from the true circle by less than 0.1 px


def _polar(radii: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Returns the vertices `(V, 2)` at radii and angles (radians), both `(V,)`."""
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _circle(radius: float = 1.0, start: float = 0.0, stop: float = 2 * np.pi) -> np.ndarray:
    """Returns vertices `(V, 2)` on the arc from angle `start` to angle `stop` (radians, both ends included)."""
    count = max(3, round(_ROUND * abs(stop - start) / (2 * np.pi)) + 1)
    return _polar(np.full(count, radius), np.linspace(start, stop, count))


def _disc(rng: np.random.Generator) -> Outline:
    return [_circle()]


def _square(rng: np.random.Generator) -> Outline:
    return [_polar(np.ones(4), np.arange(4) * np.pi / 2)]


def _triangle(rng: np.random.Generator) -> Outline:
    return [_polar(np.ones(3), np.arange(3) * 2 * np.pi / 3)]


def _star(rng: np.random.Generator) -> Outline:
    radii = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.38, 0.46))
    return [_polar(radii, np.arange(10) * np.pi / 5)]


def _cross(rng: np.random.Generator) -> Outline:
    arm = rng.uniform(0.28, 0.36)
    corner = np.array([[1, -arm], [1, arm], [arm, arm]])
    turns = [np.array([[0, -1], [1, 0]])] * 3
    quarters = [corner]
    for turn in turns:
        quarters.append(quarters[-1] @ turn.T)
    return [np.concatenate(quarters)]


def _ring(rng: np.random.Generator) -> Outline:
    return [_circle(), _circle(rng.uniform(0.52, 0.64))]


def _arrow(rng: np.random.Generator) -> Outline:
    shaft = rng.uniform(0.22, 0.3)
    half = [(1.0, 0.0), (0.1, 0.8), (0.1, shaft), (-1.0, shaft)]
    return [np.array(half + [(x, -y) for x, y in reversed(half[1:])])]


def _heart(rng: np.random.Generator) -> Outline:
    t = np.linspace(0, 2 * np.pi, _ROUND)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return [np.stack([x, -y], axis=1) / 16]


def _crescent(rng: np.random.Generator) -> Outline:
    """A disc minus an equal disc that is shifted sideways."""
    half = rng.uniform(0.2, 0.4)  # half the distance of the two centres
    tip = np.arccos(half)
    bite = _circle(1.0, -tip, tip) * (-1, 1) + (2 * half, 0)
    return [np.concatenate([_circle(1.0, tip, 2 * np.pi - tip), bite])]


def _arc(rng: np.random.Generator) -> Outline:
    span = rng.uniform(0.5, 1.0) * np.pi
    return [np.concatenate([_circle(1.0, 0.0, span), _circle(rng.uniform(0.6, 0.75), span, 0.0)])]


def _half_disc(rng: np.random.Generator) -> Outline:
    return [_circle(1.0, 0.0, np.pi)]


def _pebble(rng: np.random.Generator) -> Outline:
    """A smooth closed curve that is clearly not round, so that it differs from a disc."""
    t = np.linspace(0, 2 * np.pi, _ROUND)
    phase = rng.uniform(0, 2 * np.pi, 2)
    radii = 1 + rng.uniform(0.3, 0.38) * np.sin(2 * t + phase[0]) + rng.uniform(0.16, 0.26) * np.sin(3 * t + phase[1])
    return [_polar(radii, t)]


def _shard(rng: np.random.Generator) -> Outline:
    """An irregular polygon of five to seven corners, about half as wide as long."""
    count = int(rng.integers(5, 8))
    angles = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
    return [_polar(rng.uniform(0.6, 1.0, count), angles) * (1.0, rng.uniform(0.35, 0.55))]


def _bolt(rng: np.random.Generator) -> Outline:
    x = np.linspace(-1, 1, int(rng.integers(4, 6)))
    y = np.where(np.arange(len(x)) % 2 == 0, 0.35, -0.35)
    thick = rng.uniform(0.14, 0.2)
    return [np.concatenate([np.stack([x, y - thick], axis=1), np.stack([x, y + thick], axis=1)[::-1]])]


def _angle(rng: np.random.Generator) -> Outline:
    arm = rng.uniform(0.3, 0.45)
    return [np.array([(0, 0), (1.6, 0), (1.6, arm), (arm, arm), (arm, 1.4), (0, 1.4)])]


def _bar(rng: np.random.Generator) -> Outline:
    half = rng.uniform(0.06, 0.16)
    return [np.array([(-1, -half), (1, -half), (1, half), (-1, half)])]


CLASSES: dict[str, Callable[[np.random.Generator], Outline]] = {
    "disc": _disc,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "arrow": _arrow,
    "heart": _heart,
}
"""Outlines of the classes in their order: a data set with `n` classes uses the first `n`."""

CLUTTER: dict[str, Callable[[np.random.Generator], Outline]] = {
    "crescent": _crescent,
    "arc": _arc,
    "half disc": _half_disc,
    "pebble": _pebble,
    "shard": _shard,
    "bolt": _bolt,
    "angle": _angle,
    "bar": _bar,
}
"""Outlines that belong to no class: parts of the classes and shapes similar to them."""
