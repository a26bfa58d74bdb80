"""Confidence intervals over photos or samples: by bootstrap, and in closed form for hits and misses.

Plain percentiles of a bootstrap are too narrow for few values: they lack the factor n / (n - 1) of the variance and
Student's t. The percentiles are taken further out by both, as Hesterberg ("What teachers should know about the
bootstrap", The American Statistician 2015) says; for 100 values it hardly matters. `studies/coverage.py` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

_REPEATS = 2000
_Z = NormalDist().inv_cdf(0.975)
_AT_ONCE = 100  # resamples at a time: bounds the memory for data sets of many photos


class Interval(NamedTuple):
    """A value with its 95 % interval; both NaN if there is no value."""

    value: float
    low: float
    high: float

    def __format__(self, spec: str) -> str:
        if np.isnan(self.value):
            return "-"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"


def bootstrap(
    photos: int, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0, count: int | None = None
) -> Interval:
    """Returns a statistic of all photos with its 95 % interval from 2000 bootstrap resamples.

    Args:
        photos: number of photos.
        statistic: function from weights `(R, photos)`, how often a resample contains each photo, to values `(R,)`. NaN
            means undefined and is ignored by the percentiles.
        seed: seed of the resamples; the same for all figures, so that paired figures use the same photos.
        count: how many of the photos have a value; `None`: all.

    Example:
        >>> values = np.array([1.0, 2.0, 3.0])
        >>> bootstrap(3, lambda weights: weights @ values / weights.sum(1)).value
        2.0
    """
    value = float(statistic(np.ones((1, photos)))[0])
    if not photos:
        return Interval(value, np.nan, np.nan)
    return Interval(value, *_percentiles(resampled(photos, statistic, seed), photos if count is None else count))


def resampled(photos: int, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> np.ndarray:
    """Returns a statistic, as in `bootstrap` but of any shape `(R, ...)`, of 2000 resamples of the photos."""
    generator = np.random.default_rng(seed)
    share = np.full(photos, 1 / photos)
    drawn = (generator.multinomial(photos, share, size=_AT_ONCE) for _ in range(_REPEATS // _AT_ONCE))
    return np.concatenate([statistic(some.astype(float)) for some in drawn])


def _percentiles(figures: np.ndarray, count: int) -> tuple[float, float]:
    """Returns the ends of the interval among resampled figures of `count` values."""
    figures = figures[np.isfinite(figures)]
    tail = 100 * _tail(count)
    low, high = np.percentile(figures, [tail, 100 - tail]) if len(figures) else (np.nan, np.nan)
    return float(low), float(high)


def _tail(count: int) -> float:
    """Returns the share of resamples below an interval of `count` values: Phi(-sqrt(n / (n - 1)) t), t of n - 1."""
    if count < 2:
        return 0.0
    free, z = count - 1, _Z
    # Student's quantile by its expansion around the normal one (Cornish and Fisher), 0.1 % off from 5 on.
    student = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    student += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * free**3)
    return NormalDist().cdf(-math.sqrt(count / free) * student)


def mean_interval(values: np.ndarray) -> Interval:
    """Returns the mean over photos with its interval.

    Args:
        values: `(photos,)`; NaN for photos without a value, which are ignored.
    """
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return bootstrap(len(values), lambda drawn: (drawn @ filled) / (drawn @ there), count=int(there.sum()))


def hit_interval(values: np.ndarray) -> Interval:
    """Returns the share of hits with its interval by Wilson's score.

    A bootstrap of hits only has no width, and is far too narrow near 0 and 1; this one holds what it says.

    Args:
        values: `(samples,)`, 1 for a hit, 0 for a miss, NaN for samples that do not count.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.

    Example:
        >>> f"{hit_interval(np.ones(30)):.3f}"
        '1.000 [0.886, 1.000]'
    """
    counted = values[np.isfinite(values)]
    n = len(counted)
    if not n:
        return Interval(np.nan, np.nan, np.nan)
    share = float(counted.mean())
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    # Rounding must not put an end beyond the share itself, where that is 0 or 1.
    return Interval(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


def mean_intervals(columns: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """Returns `mean_interval` of each column `(photos,)`; the resamples are drawn only once for all of them.

    Example:
        >>> mean_intervals({"a": np.array([1.0, 1.0, 1.0]), "b": np.array([0.0, np.nan, 2.0])})["b"].value
        1.0
    """
    if not any(map(len, columns.values())):
        return {name: Interval(np.nan, np.nan, np.nan) for name in columns}
    values = np.stack(list(columns.values()), 1)
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        figures = resampled(len(values), lambda drawn: (drawn @ filled) / (drawn @ there))
        means = filled.sum(0) / there.sum(0)
    return {
        name: Interval(float(mean), *_percentiles(figures[:, number], int(there[:, number].sum())))
        for number, (name, mean) in enumerate(zip(columns, means, strict=True))
    }


def class_mean_interval(hits: np.ndarray, counts: np.ndarray) -> Interval:
    """Returns the mean of the per-class accuracies with its interval over photos; unseen classes are ignored.

    Args:
        hits: `(photos, classes)`, number of hits.
        counts: `(photos, classes)`, number of questions.
    """

    def statistic(drawn: np.ndarray) -> np.ndarray:
        seen = drawn @ counts
        accuracy = np.divide(drawn @ hits, seen, out=np.zeros_like(seen), where=seen > 0)
        classes = (seen > 0).sum(1)
        return np.divide(accuracy.sum(1), classes, out=np.full(len(seen), np.nan), where=classes > 0)

    return bootstrap(len(hits), statistic)
