"""The plots of a benchmark. matplotlib comes with the extra `benchmark`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from sess_lightning.benchmark.intervals import Interval

# Of Okabe and Ito: told apart by the colour-blind too.
_BASE, _SESS, _OVERALL = "#999999", "#0072B2", "#009E73"
_LINES = {"insertion": _SESS, "deletion": "#D55E00", "overall": _OVERALL}


class Bars(NamedTuple):
    """One panel of bars: of each group the base method alone and with SESS."""

    title: str
    axis: str
    groups: Mapping[str, Sequence[Interval]]


class Curve(NamedTuple):
    """One panel of lines over a setting: insertion, deletion and overall."""

    title: str
    axis: str
    positions: Sequence[Any]
    figures: Mapping[str, Sequence[Interval]]


def check_plots() -> None:
    """Stop before hours of work if the plots could not be drawn in the end.

    Raises:
        ModuleNotFoundError: with the command that installs what is missing.
    """
    if find_spec("matplotlib") is None:
        raise ModuleNotFoundError(
            "The plots of the benchmark need matplotlib. Install it with pip install 'sess-lightning[benchmark]'."
        )


def draw_bars(path: Path, panels: Sequence[Bars]) -> None:
    """Write panels of bars side by side, with intervals, as a picture."""
    figure, axes = _axes(len(panels), max(len(panel.groups) for panel in panels))
    for axis, panel in zip(axes, panels, strict=True):
        for number, (colour, label) in enumerate(((_BASE, "alone"), (_SESS, "with SESS"))):
            found = [values[number] for values in panel.groups.values()]
            places = [place + 0.38 * (number - 0.5) for place in range(len(found))]
            heights = [one.value for one in found]
            axis.bar(places, heights, 0.36, color=colour, label=label, yerr=_errors(found), capsize=3)
        axis.set_xticks(range(len(panel.groups)), list(panel.groups), fontsize=8)
        axis.set_title(panel.title)
        axis.set_ylabel(panel.axis)
    axes[0].legend(frameon=False)
    _save(figure, path)


def draw_curves(path: Path, panels: Sequence[Curve]) -> None:
    """Write panels of lines with bands of their intervals, as a picture; the deletion axis is part of the same plot."""
    figure, axes = _axes(len(panels), 4)
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
    axes[0].set_ylabel("x 100")
    axes[0].legend(frameon=False)
    _save(figure, path)


def _axes(count: int, groups: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # no pyplot: no backend, no state that outlives this

    figure = Figure(figsize=(count * max(3.2, 1.1 * groups), 3.6), dpi=120, layout="constrained")
    return figure, figure.subplots(1, count, squeeze=False)[0]


def _errors(found: Sequence[Interval]) -> list[list[float]]:
    return [[max(0.0, v.value - v.low) for v in found], [max(0.0, v.high - v.value) for v in found]]


def _save(figure: Any, path: Path) -> None:
    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", alpha=0.3)
    figure.savefig(path)
