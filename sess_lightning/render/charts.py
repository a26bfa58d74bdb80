"""Charts by matplotlib: lines over a share from 0 to 1, and bars by class, with and without SESS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sess_lightning.render.page import MUTED, PAGE, TEXT, Colour, Layout
from sess_lightning.render.plot_page import PlotPage, drawn_and_freed, shade
from sess_lightning.render.text import printable, wrapped

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_GRID: Colour = (66, 69, 76)
# The first of two lines or bars is green and solid, the second purple and broken: hue is never the only difference.
_COLOURS: tuple[Colour, Colour] = (86, 214, 168), (222, 143, 190)
_LINE_STYLES = ("solid", (0, (3, 2)))
_HATCHES = (None, "///")


class Line(NamedTuple):
    """One line of a chart: its label in the legend, and `(n,)` heights in [0, 1], evenly spaced from left to right."""

    label: str
    heights: Tensor


class Bar(NamedTuple):
    """One bar: its length in [0, 1], and the text beside its end."""

    length: float
    text: str


def curves_figure(
    charts: Mapping[str, Sequence[Line]], axes: Mapping[str, str], title: str, height: int = 200
) -> Tensor:
    """Charts one below the other, each with one or two lines, both axes from 0 to 1.

    Args:
        charts: heading of each chart and its lines.
        axes: label of the horizontal axis of each chart, by heading.
        title: one line on top of the page.
        height: of the plots in pixels, at least 32.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if there is no chart, one does not have one or two lines, or a line is not `(n,)`, finite, of at
            least two points.

    Example:
        >>> lines = [Line("SESS 0.75", torch.tensor([0.5, 1.0])), Line("base 0.50", torch.tensor([0.0, 1.0]))]
        >>> curves_figure({"insertion": lines}, {"insertion": "pixels inserted"}, "epoch 3").shape
        torch.Size([3, 313, 374])
    """
    _check_charts(charts)
    return drawn_and_freed(lambda: _curves_page(charts, axes, title, height))


def _curves_page(charts: Mapping[str, Sequence[Line]], axes: Mapping[str, str], title: str, height: int) -> Tensor:
    layout = Layout(height, round(1.6 * height), 1)
    width, line, gap = layout.width, layout.line, layout.gap
    left = gap + round(2.2 * layout.font_size)
    block = height + 4 * line + 2 * gap  # heading, plot, labels of the ticks and of the axis, legend
    page = PlotPage(left + width + 3 * gap, 2 * gap + line + len(charts) * block, layout.font_size)
    page.write(gap, gap + line / 2, title, TEXT, page.width - 2 * gap)
    for number, (heading, lines) in enumerate(charts.items()):
        top = 2 * gap + 2 * line + number * block
        page.write(left, top - line / 2, heading, TEXT, width)
        handles = _draw_lines(page.axes(left, top, width, height), lines, page)
        page.write(left + width / 2, top + height + 1.7 * line, axes[heading], MUTED, width, "center")
        page.legend(handles, [one.label for one in lines], left, top + height + 2.4 * line, width)
    return page.pixels()


def bars_figure(groups: Mapping[str, Sequence[Bar]], names: Sequence[str], title: str, length: int = 260) -> Tensor:
    """One or two horizontal bars for each group, one group below the other.

    Args:
        groups: name of each group and its bars, one for each of `names`.
        names: of the one or two kinds of bars, for the legend.
        title: on top of the page, in several lines if need be.
        length: of a bar of 1, in pixels.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if there is no group, there are not one or two names, or a group has another number of bars.

    Example:
        >>> groups = {"disc": [Bar(0.75, "3 of 4"), Bar(0.5, "2 of 4")], "star": [Bar(1, "4 of 4"), Bar(0, "0 of 4")]}
        >>> bars_figure(groups, ["SESS", "base"], "epoch 3").shape[0]
        3
    """
    if not groups or not 1 <= len(names) <= len(_COLOURS) or any(len(bars) != len(names) for bars in groups.values()):
        raise ValueError(
            "Expected `groups` to hold at least one group, each with a bar for every one of 1 or 2 `names`, but got "
            f"{[len(bars) for bars in groups.values()]} bars for {len(names)} names."
        )
    return drawn_and_freed(lambda: _bars_page(groups, names, title, length))


def _bars_page(groups: Mapping[str, Sequence[Bar]], names: Sequence[str], title: str, length: int) -> Tensor:
    layout = Layout(240, length, 1)
    font, line, gap = layout.font, layout.line, layout.gap
    side = min(260, round(max(font.getlength(printable(name)) for name in groups)) + 2)
    after = round(max(font.getlength(printable(bar.text)) for bars in groups.values() for bar in bars)) + 3 * gap
    left = 2 * gap + side
    width = left + length + after
    titles = wrapped(title, font, width - 2 * gap)
    top = (len(titles) + 1) * line + 3 * gap
    height = len(groups) * (len(names) * line + gap)
    page = PlotPage(width, top + height + 2 * line, layout.font_size)
    for number, words in enumerate(titles):
        page.write(gap, gap + (number + 0.5) * line, words, TEXT, width - 2 * gap)
    handles = _draw_bars(page.axes(left, top, length, height), groups, side, page)
    page.legend(handles, names, left, top - gap - line, width - left)
    return page.pixels()


def _check_charts(charts: Mapping[str, Sequence[Line]]) -> None:
    if not charts or any(not 1 <= len(lines) <= len(_COLOURS) for lines in charts.values()):
        raise ValueError(
            f"Expected argument `charts` to hold at least one chart, each of one or two lines, but got "
            f"{ {heading: len(lines) for heading, lines in charts.items()} }."
        )
    for heading, lines in charts.items():
        for one in lines:
            if one.heights.ndim != 1 or len(one.heights) < 2 or not torch.isfinite(one.heights).all():
                raise ValueError(
                    f"Expected line {one.label!r} of chart {heading!r} to be finite and to have shape (n,), n >= 2, "
                    f"but got {tuple(one.heights.shape)}."
                )


def _draw_lines(axes: Axes, lines: Sequence[Line], page: PlotPage) -> list[Artist]:
    """Draw the lines on a grid and return them; the first lies on top."""
    shares = (0.0, 0.25, 0.5, 0.75, 1.0)
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_xticks(shares, ["0%", "", "50%", "", "100%"], **page.text_style(MUTED))
    axes.set_yticks(shares, ["0", "", "0.5", "", "1"], **page.text_style(MUTED))
    axes.grid(visible=True, color=shade(_GRID), linewidth=1, linestyle="solid", alpha=1, clip_on=False)
    handles: list[Artist] = []
    for place, one in enumerate(lines):
        heights = one.heights.double().clamp(0, 1).cpu().numpy()
        handles += axes.plot(
            np.linspace(0, 1, len(heights)),
            heights,
            color=shade(_COLOURS[place]),
            linestyle=_LINE_STYLES[place],
            linewidth=3,
            marker="",
            zorder=4 - place,
            clip_on=False,  # lines at 0 and 1 are seen whole
        )
    return handles


def _draw_bars(axes: Axes, groups: Mapping[str, Sequence[Bar]], side: int, page: PlotPage) -> list[Artist]:
    """Draw the bars, their texts, and the names of the groups in `side` pixels; return one handle for each kind."""
    kinds = list(zip(*groups.values(), strict=True))
    axes.set(xlim=(0, 1), ylim=(len(groups) - 0.5, -0.5))
    axes.set_xticks((0, 0.5, 1), ["0%", "50%", "100%"], **page.text_style(MUTED))
    axes.set_yticks(range(len(groups)), [page.fitting(name, side) for name in groups], **page.text_style(TEXT))
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x", color=shade(_GRID), linewidth=1, linestyle="solid", alpha=1, clip_on=False)
    pitch = 0.8 / len(kinds)
    handles: list[Artist] = []
    for place, bars in enumerate(kinds):
        drawn = axes.barh(
            [number + (place - (len(kinds) - 1) / 2) * pitch for number in range(len(groups))],
            [bar.length for bar in bars],
            0.8 * pitch,
            color=shade(_COLOURS[place]),
            edgecolor=shade(PAGE),
            linewidth=0,
            hatch=_HATCHES[place],
        )
        labels = [printable(bar.text) for bar in bars]
        axes.bar_label(drawn, labels, padding=0.5 * page.font_size, **page.text_style(MUTED))
        handles.append(drawn[0])
    return handles
