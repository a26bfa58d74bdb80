"""A page of captioned panels: its measures, its text in the font that Pillow brings along, its canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from sess_lightning.render.picture import as_pixels
from sess_lightning.render.text import _font, _shortened, printable

Colour = tuple[int, int, int]

PAGE: Colour = (33, 35, 40)
TEXT: Colour = (236, 237, 239)
MUTED: Colour = (172, 176, 184)


class Layout(NamedTuple):
    """The measures of a page of equal panels, in pixels."""

    height: int
    width: int
    columns: int
    side: int = 0  # the column of row titles

    @property
    def font_size(self) -> int:
        """Of all text, in pixels."""
        return max(11, min(28, round(self.height / 16)))

    @property
    def font(self) -> ImageFont.FreeTypeFont:
        """Of all text."""
        return _font(self.font_size)

    @property
    def line(self) -> int:
        """Distance of two lines of text."""
        return round(1.45 * self.font_size)

    @property
    def gap(self) -> int:
        """Between panels."""
        return round(0.6 * self.font_size)

    @property
    def breadth(self) -> int:
        """All columns together."""
        return self.columns * (self.width + self.gap) - self.gap

    def column(self, number: int) -> int:
        """Left edge of a column."""
        return self.gap + self.side + number * (self.width + self.gap)


class BoardLayout(Layout):
    """The measures of a page that is shown reduced: TensorBoard's cards are 350 pixels wide until one is clicked."""

    @property
    def font_size(self) -> int:
        """Of all text, in pixels."""
        return max(16, min(36, round(self.height / 10)))


class Canvas:
    """What a page is drawn on: Pillow inside, tensors outside."""

    def __init__(self, width: int, height: int, font: ImageFont.FreeTypeFont) -> None:
        self._image = Image.new("RGB", (width, height), PAGE)
        self._pen = ImageDraw.Draw(self._image)
        self._font = font
        self.width = width

    def write(self, x: float, middle: float, text: str, colour: Colour, width: int) -> None:
        """Write one line, shortened to `width`, from `x` on, its middle at height `middle`."""
        self._pen.text((x, middle), _shortened(printable(text), self._font, width), colour, self._font, anchor="lm")

    def paste(self, x: int, y: int, picture: Tensor) -> None:
        """Lay a picture `(3, H, W)` uint8 with its corner at `(x, y)`."""
        self._image.paste(Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()), (x, y))

    def pixels(self) -> Tensor:
        """`(3, height, width)` uint8."""
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
    """Title, headings, panels with their captions, legend: from top to bottom on one canvas."""
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
