"""Bootstrap confidence intervals over photos or samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

_REPEATS = 2000
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


def bootstrap(photos: int, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> Interval:
    """Returns a statistic of all photos with its 2.5th and 97.5th percentile over 2000 bootstrap resamples.

    Args:
        photos: number of photos.
        statistic: function from weights `(R, photos)`, how often a resample contains each photo, to values `(R,)`. NaN
            means undefined and is ignored by the percentiles.
        seed: seed of the resamples; the same for all figures, so that paired figures use the same photos.

    Example:
        >>> values = np.array([1.0, 2.0, 3.0])
        >>> bootstrap(3, lambda weights: weights @ values / weights.sum(1)).value
        2.0
    """
    value = float(statistic(np.ones((1, photos)))[0])
    if not photos:
        return Interval(value, np.nan, np.nan)
    return Interval(value, *_percentiles(resampled(photos, statistic, seed)))


def resampled(photos: int, statistic: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> np.ndarray:
    """Returns a statistic, as in `bootstrap` but of any shape `(R, ...)`, of 2000 resamples of the photos."""
    generator = np.random.default_rng(seed)
    share = np.full(photos, 1 / photos)
    drawn = (generator.multinomial(photos, share, size=_AT_ONCE) for _ in range(_REPEATS // _AT_ONCE))
    return np.concatenate([statistic(some.astype(float)) for some in drawn])


def _percentiles(figures: np.ndarray) -> tuple[float, float]:
    figures = figures[np.isfinite(figures)]
    low, high = np.percentile(figures, [2.5, 97.5]) if len(figures) else (np.nan, np.nan)
    return float(low), float(high)


def mean_interval(values: np.ndarray) -> Interval:
    """Returns the mean over photos with its interval.

    Args:
        values: `(photos,)`; NaN for photos without a value, which are ignored.
    """
    there = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return bootstrap(len(values), lambda drawn: (drawn @ filled) / (drawn @ there))


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
        name: Interval(float(mean), *_percentiles(figures[:, number]))
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
