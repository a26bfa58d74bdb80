"""Reads records of runs, as docs/record.md describes them, with the standard library alone.

A record may be written while it is read, come from elsewhere, or be damaged: nothing in it is trusted, and whatever is
wrong is a `DamagedRecord` with a sentence for people.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Collection, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from sess_lightning.viewer.checks import MOST_DEEP, is_deep, wrong_in_header, wrong_in_line, wrong_in_scores

FORMAT, VERSION = "sess_record", 1
HEADER, LINES = "record.json", "validations.jsonl"

_IMAGE = re.compile(r"images/[\w-]{1,128}\.(jpg|png|webp)")
_MAPS = re.compile(r"maps/[\w-]{1,128}\.png")
_SCORES = re.compile(r"maps/[\w-]{1,128}\.json")
_MOST_FOLDERS = 100_000  # below a log folder: a mistaken `--logdir /` ends
_MOST_DEEP_FOLDERS = 60  # `os.walk` calls itself for each, up to Python 3.11
_MOST_BYTES = 2**29  # of a file: it is read at once


class DamagedRecord(Exception):  # noqa: N818 - the name says what it is
    """A record that cannot be read, with the file and what is wrong in it."""


class NotInRecord(DamagedRecord):
    """A sample or validation that was asked for is not in the record; nothing is wrong with it."""


def find_records(root: Path) -> dict[str, Path]:
    """Returns the folders of all records at or below a folder.

    Links to folders are followed, as TensorBoard does: who puts one into a log folder wants to see what it leads to.
    Each folder is looked at once, so links may run in a circle, and a record that lies below `root` itself goes by that
    name. Folders that cannot be read are left out.

    Args:
        root: e.g. a log folder.

    Returns:
        The folders by their path relative to `root`, with slashes, in order; the name of `root` for `root` itself.
    """
    found: dict[str, Path] = {}
    seen: set[tuple[int, int]] = set()
    links = [str(root)]
    for start in links:  # it grows
        for folder, is_record in _folders(start, seen, links, str(root).rstrip(os.sep).count(os.sep)):
            if is_record:
                path = Path(folder)
                name = path.relative_to(root).as_posix()
                found[_name(path) if name == "." else name] = path
    return dict(sorted(found.items()))


def _folders(start: str, seen: set[tuple[int, int]], links: list[str], top: int) -> Iterator[tuple[str, bool]]:
    """Yields folders and whether they are records, without those seen before; links on the way come to the others."""
    for folder, inner, files in os.walk(start):
        status = _status(folder)
        if status is None or status in seen or len(seen) >= _MOST_FOLDERS:
            inner.clear()
            continue
        seen.add(status)
        here = _is_record(folder, files)
        yield folder, here
        if here or folder.count(os.sep) - top >= _MOST_DEEP_FOLDERS:
            inner.clear()  # below a record are its images and maps
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        links += [path for path in (os.path.join(folder, name) for name in inner) if os.path.islink(path)]


def _status(folder: str) -> tuple[int, int] | None:
    """What a folder is by whatever way one comes to it."""
    try:
        status = os.stat(folder)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_record(folder: str, files: Collection[str]) -> bool:
    """By its name, or by its files where it was renamed: other programs write files named `record.json`, too."""
    return HEADER in files and ("_record" in os.path.basename(os.path.abspath(folder)) or LINES in files)


class Line(NamedTuple):
    """A line of `validations.jsonl`: what finds its files, and its text.

    Attributes:
        number: of the validation.
        step: of the training.
        samples: how many it has.
        has_maps: whether it can be shown.
        maps: file of its maps, as the line names it.
        scores: file of its patch scores, likewise.
        text: the line as JSON that browsers read, see `Record.as_json`; parsed it takes ten times the memory.
    """

    number: int
    step: int
    samples: int
    has_maps: bool
    maps: Any
    scores: Any
    text: str


class _Checked(NamedTuple):
    """How far `validations.jsonl` was read.

    Attributes:
        size: bytes of the lines.
        digest: of these bytes.
        total: lines, also those that others supersede.
        samples: in the header that they were held against.
        kept: lines that no other supersedes.
    """

    size: int
    digest: bytes
    total: int
    samples: int
    kept: list[Line]


_NOTHING = _Checked(0, sha256().digest(), 0, 0, [])


class Record:
    """The record of a run. What was read is kept until its file changes; it is not to be changed.

    Lines that were read before are not read again when others come behind them.

    Args:
        folder: of the record.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._known: dict[str, tuple[str, Any]] = {}  # by file: its stamp and what was read from it
        self._checked = _NOTHING
        self._parsed_lines: tuple[list[Line], list[dict[str, Any]]] = [], []

    def stamp(self) -> str:
        """Returns a text that changes whenever a validation was added."""
        return f"{self._stamp(HEADER)}-{self._stamp(LINES)}"

    def header(self) -> dict[str, Any]:
        """Returns the content of `record.json`.

        Raises:
            DamagedRecord: if it is missing, no JSON, of another format or version, or lacks what a reader needs.
        """
        return self._once(HEADER, self._header)

    def _header(self) -> dict[str, Any]:
        header = self._parsed(HEADER, self._read(HEADER))
        if header.get("format") != FORMAT:
            raise self._damaged(HEADER, "is not the record of a run")
        if header.get("version") != VERSION:
            raise self._damaged(
                HEADER,
                f"has version {_short(header.get('version'))} of the format, and this program reads {VERSION}. Update "
                "sess_lightning",
            )
        self._refuse(HEADER, wrong_in_header(header))
        return header

    def validations(self) -> list[dict[str, Any]]:
        """Returns the validations in order, see `lines`.

        Raises:
            DamagedRecord: if a line is not as it should be.
        """
        lines = self.lines()
        if self._parsed_lines[0] is not lines:
            self._parsed_lines = lines, [json.loads(line.text) for line in lines]
        return self._parsed_lines[1]

    def lines(self) -> list[Line]:
        """Returns a line a validation, in order, without those that a resumed training went over again.

        Raises:
            DamagedRecord: if a line is not as it should be. A last line without its end is left out.
        """
        return self._once(LINES, self._lines)

    def _lines(self) -> list[Line]:
        if not os.path.lexists(self.folder / LINES):
            return []
        content = self._read(LINES)
        content = content[: content.rfind(b"\n") + 1]
        samples = len(self.header()["samples"])
        before = self._checked
        same = sha256(content[: before.size]).digest() == before.digest and before.samples <= samples
        before = before if same and before.size <= len(content) else _NOTHING
        kept, total = list(before.kept), before.total
        for line in content[before.size :].split(b"\n")[:-1]:
            total += 1
            self._add(kept, f"line {total} of {LINES}", line, samples)
        self._checked = _Checked(len(content), sha256(content).digest(), total, samples, kept)
        return kept

    def _add(self, kept: list[Line], name: str, line: bytes, samples: int) -> None:
        """Check a line and put it behind those that it does not supersede."""
        parsed = self._parsed(name, line)
        self._refuse(name, wrong_in_line(parsed, samples))
        while kept and kept[-1].step >= parsed["step"]:  # its steps grow, so all of these come last
            kept.pop()
        if kept and kept[-1].number >= parsed["number"]:
            raise self._damaged(name, "has a number that is not above the one before")
        kept.append(
            Line(
                number=parsed["number"],
                step=parsed["step"],
                samples=len(parsed["samples"]["sample"]),
                has_maps=bool(parsed.get("maps")),
                maps=(parsed.get("maps") or {}).get("file"),
                scores=parsed.get("scores"),
                text=_in_ascii(parsed),
            )
        )

    def as_json(self, **more: Any) -> list[str]:
        """Returns parts of one JSON object: `record`, the header, `validations`, a list, and what else is given.

        They are many, and mostly those of the last call: joined they would be copied. All is ASCII without `<`, so that
        an element of a page can hold it.

        Raises:
            DamagedRecord: see `header` and `lines`.
        """
        lines = self.lines()  # before the header, to which a new validation may add samples
        parts = [_in_ascii({**more, "record": self.header()})[:-1], ',"validations":[']
        for number, line in enumerate(lines):
            parts += ["," if number else "", line.text]
        return [*parts, "]}"]

    def image(self, sample: int) -> bytes:
        """Returns the file of a sample's image.

        Raises:
            NotInRecord: if there is no such sample.
            DamagedRecord: if its file cannot be read.
        """
        samples = self.header()["samples"]
        if not 0 <= sample < len(samples):
            raise NotInRecord(str(self._damaged(HEADER, f"has no sample {_short(sample)}")))
        return self._file(HEADER, samples[sample]["image"], _IMAGE)

    def maps(self, number: int) -> bytes:
        """Returns the PNG with the maps of a validation.

        Raises:
            NotInRecord: if there is no such validation.
            DamagedRecord: if its file cannot be read.
        """
        return self._file(LINES, self._line(number).maps, _MAPS)

    def scores(self, number: int) -> bytes:
        """Returns the JSON with the patch scores of a validation; empty where it has none.

        Raises:
            NotInRecord: if there is no such validation.
            DamagedRecord: if its file cannot be read.
        """
        line = self._line(number)
        name = line.scores
        if name is None:
            return b""
        content = self._parsed(name, self._file(LINES, name, _SCORES))
        self._refuse(name, wrong_in_scores(content, line.samples))
        return json.dumps({"scores": content["scores"]}, separators=(",", ":")).encode()

    def _once(self, name: str, read: Callable[[], Any]) -> Any:
        stamp = self._stamp(name)
        if name not in self._known or self._known[name][0] != stamp:
            self._known[name] = stamp, read()
        return self._known[name][1]

    def _stamp(self, name: str) -> str:
        try:
            status = (self.folder / name).stat()
        except OSError:
            return "none"
        return f"{status.st_size}-{status.st_mtime_ns}"

    def _line(self, number: int) -> Line:
        for one in self.lines():
            if one.number == number:
                return one
        raise NotInRecord(str(self._damaged(LINES, f"has no validation {_short(number)}")))

    def _file(self, where: str, name: Any, allowed: re.Pattern[str]) -> bytes:
        """Returns the content of a file that the record names; names that lead elsewhere are refused."""
        if not isinstance(name, str) or not allowed.fullmatch(name):
            raise self._damaged(where, f"names a file that a record cannot have: {_short(name)}")
        return self._read(name)

    def _read(self, name: str) -> bytes:
        path = self.folder / name
        folder = os.path.realpath(self.folder)  # unlike `Path.resolve` it takes links that run in a circle
        if not Path(os.path.realpath(path)).is_relative_to(folder):
            raise self._damaged(name, "lies outside the record")
        try:
            if path.exists() and not path.is_file():
                raise self._damaged(name, "is no file")  # whoever opens a pipe waits for its writer
            if path.stat().st_size > _MOST_BYTES:
                raise self._damaged(name, f"is larger than {_MOST_BYTES >> 20} MB")
            return path.read_bytes()
        except OSError as error:
            raise self._damaged(name, f"cannot be read: {error.strerror or error}") from error

    def _parsed(self, name: str, content: bytes) -> dict[str, Any]:
        try:
            parsed = json.loads(content, parse_constant=lambda _: None, parse_float=_finite)
        except (ValueError, RecursionError) as error:
            raise self._damaged(name, f"is not JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise self._damaged(name, "is not a JSON object")
        if is_deep(parsed):
            raise self._damaged(name, f"holds lists or objects more than {MOST_DEEP} deep in one another")
        return parsed

    def _refuse(self, name: str, wrong: str | None) -> None:
        if wrong is not None:
            raise self._damaged(name, wrong)

    def _damaged(self, name: str, what: str) -> DamagedRecord:
        return DamagedRecord(f"{_name(self.folder)}: {name} {what}.")


def _name(folder: Path) -> str:
    return os.path.basename(os.path.realpath(folder))


def _in_ascii(content: Any) -> str:
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")  # it stands in texts only


def _finite(text: str) -> float | None:
    """A number as browsers read it back: JSON can say 1e999, but no browser reads Infinity."""
    value = float(text)
    return value if math.isfinite(value) else None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
