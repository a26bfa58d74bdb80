"""The plots of a benchmark, by matplotlib, which is imported when the first one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sess_lightning.intervals import Interval

# Colours of Okabe and Ito, which colour-blind readers can distinguish.
_BASE, _SESS, _OVERALL = "#999999", "#0072B2", "#009E73"
_LINES = {"insertion": _SESS, "deletion": "#D55E00", "overall": _OVERALL}
_COLUMNS = 3


class Bars(NamedTuple):
    """A panel of bars: for each group the base method alone and with SESS."""

    title: str
    axis: str
    groups: Mapping[str, Sequence[Interval]]


class Curve(NamedTuple):
    """A panel of lines: insertion, deletion and overall over the values of a setting."""

    title: str
    axis: str
    positions: Sequence[Any]
    figures: Mapping[str, Sequence[Interval]]


def draw_bars(path: Path, panels: Sequence[Bars]) -> None:
    """Write panels of bars with intervals to an image file."""
    figure, axes = _axes(len(panels), max(3.2, 1.1 * max(len(panel.groups) for panel in panels)))
    for axis, panel in zip(axes, panels, strict=True):
        for number, (colour, label) in enumerate(((_BASE, "alone"), (_SESS, "with SESS"))):
            found = [values[number] for values in panel.groups.values()]
            places = [place + 0.38 * (number - 0.5) for place in range(len(found))]
            heights = [one.value for one in found]
            axis.bar(places, heights, 0.36, color=colour, label=label, yerr=_errors(found), capsize=3)
        axis.set_xticks(range(len(panel.groups)), list(panel.groups), fontsize=8)
        axis.set_title(panel.title)
        axis.set_ylabel(panel.axis)
    _save(figure, axes, path)


def draw_curves(path: Path, panels: Sequence[Curve]) -> None:
    """Write panels of lines with shaded intervals to an image file."""
    figure, axes = _axes(len(panels), 4.4)
    for axis, panel in zip(axes, panels, strict=True):
        places = range(len(panel.positions))
        for name, values in panel.figures.items():
            axis.plot(places, [v.value for v in values], marker="o", markersize=3, color=_LINES[name], label=name)
            low, high = [v.low for v in values], [v.high for v in values]
            axis.fill_between(places, low, high, color=_LINES[name], alpha=0.15, linewidth=0)
        axis.set_xticks(places, [str(p) for p in panel.positions])
        axis.set_title(panel.title)
        axis.set_xlabel(panel.axis)
        axis.set_ylim(bottom=0)
        axis.set_ylabel("x 100")
    _save(figure, axes, path)


def _axes(count: int, width: float) -> tuple[Any, list[Any]]:
    """Returns a figure with `count` axes, at most three in a row."""
    from matplotlib.figure import Figure  # not pyplot, which selects a backend and keeps global state

    columns = min(count, _COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, 3.6 * rows), dpi=120, layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def _errors(found: Sequence[Interval]) -> list[list[float]]:
    return [[max(0.0, v.value - v.low) for v in found], [max(0.0, v.high - v.value) for v in found]]


def _save(figure: Any, axes: Sequence[Any], path: Path) -> None:
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_axisbelow(True)
        axis.grid(axis="y", alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path)
