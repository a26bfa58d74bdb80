"""matplotlib figures as they are drawn, for tests that read their artists instead of pixels."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import Tensor

Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels from the top left


def record_figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that the Agg canvas draws from now on, in their order."""
    drawn: list[Figure] = []
    draw = FigureCanvasAgg.draw

    def recording(canvas: FigureCanvasAgg) -> None:
        draw(canvas)
        drawn.append(canvas.figure)

    monkeypatch.setattr(FigureCanvasAgg, "draw", recording)
    return drawn


def text_boxes(figure: Figure) -> list[tuple[str, Box]]:
    """Every text that is seen, and where it stands."""
    renderer, height = figure.canvas.get_renderer(), figure.bbox.height
    found = []
    for text in figure.findobj(Text):
        if text.get_text().strip() and text.get_visible():
            box = text.get_window_extent(renderer)
            found.append((text.get_text(), (box.x0, height - box.y1, box.x1, height - box.y0)))
    return found


def words(figure: Figure) -> list[str]:
    return [text for text, _ in text_boxes(figure)]


def pictures_in(figure: Figure) -> list[tuple[Tensor, Box]]:
    """Every picture `(3, H, W)` uint8 that was placed on the page, and where."""
    found = []
    for image in figure.images:
        picture = torch.from_numpy(np.array(image.get_array())).permute(2, 0, 1)
        height, width = picture.shape[1:]
        top = figure.bbox.height - image.oy - height
        found.append((picture, (image.ox, top, image.ox + width, top + height)))
    return found


def assert_nothing_overlaps(figure: Figure) -> None:
    """Texts and pictures lie inside the figure and do not touch each other."""
    boxes = text_boxes(figure) + [(f"picture {box}", box) for _, box in pictures_in(figure)]
    for name, (x1, y1, x2, y2) in boxes:
        assert x1 >= 0, name
        assert y1 >= 0, name
        assert x2 <= figure.bbox.width, name
        assert y2 <= figure.bbox.height, name
    for (one, a), (other, b) in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], f"{one!r} {a} overlaps {other!r} {b}"
