"""Every key and tag that is logged: what it means, which way is better, its order, when it is absent.

Code takes names, titles and directions from here. tests/callback/test_keys.py holds the tables of README.md, of
docs/watching.md and of the docstring of `SESSCallback` against it, and a fit.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from torch import Tensor
from torchmetrics import Metric

from sess_lightning.metrics import (
    BackgroundReliance,
    DeletionAUC,
    InsertionAUC,
    ObjectReliance,
    PointingGame,
    SaliencyDrift,
    SymmetricRelevanceGain,
)

BASE = "base_"
"""Before the name of a key: the value of the base method alone."""

PHOTOS = sys.maxsize
"""Number of `SESSCallback(photos=)` among the loaders, by which results are kept: they come behind all of them."""

PHOTOS_PART = "/photos"
"""The part of their keys and tags where validation batches are watched as well."""


def full_name(name: str, prefix: str, part: str) -> str:
    """Returns the whole key or tag, as loggers and monitors have it.

    Args:
        name: of the key or tag, e.g. `"pointing_acc"`.
        prefix: first part, e.g. `"sess"`.
        part: `""`; `"/dataloader_idx_1"`, which follows as Lightning writes it; or `PHOTOS_PART`, which goes before.

    Example:
        >>> full_name("overall", "sess", "/dataloader_idx_1"), full_name("overall", "sess", PHOTOS_PART)
        ('sess/overall/dataloader_idx_1', 'sess/photos/overall')
    """
    return f"{prefix}{part}/{name}" if part == PHOTOS_PART else f"{prefix}/{name}{part}"


class Key(NamedTuple):
    """A number that every validation logs as `PREFIX/NAME`.

    Attributes:
        name: last part of the key, e.g. `"insertion_auc"`.
        title: heading of its column in the summary; where there is a `metric`, also its name in
            `SESSCallback(metrics=[...])`.
        meaning: what it measures, for the tables of keys.
        better: which way is better; `""` where neither is.
        absent: when it is not logged, for the tables of keys.
        per_method: logged for SESS and, as `PREFIX/base_NAME`, for the base method alone.
        metric: class of the metric behind it.
        difference: the two keys whose difference it is.
    """

    name: str
    title: str
    meaning: str
    better: Literal["higher", "lower", ""]
    absent: str
    per_method: bool = True
    metric: type[Metric] | None = None
    difference: tuple[Key, Key] | None = None

    @property
    def direction(self) -> str:
        """`"higher is better"` or `"lower is better"`."""
        return f"{self.better} is better"


INSERTION = Key(
    name="insertion_auc",
    title="insertion",
    meaning="mean class probability, most salient pixels inserted first",
    better="higher",
    absent="no sample",
    metric=InsertionAUC,
)
DELETION = Key(
    name="deletion_auc",
    title="deletion",
    meaning="mean class probability, most salient pixels deleted first",
    better="lower",
    absent="no sample",
    metric=DeletionAUC,
)
OVERALL = Key(
    name="overall",
    title="overall",
    meaning="insertion minus deletion",
    better="higher",
    absent="one of them is not measured",
    difference=(INSERTION, DELETION),
)
POINTING = Key(
    name="pointing_acc",
    title="pointing",
    meaning="share of samples whose peak hits an object of the class",
    better="higher",
    absent="no object of the class",
    metric=PointingGame,
)
SRG = Key(
    name="srg",
    title="srg",
    meaning="least salient pixels deleted first minus most salient first",
    better="higher",
    absent="not in `metrics`; no sample",
    metric=SymmetricRelevanceGain,
)
DRIFT = Key(
    name="drift",
    title="drift",
    meaning="1 - cosine similarity of each map to that of the validation before",
    better="",
    absent="first validation",
    metric=SaliencyDrift,
)
OBJECT_RELIANCE = Key(
    name="object_reliance",
    title="object_reliance",
    meaning="class probability lost without its objects",
    better="",
    absent="no object; `alarm=False`",
    per_method=False,
    metric=ObjectReliance,
)
BACKGROUND_RELIANCE = Key(
    name="background_reliance",
    title="background_reliance",
    meaning="class probability lost without all the rest",
    better="",
    absent="no object; `alarm=False`",
    per_method=False,
    metric=BackgroundReliance,
)
ALARMS = Key(
    name="alarms",
    title="alarms",
    meaning="classes told by something else than their objects",
    better="lower",
    absent="fewer than 5 to judge; `alarm=False`",
    per_method=False,
)
SECONDS = Key(
    name="seconds",
    title="seconds",
    meaning="time the callback took in this validation",
    better="lower",
    absent="never",
    per_method=False,
)
NUM_SAMPLES = Key(
    name="num_samples",
    title="samples",
    meaning="samples explained, over all processes",
    better="",
    absent="never",
    per_method=False,
)
VALID_FRACTION = Key(
    name="valid_fraction",
    title="valid",
    meaning="share of them whose map was neither constant nor NaN",
    better="higher",
    absent="no sample",
    per_method=False,
)

KEYS = (
    *(INSERTION, DELETION, OVERALL, POINTING, SRG, DRIFT),
    *(OBJECT_RELIANCE, BACKGROUND_RELIANCE, ALARMS, SECONDS, NUM_SAMPLES, VALID_FRACTION),
)
"""All keys, in the order of tables."""

_RESERVED = {key.name for key in KEYS if key.metric is None}
_KEY_NAMES = {key.title: key.name for key in KEYS if key.metric is not None}  # by name of the metric


class Tag(NamedTuple):
    """A picture or text that is shown under `PREFIX/NAME`.

    Attributes:
        name: last part of the tag.
        what: what it shows, for the table of tags.
        when: when it is written, for the table of tags.
    """

    name: str
    what: str
    when: str


MAPS = Tag(
    name="maps",
    what="a row per sample: image, base map, SESS map; if misclassified, SESS of the prediction",
    when="validation",
)
CURVES = Tag(name="curves", what="mean insertion and deletion curves", when="validation")
POINTING_PER_CLASS = Tag(
    name="pointing_per_class", what="pointing accuracy by class, if there are two", when="validation"
)
EVOLUTION = Tag(
    name="evolution",
    what="filmstrip over the epochs; PNG and GIF of it in the log folder or `save_dir`",
    when="end of `fit`",
)
RUN = Tag(name="run", what="settings and samples, as text", when="first validation")
INTERVALS = Tag(
    name="intervals",
    what="base, SESS and their difference with 95 % intervals over the samples, as text",
    when="validation",
)

WARNINGS = Tag(name="alarms", what="what the network looks at instead of objects, as text", when="where it does")

WORST = Tag(
    name="worst",
    what="with `follow`: samples with the highest loss of all, as in `sess/maps`",
    when="validation",
)
NEW_ERRORS = Tag(
    name="new_errors",
    what="with `follow`: samples that were right one validation before, as in `sess/maps`",
    when="validation",
)

TAGS = (MAPS, WORST, NEW_ERRORS, CURVES, POINTING_PER_CLASS, EVOLUTION, RUN, INTERVALS, WARNINGS)
"""All tags, in the order of tables."""


def check_name(metric: str) -> None:
    """Raise a `ValueError` if a metric has the name of a number that the callback logs by itself."""
    if metric.removeprefix(BASE) in _RESERVED:
        raise ValueError(
            f"Expected the names in `metrics` to be free, but {metric!r} is the key of a number that SESSCallback logs "
            f"by itself, as are {', '.join(sorted(_RESERVED))}. Give the metric another name."
        )


def key_name(metric: str) -> str:
    """Returns the name of the key under which the metric of this name is logged; its own name for a user's metric.

    Example:
        >>> key_name("pointing"), key_name("my_metric")
        ('pointing_acc', 'my_metric')
    """
    return _KEY_NAMES.get(metric, metric)


def differences(values: Mapping[str, Tensor], before: str = "") -> dict[str, Tensor]:
    """Returns the values of the keys that are the difference of two others, where both are there.

    Args:
        values: by name of the key.
        before: `BASE` for the base method, else nothing.

    Example:
        >>> import torch
        >>> differences({"insertion_auc": torch.tensor(0.75), "deletion_auc": torch.tensor(0.25)})
        {'overall': tensor(0.5000)}
    """
    found: dict[str, Tensor] = {}
    for key in KEYS:
        if key.difference is not None:
            first, second = (f"{before}{part.name}" for part in key.difference)
            if first in values and second in values:
                found[f"{before}{key.name}"] = values[first] - values[second]
    return found


def metric_charts(names: Iterable[str], prefix: str, suffix: str) -> dict[str, list[str]]:
    """Charts for TensorBoard's custom scalars: every metric with its base, insertion against deletion.

    Args:
        names: names of the logged values, without prefix and suffix.
        prefix: first part of the keys, e.g. `"sess"`.
        suffix: last part of the keys, e.g. `"/dataloader_idx_1"`, or `PHOTOS_PART`.

    Returns:
        The full keys that each chart overlays, by the chart's title.

    Example:
        >>> metric_charts(["insertion_auc", "base_insertion_auc", "seconds"], "sess", "")
        {'insertion_auc, SESS and base': ['sess/insertion_auc', 'sess/base_insertion_auc']}
    """
    names = set(names)
    order = {key.name: number for number, key in enumerate(KEYS)}
    parts = {part.name for key in KEYS if key.difference for part in key.difference}
    without_chart = {key.name for key in KEYS if not key.per_method}

    def place(name: str) -> tuple[bool, int, str]:
        """The order of the table, metrics of the user's own behind it; last the keys whose difference says more."""
        own = name.removeprefix(BASE)
        return own in parts, order.get(own, len(KEYS)), name

    logged = sorted(names - without_chart, key=place)
    charts: dict[str, list[str]] = {}
    for name in logged:
        if f"{BASE}{name}" in logged:
            charts[f"{name}, SESS and base"] = [name, f"{BASE}{name}"]
        elif name.removeprefix(BASE) == name or name.removeprefix(BASE) not in logged:
            charts[name] = [name]
    for key in KEYS:
        if key.difference and {part.name for part in key.difference} <= set(logged):
            title = " against ".join(f"{part.title} ({part.direction})" for part in key.difference)
            charts[title] = [part.name for part in key.difference]
    reliance = [one.name for one in (OBJECT_RELIANCE, BACKGROUND_RELIANCE) if one.name in names]
    if reliance:
        charts[" and ".join(reliance)] = reliance
    return {title: [full_name(name, prefix, suffix) for name in chosen] for title, chosen in charts.items()}
