"""The metrics of a `SESSCallback`: those that its argument names or gives, and those that it always measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torchmetrics import Metric

from sess_lightning.callback.keys import (
    BACKGROUND_RELIANCE,
    BASE,
    DRIFT,
    KEYS,
    OBJECT_RELIANCE,
    check_name,
    key_name,
)
from sess_lightning.checks import check_choice
from sess_lightning.logits import Activation
from sess_lightning.metrics.perturbation_metric import PerturbationMetric
from sess_lightning.metrics.reliance import RelianceMetric


def build_metrics(
    metrics: Sequence[str] | Mapping[str, Metric], activation: Activation = "softmax"
) -> dict[str, Metric]:
    """Metrics by name: those named are made with their defaults, those of a mapping are taken as they are.

    Args:
        metrics: names of metrics, or the metrics by name.
        activation: that metrics made by name turn logits into probabilities with.

    Raises:
        ValueError: if a name is unknown, reserved, or gives the key of another, or a value is no metric.
    """
    if isinstance(metrics, Mapping):
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise ValueError(
                    f"Expected `metrics[{name!r}]` to be a torchmetrics.Metric, but got {type(metric).__name__}."
                )
            check_name(name)
        _check_keys(metrics)
        return dict(metrics)
    if isinstance(metrics, str):
        raise ValueError(
            f"Expected argument `metrics` to be a list of names or a mapping, but got the string {metrics!r}."
        )
    known = {key.title: key.metric for key in KEYS if key.metric is not None}
    for name in metrics:
        check_choice("metrics", name, tuple(known))
    return {name: _built(known[name], activation) for name in metrics}


def with_standing_metrics(
    metrics: Mapping[str, Metric], alarm: bool, activation: Activation = "softmax"
) -> dict[str, Metric]:
    """The metrics, and those that every validation measures because they cost next to nothing.

    Args:
        metrics: by name; one of the same name takes the place of a standing one.
        alarm: measure what the alarm needs.
        activation: as for `build_metrics`.

    Raises:
        ValueError: if a metric has the name of what the alarm reads and is something else, or would be logged under the
            key of a standing one.
    """
    found = dict(metrics)
    for key in (DRIFT, *((OBJECT_RELIANCE, BACKGROUND_RELIANCE) if alarm else ())):
        if key.title not in found and key.metric is not None:
            found[key.title] = _built(key.metric, activation)
        elif key is not DRIFT and not isinstance(found[key.title], key.metric or ()):
            raise ValueError(
                f"Expected `metrics[{key.title!r}]` to be {key.metric and key.metric.__name__}, whose values the alarm "
                f"reads, but got {type(found[key.title]).__name__}. Give it another name, or pass alarm=False."
            )
    _check_keys(found)
    return found


def logged_names(name: str, metric: Metric) -> Iterator[str]:
    """Yields the names of the keys that a metric may be logged under: its own, and that of the base method."""
    yield key_name(name)
    if not isinstance(metric, RelianceMetric):  # which reads no map, so that the base method has none of its own
        yield f"{BASE}{key_name(name)}"


def _check_keys(metrics: Mapping[str, Metric]) -> None:
    taken: dict[str, str] = {}
    for name, metric in metrics.items():
        for key in logged_names(name, metric):
            if key in taken:
                raise ValueError(
                    f"Expected the names in `metrics`, and those that SESSCallback adds, to give different keys, but "
                    f"both {taken[key]!r} and {name!r} would be logged as {key!r}. Give yours another name."
                )
            taken[key] = name


def _built(kind: Any, activation: Activation) -> Metric:
    needs = issubclass(kind, (PerturbationMetric, RelianceMetric))
    metric: Metric = kind(activation=activation) if needs else kind()
    return metric
