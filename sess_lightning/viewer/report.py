"""The report: the records of one or several runs as one HTML file that needs no server and no network."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from sess_lightning.viewer.files import write_parts
from sess_lightning.viewer.reading import DamagedRecord, Record

MOST_VALIDATIONS = 48
"""Validations whose maps are in a report: it stays below 15 MB with 32 samples. The record keeps all."""

_STATIC = Path(__file__).parent / "static"
_FIRST = "page.js"
_IMPORT = re.compile(r'^import \{[^}]*\} from "\./([\w.]+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(async )?(function|class|const|let) )", re.MULTILINE)
# What a browser may do with the page: run what stands in it, and reach nothing outside.
_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"


def write_report(
    folders: Sequence[Path], out: Path, need_one: bool = False, read: dict[Path, Record] | None = None
) -> dict[Path, str]:
    """Write a report of records; the file is there whole or not at all.

    Args:
        folders: of the records, see docs/record.md. One that is damaged is named in the page; the others are shown.
        out: the HTML file; one that is there is replaced.
        need_one: write nothing where all records are damaged.
        read: records by folder as an earlier call has left them here: of these only new lines are read.

    Returns:
        What is wrong with each record that is damaged.

    Raises:
        DamagedRecord: with `need_one`, if all are damaged; it says what is wrong with the first.
        OSError: if the file cannot be written.
    """
    named = _named(folders)
    read = {} if read is None else read
    runs, pictures, damaged = _runs({name: read.setdefault(one, Record(one)) for name, one in named.items()})
    if need_one and len(damaged) == len(runs):
        raise DamagedRecord(next(iter(damaged.values()), "There is no record."))
    # Half a character, which JSON can name and UTF-8 cannot hold, becomes what JSON says for it.
    write_parts(out, (part.encode("utf-8", "backslashreplace") for part in _page(runs, pictures)))
    return {named[name]: error for name, error in damaged.items()}


def bundle() -> str:
    """Returns the page's script: the modules in the order of their imports, in one scope.

    A page opened from disk may not import modules beside it. The modules keep to what this needs: names that are unique
    over all files, imports of one line at the top, no default exports.
    """
    return "\n".join(_IMPORT.sub("", _EXPORT.sub("", _source(name))) for name in modules(_FIRST))


def modules(first: str) -> list[str]:
    """Returns the names of a module and of all that it imports, those that are needed first."""
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        for other in _IMPORT.findall(_source(name)):
            if other not in order:
                visit(other)
        order[name] = None

    visit(first)
    return list(order)


def evenly_thinned(numbers: Sequence[int], most: int) -> list[int]:
    """Returns at most so many of them, evenly spaced, with the first and, from two on, the last.

    Example:
        >>> evenly_thinned(range(10), 4)
        [0, 3, 6, 9]
    """
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[round(i * (len(numbers) - 1) / max(1, most - 1))] for i in range(most)]


@cache
def _source(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """Records by a name that tells them apart: their last folders, as few as it takes."""
    if not folders:
        return {}
    parts = [Path(os.path.realpath(folder)).parts for folder in folders]
    for depth in range(2, max(2, *map(len, parts)) + 1):
        names = ["/".join(one[-depth:]) for one in parts]
        if len(set(names)) == len(set(parts)):
            break
    return dict(zip(names, map(Path, folders), strict=True))


def _runs(records: Mapping[str, Record]) -> tuple[list[list[str]], list[str], dict[str, str]]:
    """Returns by record the parts of its JSON, all elements with pictures, and by name what is wrong."""
    runs: list[list[str]] = []
    heavy: list[str] = []
    damaged: dict[str, str] = {}
    for at, (name, record) in enumerate(records.items()):
        try:
            run, pictures = _run(name, record, at, MOST_VALIDATIONS // max(1, len(records)))
        except DamagedRecord as error:
            damaged[name] = str(error)
            run, pictures = [_escaped(json.dumps({"name": name, "error": damaged[name]}))], []
        runs.append(run)
        heavy += pictures
    return runs, heavy, damaged


def _page(runs: Sequence[Sequence[str]], pictures: Sequence[str]) -> Iterator[str]:
    """Yields the parts of the page."""
    yield '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>SESS</title>\n'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
    yield f"<style>\n{_source('style.css')}</style>\n</head>\n<body>\n"
    yield _element("sess-colours", _source("colormap.json"))
    yield '<script type="text/plain" id="sess-data">{"runs":['
    for number, run in enumerate(runs):
        yield "," if number else ""
        yield from run
    yield "]}</script>\n"
    yield from pictures
    yield f"<script>\n(() => {{\n{bundle()}\nshowReport();\n}})();\n</script>\n</body>\n</html>\n"


def _run(name: str, record: Record, at: int, most: int) -> tuple[list[str], list[str]]:
    """Returns the numbers of a record as parts of JSON, and the elements with its pictures.

    Maps that cannot be read are left out, and `missing` says why: the numbers are good without them.
    """
    numbers = evenly_thinned([line.number for line in record.lines() if line.has_maps], max(2, most))
    maps: list[str] = []
    missing: dict[int, str] = {}
    for number in numbers:
        try:
            maps += _maps(record, at, number)
        except (DamagedRecord, UnicodeDecodeError) as error:  # the second: of patch scores
            missing[number] = str(error)
    run = record.as_json(name=name, error=None, withMaps=numbers, missing=missing)
    # After it, as a new validation may add samples: all that are named have their image.
    pictures = [
        _element(f"sess-image-{at}-{sample}", _base64(record.image(sample)))
        for sample in range(len(record.header()["samples"]))
    ]
    return run, pictures + maps


def _maps(record: Record, at: int, number: int) -> list[str]:
    """Returns the elements of one validation: its maps, and its patch scores if it has some."""
    elements = [_element(f"sess-maps-{at}-{number}", _base64(record.maps(number)))]
    scores = record.scores(number)
    return elements + ([_element(f"sess-scores-{at}-{number}", scores.decode("utf-8"))] if scores else [])


def _element(name: str, content: str) -> str:
    """A script element that the browser does not run; what stands in it cannot end it."""
    return f'<script type="text/plain" id="{name}">{_escaped(content)}</script>\n'


def _escaped(json_text: str) -> str:
    """JSON that can stand in an element: `<` occurs in its texts only."""
    return json_text.replace("<", "\\u003c")


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
