"""Every key that is logged: its title, direction, order and when it is absent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from torchmetrics import Metric

from sess_lightning.checks import check_choice
from sess_lightning.logits import Activation
from sess_lightning.metrics import DeletionAUC, InsertionAUC, PointingGame

_BUILT_IN: dict[str, Callable[[Activation], Metric]] = {
    "insertion": lambda activation: InsertionAUC(activation=activation),
    "deletion": lambda activation: DeletionAUC(activation=activation),
    "pointing": lambda activation: PointingGame(),
}


BOOKS = ("seconds", "num_samples", "valid_fraction")


KEYS = {"insertion": "insertion_auc", "deletion": "deletion_auc", "pointing": "pointing_acc"}


def build_metrics(
    metrics: Sequence[str] | Mapping[str, Metric], activation: Activation = "softmax"
) -> dict[str, Metric]:
    """Metrics by name, or as they are.

    Args:
        metrics: names of metrics, or the metrics by name.
        activation: that metrics made by name turn logits into probabilities with.

    Raises:
        ValueError: if a name is unknown or a value is no metric.
    """
    if isinstance(metrics, Mapping):
        for name, metric in metrics.items():
            if not isinstance(metric, Metric):
                raise ValueError(
                    f"Expected `metrics[{name!r}]` to be a torchmetrics.Metric, but got {type(metric).__name__}."
                )
        return dict(metrics)
    if isinstance(metrics, str):
        raise ValueError(
            f"Expected argument `metrics` to be a list of names or a mapping, but got the string {metrics!r}."
        )
    for name in metrics:
        check_choice("metrics", name, tuple(_BUILT_IN))
    return {name: _BUILT_IN[name](activation) for name in metrics}


Charts = dict[str, list[str]]


_LAST = ("insertion_auc", "base_insertion_auc", "deletion_auc", "base_deletion_auc")  # their difference says more


def metric_charts(names: Iterable[str], prefix: str, suffix: str) -> Charts:
    """Titles of charts and the tags that each overlays: every metric with its base, insertion against deletion.

    Args:
        names: of the values logged, without prefix and suffix.
        prefix: of the keys, e.g. `"sess"`.
        suffix: of the keys, e.g. `"/dataloader_idx_1"`.

    Example:
        >>> metric_charts(["insertion_auc", "base_insertion_auc", "seconds"], "sess", "")
        {'insertion_auc, SESS and base': ['sess/insertion_auc', 'sess/base_insertion_auc']}
    """
    names = sorted((name for name in names if name not in BOOKS), key=lambda name: (name in _LAST, name))
    bases = {f"base_{name}" for name in names} & set(names)
    charts: Charts = {}
    for name in names:
        if name not in bases:
            title = f"{name}, SESS and base" if f"base_{name}" in bases else name
            charts[title] = [name, *{f"base_{name}"} & bases]
    if {"insertion_auc", "deletion_auc"} <= set(names):
        charts["insertion (higher is better) against deletion (lower is better)"] = ["insertion_auc", "deletion_auc"]
    return {title: [f"{prefix}/{name}{suffix}" for name in chosen] for title, chosen in charts.items()}
