"""Text on pictures: its font, which characters the font has, and how text is shortened.

The font is DejaVu Sans, which matplotlib ships: it has Latin, Greek, Cyrillic, Hebrew, Arabic and many symbols.
"""

from __future__ import annotations

import unicodedata
from functools import cache, lru_cache

from PIL import ImageFont

DOT = " · "


@cache
def font_path() -> str:
    """Path of the font file."""
    import matplotlib  # not `font_manager`, which lists all fonts of the machine when it is first imported

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


@lru_cache
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """The font for Pillow; `size` is the font size in pixels."""
    # The basic layout is the same on every machine; Raqm, where Pillow has it, fails on some strings.
    return ImageFont.truetype(font_path(), size, layout_engine=ImageFont.Layout.BASIC)


def printable(text: str) -> str:
    """The text in characters that the font has.

    Of a letter that the font lacks the accents are dropped; what it lacks even then becomes "?", never an empty box.

    Example:
        >>> printable("Größe"), printable("кот"), printable("漢字")
        ('Größe', 'кот', '??')
    """
    characters = []
    for character in unicodedata.normalize("NFC", text):
        parts = character if _in_font(character) else unicodedata.normalize("NFKD", character)
        bare = [part for part in parts if not unicodedata.combining(part)]
        characters += [" " if part.isspace() else part if _in_font(part) else "?" for part in bare]
    return "".join(characters)


def shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text if it fits `width` pixels, else as much of its beginning as fits together with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    ends = [text[:n].rstrip(" ,·") + "…" for n in range(len(text) - 1, -1, -1)]
    return next((end for end in ends if font.getlength(end) <= width), "")


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """The words of the text in lines of at most `width` pixels; a longer word has a line of its own."""
    lines = [""]
    for word in printable(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


@lru_cache(4096)
def _in_font(character: str) -> bool:
    """Whether the font draws this character as something else than the empty box for a missing one."""
    if not character.isprintable():
        return False
    mask, missing = (font_of(20).getmask(one) for one in (character, "\uffff"))
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))
