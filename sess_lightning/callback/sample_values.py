"""Values of single samples, and from them the intervals of a validation's numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from torchmetrics import Metric

from sess_lightning.callback.keys import BASE, INSERTION, KEYS, POINTING, key_name
from sess_lightning.intervals import Interval, hit_interval, mean_intervals
from sess_lightning.metrics import PointingGame, SaliencyDrift
from sess_lightning.metrics.perturbation_metric import PerturbationMetric
from sess_lightning.metrics.reliance import RelianceMetric

Intervals = dict[str, Interval]
Columns = dict[str, list[float]]
GAIN = "_gain"
"""Behind the name of a key: what SESS gives more than the base method, over the same samples."""


class SampleValues:
    """Values by name of the key, one for each sample explained; NaN where a sample counts for none.

    Means over them are the logged numbers: areas, and hits of a pointing metric that averages over samples.
    """

    def __init__(self) -> None:
        self.columns: Columns = defaultdict(list)

    def add(self, before: str, metrics: Iterable[tuple[str, Metric]], hits: Sequence[bool | None]) -> None:
        """Add the samples of the metrics' last update.

        Args:
            before: `BASE` for the base method, else nothing.
            metrics: by name.
            hits: of these samples, as the metric named `"pointing"` counts them.
        """
        for name, metric in metrics:
            if isinstance(metric, PerturbationMetric):
                self.columns[before + key_name(name)] += metric.last_areas.double().tolist()
            elif isinstance(metric, (RelianceMetric, SaliencyDrift)):
                self.columns[before + key_name(name)] += metric.last_values.double().tolist()
            elif isinstance(metric, PointingGame) and metric.average == "micro" and key_name(name) == POINTING.name:
                self.columns[before + POINTING.name] += [np.nan if hit is None else float(hit) for hit in hits]


def joined(parts: Sequence[Mapping[str, Sequence[float]]]) -> Columns:
    """The columns of all processes, one behind the other."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: [value for part in parts for value in part.get(name, ())] for name in names}


def intervals_of(columns: Mapping[str, Sequence[float]]) -> Intervals:
    """95 % intervals of the numbers, and of the gains of SESS over its base, paired by sample.

    Those of pointing are Wilson's, all others come from a bootstrap.

    Args:
        columns: values by name of the key, with `BASE` before it for the base method's.

    Example:
        >>> found = intervals_of({"pointing_acc": [1.0, 1.0, 1.0], "base_pointing_acc": [0.0, 1.0, 0.0]})
        >>> f"{found['pointing_acc_gain']:.2f}"
        '0.67 [0.00, 1.00]'
    """
    values = {name: np.array(column, dtype=float) for name, column in columns.items()}
    for key in KEYS:
        for before in ("", BASE) if key.difference else ():
            first, second = (f"{before}{part.name}" for part in key.difference or ())
            if first in values and second in values:
                values[before + key.name] = values[first] - values[second]
    # What no sample has a value of has no interval, e.g. drift in the first validation.
    values = {name: column for name, column in values.items() if np.isfinite(column).any()}
    for key in KEYS:
        if key.better and {key.name, BASE + key.name} <= values.keys():
            values[key.name + GAIN] = values[key.name] - values[BASE + key.name]
    found = mean_intervals(values)
    hits = {BASE + POINTING.name, POINTING.name} & found.keys()
    return found | {name: hit_interval(values[name]) for name in hits}


def logged_intervals(found: Intervals) -> dict[str, float]:
    """What `intervals=True` logs: of pointing accuracy and of all gains the ends, and the gains themselves."""
    values = {name: one.value for name, one in found.items() if name.endswith(GAIN)}
    for name, one in found.items():
        if name.endswith(GAIN) or name.removeprefix(BASE) == POINTING.name:
            values |= {f"{name}_low": one.low, f"{name}_high": one.high}
    return values


def in_short(found: Intervals) -> str:
    """The most telling of them for the title of a picture, e.g. `pointing 0.94 [0.88, 0.98]`."""
    parts = [f"pointing {found[POINTING.name]:.2f}"] if POINTING.name in found else []
    gains = [key for key in KEYS if key.difference and key.name + GAIN in found] or [INSERTION]
    parts += [f"{key.title} {found[key.name + GAIN]:+.3f} over base" for key in gains if key.name + GAIN in found]
    return " · ".join(part for part in parts if not part.endswith(" -"))


def as_table(found: Intervals) -> str:
    """All of them as a Markdown table."""
    lines = ["| | base | SESS | SESS - base |", "|---|---|---|---|"]
    for key in KEYS:
        if key.name in found:
            formats = {BASE + key.name: ".3f", key.name: ".3f", key.name + GAIN: "+.3f"}
            cells = [format(found[name], spec) if name in found else "" for name, spec in formats.items()]
            lines.append(f"| {key.title} | {' | '.join(cells)} |")
    return "\n".join(["95 % intervals, bootstrap over the samples.", "", *lines])
