"""What the content of a record has to be, by docs/record.md; what is not so is said in words.

The page takes what it gets: a number that it can draw with, a list of the length it counts on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Check = Callable[[Any], bool]

MOST_DEEP = 32
"""Lists and objects in one another: `json` itself fails at some depth, which depends on who calls it."""

SAMPLE_KINDS = {"random", "worst", "new_error"}
"""Why a sample is shown; one may be of several kinds, with a space between."""

_MOST_WHOLE = 2**53  # whole numbers above are others in a browser
_MOST_SIDE = 1_000_000  # pixels of a sample
_MOST_TILE = 4096  # pixels of a tile and of its place


def is_deep(value: Any, most: int = MOST_DEEP) -> bool:
    """Whether lists and objects lie deeper in one another than so many."""
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return most == 0 or any(is_deep(one, most - 1) for one in inner if isinstance(one, (dict, list)))


def wrong_in_header(header: Mapping[str, Any]) -> str | None:
    """Returns what is wrong in `record.json`, to be read behind its name; `None` if nothing is."""
    for name, (what, fits) in _HEADER.items():
        if not fits(header.get(name)):
            return f"has no {name!r} that is {what}"
    for number, sample in enumerate(header["samples"]):
        if not isinstance(sample, dict):
            return f"has a sample, number {number}, that is no object"
        for name, (what, fits) in _SAMPLE.items():
            if not fits(sample.get(name)):
                return f"has a sample, number {number}, without {name!r} that is {what}"
        if (sample.get("windows") or 0) > max(0, len(header["windows"]) - 1):
            return f"has a sample, number {number}, with windows that are not in it"
    return None


def wrong_in_line(line: Mapping[str, Any], known: int) -> str | None:
    """Returns what is wrong in a line of `validations.jsonl`, to be read behind its name; `None` if nothing is.

    Args:
        line: of the file.
        known: the number of samples in the header.
    """
    for name, (what, fits) in _LINE.items():
        if not fits(line.get(name)):
            return f"has no {name!r} that is {what}"
    numbers = line["samples"].get("sample")
    if not _are(numbers, lambda i: _is_whole(i) and 0 <= i < known):
        return "has no 'sample' that is a list of numbers of samples in record.json"
    return next(_wrong_in_columns(line["samples"], len(numbers)), None) or _wrong_in_maps(
        line.get("maps"), len(numbers)
    )


def wrong_in_scores(content: Mapping[str, Any], count: int) -> str | None:
    """Returns what is wrong in a file of scores, to be read behind its name; `None` if nothing is.

    Args:
        content: of the file.
        count: the number of samples in its line.
    """
    if _are(content.get("scores"), lambda row: _are(row, _or_null(_is_number)), count):
        return None
    return f"has no 'scores' that are {count} lists of numbers and null"


def _wrong_in_columns(columns: Mapping[str, Any], count: int) -> Iterator[str]:
    for name, column in columns.items():
        if not isinstance(column, list) or len(column) != count:
            yield f"has a column {name[:100]!r} that is no list of {count} entries"
        elif name in ("peak", "base_peak"):
            if not all(one is None or _are(one, _is_number, 2) for one in column):
                yield f"has a column {name!r} with other than two numbers or null"
        elif name == "kind":
            if not all(_is_text(one) and one and set(one.split(" ")) <= SAMPLE_KINDS for one in column):
                yield f"has a column 'kind' with other than {', '.join(sorted(SAMPLE_KINDS))}"
        elif not all(one is None or isinstance(one, bool) or _is_number(one) for one in column):
            yield f"has a column {name[:100]!r} with other than numbers, true, false and null"


def _wrong_in_maps(maps: Mapping[str, Any] | None, count: int) -> str | None:
    for kind in ("sess", "base", "second"):
        tiles = (maps or {}).get(kind)
        if tiles is not None and not _are(tiles, _is_place, count):
            return f"has maps {kind!r} that are not {count} places or null"
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    # What is not finite was read as null; a whole number of 400 digits is infinite in a browser.
    return isinstance(value, float) or (_is_int(value) and abs(value) < 1e300)


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_int(value) and abs(value) <= _MOST_WHOLE


def _is_side(value: Any) -> bool:
    return _is_int(value) and 0 < value <= _MOST_SIDE


def _is_place(value: Any) -> bool:
    """Whether a tile of at least a pixel can lie there."""
    if value is None:
        return True
    return _are(value, _is_int, 4) and min(value) >= 0 and min(value[2:]) > 0 and max(value[2:]) <= _MOST_TILE


def _is_outline(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return _or_null(_is_number)(value[0]) and _are(value[1], _is_number) and len(value[1]) % 2 == 0


def _is_alarm(value: Any) -> bool:
    return isinstance(value, dict) and _is_text(value.get("text")) and _or_null(_is_whole)(value.get("class"))


def _or_null(fits: Check) -> Check:
    return lambda value: value is None or fits(value)


def _are(values: Any, fits: Check, length: int | None = None) -> bool:
    return isinstance(values, list) and length in (None, len(values)) and all(map(fits, values))


def _named(fits: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(fits, value.values()))


_HEADER: dict[str, tuple[str, Check]] = {
    "samples": ("a list", lambda value: isinstance(value, list)),
    "keys": (
        "a list of objects with a name",
        lambda value: _are(value, lambda one: isinstance(one, dict) and _is_text(one.get("name"))),
    ),
    "windows": (
        "a list of lists of windows, six numbers each",
        lambda value: _are(value, lambda one: _are(one, lambda window: _are(window, _is_number, 6))),
    ),
    "class_names": ("an object of texts or null", _or_null(_named(_is_text))),
    "tolerance": ("a number or null", _or_null(_is_number)),
    "no_skill": ("an object of numbers and null, or null", _or_null(_named(_or_null(_is_number)))),
}
_SAMPLE: dict[str, tuple[str, Check]] = {
    "id": ("a text", _is_text),
    "image": ("a text", _is_text),
    "width": ("a whole number above 0", _is_side),
    "height": ("a whole number above 0", _is_side),
    "label": ("a whole number or null", _or_null(_is_whole)),
    "boxes": ("a list of boxes, five numbers each", lambda value: _are(value, lambda box: _are(box, _is_number, 5))),
    "outlines": ("a list of pairs of class and points", _or_null(lambda value: _are(value, _is_outline))),
    "windows": ("a whole number or null", _or_null(lambda value: _is_whole(value) and value >= 0)),
}
_LINE: dict[str, tuple[str, Check]] = {
    "number": ("a whole number from 0 on", lambda value: _is_whole(value) and value >= 0),
    "epoch": ("a whole number", _is_whole),
    "step": ("a whole number", _is_whole),
    "values": ("an object of numbers and null", _named(_or_null(_is_number))),
    "intervals": (
        "an object of three numbers each, or null",
        _or_null(_named(_or_null(lambda value: _are(value, _or_null(_is_number), 3)))),
    ),
    "alarms": ("a list of sentences with their class, or null", _or_null(lambda value: _are(value, _is_alarm))),
    "samples": ("an object", lambda value: isinstance(value, dict)),
    "maps": ("an object or null", lambda value: value is None or isinstance(value, dict)),
    "scores": ("a text or null", _or_null(_is_text)),
}
