"""A page of captioned panels, drawn by Pillow: its measures and its canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sess_lightning.render.picture import as_pixels
from sess_lightning.render.text import font_of, printable, shortened

Colour = tuple[int, int, int]

PAGE: Colour = (33, 35, 40)
TEXT: Colour = (236, 237, 239)
MUTED: Colour = (172, 176, 184)


class Layout(NamedTuple):
    """The measures of a page of equal panels, in pixels."""

    height: int
    width: int
    columns: int
    side: int = 0  # width of the column of row titles

    @property
    def font_size(self) -> int:
        """Font size in pixels."""
        return max(11, min(28, round(self.height / 17)))

    @property
    def font(self) -> ImageFont.FreeTypeFont:
        """Font of all text on the page."""
        return font_of(self.font_size)

    @property
    def line(self) -> int:
        """Distance between two baselines of text."""
        return round(1.45 * self.font_size)

    @property
    def gap(self) -> int:
        """Distance between panels."""
        return round(0.6 * self.font_size)

    @property
    def breadth(self) -> int:
        """Width of all columns together, without the row titles."""
        return self.columns * (self.width + self.gap) - self.gap

    def column(self, number: int) -> int:
        """Left edge of column `number`."""
        return self.gap + self.side + number * (self.width + self.gap)


class BoardLayout(Layout):
    """The measures of a page with large text: TensorBoard's cards are 350 pixels wide until one is clicked."""

    @property
    def font_size(self) -> int:
        """Font size in pixels."""
        return max(16, min(36, round(self.height / 11)))


class Canvas:
    """A page on which Pillow draws text and pictures; what comes in and goes out are tensors."""

    def __init__(self, width: int, height: int, font: ImageFont.FreeTypeFont) -> None:
        self._image = Image.new("RGB", (width, height), PAGE)
        self._pen = ImageDraw.Draw(self._image)
        self._font = font
        self.width = width

    def write(self, x: float, middle: float, text: str, colour: Colour, width: int) -> None:
        """Write one line of text, shortened to `width` pixels; `x` is its left edge, `middle` its vertical centre."""
        self._pen.text((x, middle), shortened(printable(text), self._font, width), colour, self._font, anchor="lm")

    def paste(self, x: int, y: int, picture: Tensor) -> None:
        """Place a picture `(3, H, W)` uint8 with its top left corner at `(x, y)`."""
        self._image.paste(Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()), (x, y))

    def pixels(self) -> Tensor:
        """The page as a tensor `(3, height, width)` uint8."""
        return as_pixels(self._image)


def draw_page(
    layout: Layout,
    panels: Sequence[Sequence[Tensor]],
    headings: Sequence[str],
    title: str | None,
    captions: Sequence[Sequence[str]] = (),
    row_titles: Sequence[str] = (),
    legend: Tensor | None = None,
) -> Tensor:
    """Draw title, headings, rows of panels with their captions, and the legend, from top to bottom.

    Args:
        layout: the measures of the page.
        panels: the pictures `(3, height, width)` uint8 of each row, all of the layout's panel size.
        headings: one above each column.
        title: one line on top, or None.
        captions: the lines of text below each row.
        row_titles: one at the left of each row, in the width `layout.side`.
        legend: a picture `(3, h, w)` uint8 at the bottom, or None.

    Returns:
        `(3, height, width)` uint8.
    """
    gap, line = layout.gap, layout.line
    top = gap // 2 + line * (1 + (title is not None))
    block = layout.height + line * max(map(len, captions), default=0) + gap
    height = top + block * len(panels) + (legend.shape[1] + gap // 2 if legend is not None else 0)
    canvas = Canvas(layout.column(layout.columns), height, layout.font)
    if title is not None:
        canvas.write(gap, gap // 2 + line / 2, title, TEXT, layout.side + layout.breadth)
    for column, heading in enumerate(headings):
        canvas.write(layout.column(column), top - line / 2, heading, MUTED, layout.width)
    for number, row in enumerate(panels):
        y = top + number * block
        for column, panel in enumerate(row):
            canvas.paste(layout.column(column), y, panel)
        for title_of_row in row_titles[number : number + 1]:
            canvas.write(gap, y + layout.height / 2, title_of_row, TEXT, layout.side - gap)
        for i, text in enumerate(captions[number] if captions else ()):
            canvas.write(
                layout.column(0), y + layout.height + (i + 0.6) * line, text, MUTED if i else TEXT, layout.breadth
            )
    if legend is not None:
        canvas.paste(layout.column(0), top + block * len(panels), legend)
    return canvas.pixels()
