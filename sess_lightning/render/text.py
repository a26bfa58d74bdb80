"""Text on pictures: what the font has, and how it is shortened."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from PIL import ImageFont

DOT = " · "


# How letters are spelt that the font lacks and that Unicode does not take apart into a letter and an accent.
_SPELT = str.maketrans(
    {"ß": "ss", "æ": "ae", "Æ": "AE", "œ": "oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d"}
    | {"\u2012": "-", "\u2013": "-", "\u2014": "-", "\u2212": "-", "\u00d7": "x", "\u2192": ">"}
)


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
