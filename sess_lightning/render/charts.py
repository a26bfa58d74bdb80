"""Charts drawn by Pillow: lines over a share from 0 to 1, and bars by class, with and without SESS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sess_lightning.render.page import MUTED, PAGE, TEXT, Canvas, Colour, Layout
from sess_lightning.render.picture import as_pixels

_FINE = 4  # lines are drawn so many times larger and then reduced: smooth edges
_GRID: Colour = (66, 69, 76)
# Of two lines or bars the first is green and whole, the second purple and broken: no meaning hangs on the hue alone.
_COLOURS: tuple[Colour, Colour] = (86, 214, 168), (222, 143, 190)
_DASH = (9.0, 6.0)


class Line(NamedTuple):
    """One line of a chart: what its legend says, and its heights `(n,)` in [0, 1], evenly spaced from left to right."""

    label: str
    heights: Tensor


class Bar(NamedTuple):
    """One bar: its length in [0, 1], and what stands behind it."""

    length: float
    text: str


def curves_figure(
    charts: Mapping[str, Sequence[Line]], axes: Mapping[str, str], title: str, height: int = 200
) -> Tensor:
    """Charts one below the other, each of one or two lines, both axes from 0 to 1.

    Args:
        charts: heading of each chart and its lines.
        axes: what the horizontal axis of each chart says, by heading.
        title: stands on top.
        height: of the plots in pixels, at least 32.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if there is no chart, one does not have one or two lines, or a line is not `(n,)`, finite, of at
            least two points.

    Example:
        >>> lines = [Line("SESS 0.75", torch.tensor([0.5, 1.0])), Line("base 0.50", torch.tensor([0.0, 1.0]))]
        >>> curves_figure({"insertion": lines}, {"insertion": "pixels inserted"}, "epoch 3").shape
        torch.Size([3, 295, 367])
    """
    _check_charts(charts)
    width = round(1.6 * height)
    layout = Layout(height, width, 1)
    line, gap, left = layout.line, layout.gap, round(2.2 * layout.font_size)
    block = height + 4 * line + gap
    canvas = Canvas(left + width + 3 * gap, gap // 2 + line + len(charts) * block, layout.font)
    canvas.write(gap, gap // 2 + line / 2, title, TEXT, canvas.width - 2 * gap)
    x = gap + left
    for number, (heading, lines) in enumerate(charts.items()):
        top = gap // 2 + 2 * line + number * block
        canvas.write(x, top - line / 2, heading, TEXT, width)
        canvas.paste(x, top, _plot(lines, height, width))
        for share in (0.0, 0.5, 1.0):
            for text, across, down in (
                (f"{share:g}", -gap, top + (1 - share) * (height - 1)),
                (f"{share:.0%}", share * width, top + height + line / 2),
            ):
                wide = layout.font.getlength(text)
                canvas.write(x + across - wide * (share if across >= 0 else 1), down, text, MUTED, width)
        middle = x + (width - layout.font.getlength(axes[heading])) / 2
        canvas.write(middle, top + height + 1.4 * line, axes[heading], MUTED, width)
        _write_legend(canvas, x, top + height + 2.4 * line, [one.label for one in lines], layout)
    return canvas.pixels()


def bars_figure(groups: Mapping[str, Sequence[Bar]], names: Sequence[str], title: str, length: int = 260) -> Tensor:
    """A pair of horizontal bars for each group, one below the other.

    Args:
        groups: name of each group and its bars, one for each of `names`.
        names: of the one or two kinds of bars, for the legend.
        title: stands on top.
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
    layout = Layout(240, length, 1)
    font, line, gap = layout.font, layout.line, layout.gap
    side = min(260, round(max(map(font.getlength, groups))) + 2 * gap)
    after = round(max(font.getlength(bar.text) for bars in groups.values() for bar in bars)) + 3 * gap
    block = len(names) * line + gap
    top = gap // 2 + 2 * line + gap
    canvas = Canvas(gap + side + length + after, top + block * len(groups) + line, font)
    canvas.write(gap, gap // 2 + line / 2, title, TEXT, canvas.width - 2 * gap)
    _write_legend(canvas, gap + side, gap // 2 + 1.5 * line, names, layout)
    for share in (0.0, 0.5, 1.0):
        x = gap + side + round(share * (length - 1))
        canvas.paste(x, top - gap // 2, _flat(_GRID, block * len(groups), 1))
        label = f"{share:.0%}"
        canvas.write(x - font.getlength(label) / 2, top + block * len(groups) + line / 3, label, MUTED, after)
    for number, (name, bars) in enumerate(groups.items()):
        y = top + number * block
        canvas.write(gap, y + len(names) * line / 2, name, TEXT, side - gap)
        for place, bar in enumerate(bars):
            middle = y + (place + 0.5) * line
            picture = _bar(bar.length, place, length, round(0.72 * line))
            if picture is not None:
                canvas.paste(gap + side, round(middle - picture.shape[1] / 2), picture)
            canvas.write(gap + side + round(bar.length * length) + gap, middle, bar.text, MUTED, after)
    return canvas.pixels()


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


def _plot(lines: Sequence[Line], height: int, width: int) -> Tensor:
    """The lines on their grid, `(3, height, width)`."""
    image = Image.new("RGB", (width * _FINE, height * _FINE), PAGE)
    pen = ImageDraw.Draw(image)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = share * (width - 1) * _FINE, share * (height - 1) * _FINE
        pen.rectangle((x, 0, x + _FINE - 1, height * _FINE), _GRID)
        pen.rectangle((0, y, width * _FINE, y + _FINE - 1), _GRID)
    for place, one in reversed(list(enumerate(lines))):  # the first lies on top
        heights = one.heights.double().clamp(0, 1).tolist()
        inside = 2 * _FINE  # half a line: 0 and 1 are seen whole
        points = [
            (
                inside + i / (len(heights) - 1) * (width * _FINE - 2 * inside),
                inside + (1 - value) * (height * _FINE - 2 * inside),
            )
            for i, value in enumerate(heights)
        ]
        for part in _dashes(points) if place else [points]:
            pen.line(part, _COLOURS[place], 3 * _FINE, joint="curve")
    return as_pixels(image.resize((width, height), Image.Resampling.BOX))


def _dashes(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """A line cut into dashes of equal length along the way."""
    dashes, current, drawing = [], [points[0]], True
    left = _DASH[0] * _FINE
    for (x, y), (to_x, to_y) in pairwise(points):
        way = ((to_x - x) ** 2 + (to_y - y) ** 2) ** 0.5
        gone = 0.0
        while way - gone > left:
            gone += left
            corner = (x + (to_x - x) * gone / way, y + (to_y - y) * gone / way)
            if drawing:
                dashes.append([*current, corner])
            drawing = not drawing
            current, left = [corner], _DASH[0 if drawing else 1] * _FINE
        left -= way - gone
        current.append((to_x, to_y))
    return [*dashes, current] if drawing else dashes


def _write_legend(canvas: Canvas, x: float, middle: float, labels: Sequence[str], layout: Layout) -> None:
    size = layout.font_size
    for place, label in enumerate(labels):
        icon = _bar(1.0, place, 2 * size, max(4, size // 3))
        if icon is not None:
            canvas.paste(round(x), round(middle - icon.shape[1] / 2), icon)
        x += 2.5 * size
        canvas.write(x, middle, label, TEXT, layout.breadth)
        x += layout.font.getlength(label) + 2 * layout.gap


def _bar(share: float, place: int, length: int, height: int) -> Tensor | None:
    """The first kind whole, the second striped, as its line is dashed; `None` where nothing would be seen."""
    wide = round(share * length)
    if not wide:
        return None
    picture = _flat(_COLOURS[place], height, wide).clone()
    if place:
        gaps = torch.arange(wide) % round(sum(_DASH)) >= _DASH[0]
        picture[:, :, gaps] = torch.tensor(PAGE, dtype=torch.uint8).view(3, 1, 1)
    return picture


def _flat(colour: Colour, height: int, width: int) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1).expand(3, height, width)
