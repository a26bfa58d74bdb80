"""Checks of the arguments of SESS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sess_lightning.checks import check_count, is_positive_int


def check_step(step: tuple[int, int] | None, window: tuple[int, int] | None) -> None:
    """Raise a `ValueError` if steps of the window would leave gaps."""
    if window and step and any(s > w for s, w in zip(step, window, strict=True)):
        raise ValueError(
            f"Expected argument `step_size` to be at most `window_size` {window}, as a larger step leaves gaps, but "
            f"got {step}."
        )


def check_scores(scores: Any, counts: Sequence[int]) -> None:
    """Raise a `ValueError` unless `scores` hold a tensor for each image with a score for each window, or are None."""
    if scores is None:
        return
    listed = isinstance(scores, (list, tuple))
    got = [tuple(getattr(one, "shape", ())) for one in scores] if listed else type(scores).__name__
    if got != [(count,) for count in counts]:
        raise ValueError(
            f"Expected argument `scores` to hold one tensor for each image, with {counts} scores, one a window, but "
            f"got {got}. Take `SESSResult.scores` of the same images and windows."
        )


def check_pyramid(num_scales: Any, scales: Any, window: Any) -> None:
    """Raise a `ValueError` unless exactly one of `num_scales` and `scales` says which scales, and the window fits."""
    if scales is None:
        check_count("num_scales", num_scales)
        return
    if num_scales is not None:
        raise ValueError(f"Expected only one of `num_scales` and `scales`, but got {num_scales!r} and {scales!r}.")
    relative = bool(scales) and all(isinstance(s, float) and 1 <= s < math.inf for s in scales)
    if not relative and not (scales and all(is_positive_int(s) for s in scales)):
        raise ValueError(
            "Expected argument `scales` to hold short sides in pixels, positive ints, or multiples of the window, "
            f"floats from 1.0 on, but not both, and got {scales!r}."
        )
    if not relative and window is not None and min(scales) < min(window):
        raise ValueError(
            f"Expected every value of argument `scales` to be at least the window's {min(window)} pixels, but got "
            f"{min(scales)}."
        )


def check_pair(name: str, value: Any) -> None:
    """Raise a `ValueError` unless `value` is a pair of positive ints, or None."""
    if value is not None and not (isinstance(value, tuple) and len(value) == 2 and all(map(is_positive_int, value))):
        raise ValueError(
            f"Expected argument `{name}` to be a positive int, a pair (vertical, horizontal) of them, or None, "
            f"but got {value!r}."
        )
