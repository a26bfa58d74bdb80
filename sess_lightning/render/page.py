"""A page of captioned panels: its measures, its text in the font that Pillow brings along, its canvas."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

Colour = tuple[int, int, int]

PAGE: Colour = (33, 35, 40)
TEXT: Colour = (236, 237, 239)
MUTED: Colour = (172, 176, 184)

DOT = " · "
# How letters are spelt that the font lacks and that Unicode does not take apart into a letter and an accent.
_SPELT = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d"}
    | {"\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u00d7": "x", "\u2192": ">"}
)


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


def as_pixels(image: Image.Image) -> Tensor:
    """A Pillow picture as `(3, height, width)` uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


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


def joined(parts: Sequence[tuple[str, str, str]], width: int | None, layout: Layout) -> str:
    """Parts (before, name, after) as one line; the longest names lose letters, down to three, until it fits `width`."""
    names = [printable(name) for _, name, _ in parts]
    room = [len(name) for name in names]
    while True:
        short = [name if len(name) <= n else name[:n].rstrip(" ,") + "…" for name, n in zip(names, room, strict=True)]
        text = DOT.join(before + name + after for (before, _, after), name in zip(parts, short, strict=True))
        if width is None or layout.font.getlength(text) <= width or max(room) <= 3:
            return text
        room[room.index(max(room))] -= 1


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, or as much of its beginning as fits with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    ends = [text[:n].rstrip(" ,·") + "…" for n in range(len(text) - 1, -1, -1)]
    return next((end for end in ends if font.getlength(end) <= width), "")


def printable(text: str) -> str:
    """The text in letters that the font has: accents go, and what is left of other alphabets becomes "?"."""
    letters = []
    for letter in text.translate(_SPELT):
        plain = letter if _in_font(letter) else unicodedata.normalize("NFKD", letter)
        bare = [c for c in plain if not unicodedata.combining(c)]
        letters += [" " if c.isspace() else c if _in_font(c) else "?" for c in bare]
    return "".join(letters)


@lru_cache(4096)
def _in_font(letter: str) -> bool:
    font = _font(20)
    mask, missing = font.getmask(letter), font.getmask("\uffff")
    return letter.isprintable() and (mask.size, bytes(mask)) != (missing.size, bytes(missing))


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError(
            "Captions need Pillow with FreeType, as its wheels have. Reinstall it with pip install pillow."
        )
    return font
