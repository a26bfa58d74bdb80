"""Sentences that say which classes a network tells by something else than their objects.

What is judged is causal and needs no saliency: the probability that is lost where the objects of the class are taken
away, against that which is lost where everything else is. A sentence is said where the evidence is strong: where even
the upper end of the interval of the difference lies below `LIMIT`. docs/watching.md says how the limit was found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from sess_lightning.intervals import hit_interval, mean_interval

LIMIT = -0.05
"""Object minus background reliance below which a class is told by something else; `studies/alarm.py` measured it."""

FEWEST = 5
"""Samples that a class or group needs, rightly classified and with objects, to be judged."""

ACCURACY_GAP = 0.2
"""Difference of accuracy between two groups that is told, if the interval of the difference lies above it."""

_MOST = 3  # sentences of single classes, those with most samples against them first


class Evidence(NamedTuple):
    """What one validation tells of one sample.

    Attributes:
        target: the class that was explained.
        right: whether it is predicted; `None` if the label is unknown.
        hit: whether the map's peak lies on an object of the class; `None` where that is not known.
        on_object: probability lost without the objects; NaN where that is not known.
        on_background: probability lost without the background, likewise.
        group: of the sample, with `groups=`.
    """

    target: int
    right: bool | None
    hit: bool | None
    on_object: float
    on_background: float
    group: str | None = None


class Alarm(NamedTuple):
    """A sentence, and the class that it is about; `None` where it is about several."""

    text: str
    target: int | None = None


def alarms(evidence: Sequence[Evidence], name: Callable[[int], str]) -> list[Alarm]:
    """Returns what is wrong, worst first; nothing where the evidence is weak.

    Args:
        evidence: of all samples of a validation.
        name: of a class by its number.

    Example:
        >>> blind = [Evidence(2, True, False, 0.01, 0.6 + 0.01 * number) for number in range(8)]
        >>> alarms(blind, lambda target: "star")[0].text[:63]
        "Class 'star' (8 samples): right in 8, looks at the object in 0;"
    """
    classes: dict[int, list[Evidence]] = defaultdict(list)
    groups: dict[str, list[Evidence]] = defaultdict(list)
    for one in evidence:
        classes[one.target].append(one)
        if one.group is not None:
            groups[one.group].append(one)
    suspects = {target: _excess(some) for target, some in classes.items()}
    found = [
        Alarm(f"Class {name(target)!r} {_told(classes[target])}", target)
        for target in sorted(suspects, key=lambda one: suspects[one], reverse=True)
        if suspects[target] > 0
    ]
    if len(found) > _MOST:
        rest = len(found) - _MOST
        told = "1 more class is told" if rest == 1 else f"{rest} more classes are told"
        found = [*found[:_MOST], Alarm(f"{told} by something else than objects.")]
    if not found and _excess(evidence) > 0:  # of many classes with few samples each
        found = [Alarm(f"All classes {_told(evidence)}")]
    elif len(classes) > 1 and len(found) >= max(2, len(classes) / 2):
        found = [Alarm(f"All classes {_told(evidence)}"), *found]
    found += [Alarm(f"Group {group!r} {_told(some)}") for group, some in groups.items() if _excess(some) > 0]
    return found + list(_gaps(groups))


def is_judged(evidence: Iterable[Evidence]) -> bool:
    """Whether anything is known that `alarms` could tell of."""
    return any(one.group is not None or np.isfinite(one.on_object - one.on_background) for one in evidence)


def _excess(evidence: Sequence[Evidence]) -> float:
    """How far the interval of object minus background reliance lies below the limit; at most 0 where it does not."""
    values = np.array([one.on_object - one.on_background for one in evidence if one.right])
    values = values[np.isfinite(values)]
    return LIMIT - mean_interval(values).high if len(values) >= FEWEST else 0.0


def _told(evidence: Sequence[Evidence]) -> str:
    judged = [one for one in evidence if np.isfinite(one.on_object - one.on_background)]
    right = [one for one in judged if one.right]
    hits = [one.hit for one in judged if one.hit is not None]
    looks = f", looks at the object in {sum(hits)}" if hits else ""
    background, objects = (
        max(0.0, float(np.mean(column)))  # what it gains is no cost
        for column in ([one.on_background for one in right], [one.on_object for one in right])
    )
    return (
        f"({len(judged)} samples): right in {len(right)}{looks}; hiding the background costs {background:.2f} of "
        f"probability, hiding the object {objects:.2f}."
    )


def _gaps(groups: Mapping[str, Sequence[Evidence]]) -> Iterable[Alarm]:
    """Pairs of groups whose accuracies differ by more than `ACCURACY_GAP`, by Newcombe's interval of a difference."""
    shares = {}
    for group, some in groups.items():
        known = np.array([float(one.right) for one in some if one.right is not None])
        if len(known) >= FEWEST:
            shares[group] = (hit_interval(known), int(known.sum()), len(known))
    for pair in combinations(shares, 2):
        high, low = sorted(pair, key=lambda one: shares[one][0].value, reverse=True)
        a, b = shares[high][0], shares[low][0]
        # The lower end of the difference: Newcombe, "Interval estimation for the difference between independent
        # proportions", Statistics in Medicine 1998, method 10.
        least = a.value - b.value - np.hypot(a.value - a.low, b.high - b.value)
        if least > ACCURACY_GAP:
            counts = [f"{shares[one][1]} of {shares[one][2]} samples of group {one!r}" for one in (high, low)]
            yield Alarm(f"Right in {counts[0]}, but in {counts[1]}.")
