"""Sentences that say which classes a network tells by something else than their objects.

What is judged is causal and needs no saliency: the probability that is lost where the objects of the class are taken
away, against that which is lost where everything else is. A sentence is said where the evidence is strong: where even
the upper end of the interval of the difference lies below `LIMIT`. docs/watching.md says how the limit was found.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np

from sess_lightning.intervals import hit_interval, mean_interval

_T = TypeVar("_T")

LIMIT = -0.05
"""Object minus background reliance below which a class is told by something else; `studies/alarm.py` measured it."""

FEWEST = 5
"""Samples that a class or group needs, rightly classified and with objects, to be judged."""

ACCURACY_GAP = 0.2
"""Difference of accuracy between two groups that is told, if the interval of the difference lies above it."""

_MOST = 3  # sentences of single classes, of single groups, of pairs of groups: the worst
_ELSE = "by something else than objects"


class Evidence(NamedTuple):
    """What one validation tells of one sample.

    Attributes:
        target: the class that was explained.
        right: whether the label is predicted; `None` if it is unknown.
        hit: whether the map's peak lies on an object of the class; `None` where that is not known.
        on_object: probability lost without the objects; NaN where that is not known, or the class explained is not the
            label: `right` tells nothing of it then.
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
    """A sentence.

    Attributes:
        text: the sentence, with the numbers of this validation.
        key: what it is about, the same in every validation: whoever has heard of it need not be told again.
        target: the class that it is about; `None` where it is about several.
    """

    text: str
    key: str
    target: int | None = None


class Verdict(NamedTuple):
    """What one validation tells.

    Attributes:
        alarms: sentences, worst first; none where the evidence is weak.
        number: classes told by something else than their objects, 1 where only all of them together can be told so;
            `None` where too few samples can be judged.
    """

    alarms: list[Alarm]
    number: int | None


def judge(evidence: Sequence[Evidence], name: Callable[[int], str], limit: float = LIMIT) -> Verdict:
    """Returns what is wrong.

    Args:
        evidence: of all samples of a validation.
        name: of a class by its number.
        limit: of object minus background reliance.

    Example:
        >>> blind = [Evidence(2, True, False, 0.01, 0.6 + 0.01 * number) for number in range(8)]
        >>> found = judge(blind, lambda target: "star")
        >>> found.alarms[0].text[:63], found.number
        ("Class 'star' (8 samples): right in 8, looks at the object in 0;", 1)
    """
    classes: dict[int, list[Evidence]] = defaultdict(list)
    groups: dict[str, list[Evidence]] = defaultdict(list)
    for one in evidence:
        classes[one.target].append(one)
        if one.group is not None:
            groups[one.group].append(one)
    judged = {target: _excess(some, limit) for target, some in classes.items() if len(_differences(some)) >= FEWEST}
    suspects = _worst_first(judged)
    suspected = _worst_first({group: _excess(some, limit) for group, some in groups.items()})
    known = len(_differences(evidence)) >= FEWEST
    whole = known and _excess(evidence, limit) > 0
    found = []
    # Without suspects: of many classes with few samples each.
    if whole and (not suspects or len(suspects) >= max(2, len(judged) / 2)):
        found = [Alarm(f"All classes {_told(evidence)}", "all")]
    one_by_one = [
        Alarm(f"Class {name(target)!r} {_told(classes[target])}", f"class {target}", target) for target in suspects
    ]
    found += _capped(one_by_one, f"class is told {_ELSE}", f"classes are told {_ELSE}")
    of_groups = [Alarm(f"Group {group!r} {_told(groups[group])}", f"group {group}") for group in suspected]
    found += _capped(of_groups, f"group is told {_ELSE}", f"groups are told {_ELSE}")
    found += _capped(_gaps(groups), "pair of groups differs likewise", "pairs of groups differ likewise")
    return Verdict(found, (len(suspects) or int(whole)) if known else None)


def can_be_judged(evidence: Iterable[Evidence]) -> bool:
    """Whether the samples are enough for a count, once the network is right in them."""
    return sum(one.right is not None and np.isfinite(one.on_object - one.on_background) for one in evidence) >= FEWEST


def _differences(evidence: Iterable[Evidence]) -> np.ndarray:
    """Object minus background reliance of the samples that a judgement rests on."""
    values = np.array([one.on_object - one.on_background for one in evidence if one.right])
    return values[np.isfinite(values)]


def _excess(evidence: Sequence[Evidence], limit: float) -> float:
    """How far the interval of object minus background reliance lies below the limit; at most 0 where it does not."""
    values = _differences(evidence)
    return limit - mean_interval(values).high if len(values) >= FEWEST else 0.0


def _worst_first(excess: Mapping[_T, float]) -> list[_T]:
    """Those that lie below the limit."""
    return sorted((one for one in excess if excess[one] > 0), key=lambda one: excess[one], reverse=True)


def _capped(alarms: Sequence[Alarm], one: str, several: str) -> list[Alarm]:
    """The first of them, and how many more there are."""
    rest = len(alarms) - _MOST
    more = [Alarm(f"{rest} more {one if rest == 1 else several}.", f"more {several}")] if rest > 0 else []
    return [*alarms[:_MOST], *more]


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


def _gaps(groups: Mapping[str, Sequence[Evidence]]) -> list[Alarm]:
    """Pairs of groups whose accuracies differ by more than `ACCURACY_GAP`, by Newcombe's interval of a difference."""
    shares = {}
    for group, some in groups.items():
        known = np.array([float(one.right) for one in some if one.right is not None])
        if len(known) >= FEWEST:
            shares[group] = (hit_interval(known), int(known.sum()), len(known))
    found = []
    for pair in combinations(shares, 2):
        high, low = sorted(pair, key=lambda one: shares[one][0].value, reverse=True)
        a, b = shares[high][0], shares[low][0]
        # The lower end of the difference: Newcombe, "Interval estimation for the difference between independent
        # proportions", Statistics in Medicine 1998, method 10.
        least = a.value - b.value - np.hypot(a.value - a.low, b.high - b.value)
        if least > ACCURACY_GAP:
            counts = [f"{shares[one][1]} of {shares[one][2]} samples of group {one!r}" for one in (high, low)]
            alarm = Alarm(f"Right in {counts[0]}, but in {counts[1]}.", f"groups {high!r} and {low!r}")
            found.append((least, alarm))
    return [alarm for _, alarm in sorted(found, key=lambda one: one[0], reverse=True)]
