"""Reads records of runs, as docs/record.md describes them, with the standard library alone.

A record may be written while it is read, come from elsewhere, or be damaged: nothing in it is trusted, and whatever is
wrong is a `DamagedRecord` with a sentence for people.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

FORMAT, VERSION = "sess_record", 1
HEADER, LINES = "record.json", "validations.jsonl"

_IMAGE = re.compile(r"images/[\w-]{1,128}\.(jpg|png|webp)")
_MAPS = re.compile(r"maps/[\w-]{1,128}\.png")
_SCORES = re.compile(r"maps/[\w-]{1,128}\.json")
_MOST_FOLDERS = 100_000  # below a log folder: a mistaken `--logdir /` ends


class DamagedRecord(Exception):  # noqa: N818 - the name says what it is
    """A record that cannot be read, with the file and what is wrong in it."""


def find_records(root: Path) -> dict[str, Path]:
    """Returns the folders of all records at or below a folder.

    Links to folders are not followed, and folders that cannot be read are left out.

    Args:
        root: e.g. a log folder.

    Returns:
        The folders by their path relative to `root`, with slashes, in order; the name of `root` for `root` itself.
    """
    found: dict[str, Path] = {}
    for number, (folder, inner, files) in enumerate(os.walk(root)):
        if number >= _MOST_FOLDERS:
            break
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        if HEADER in files:
            inner.clear()  # its images and maps
            path = Path(folder)
            name = path.relative_to(root).as_posix()
            found[path.resolve().name if name == "." else name] = path
    return dict(sorted(found.items()))


class Record:
    """The record of a run. What was read is kept until its file changes; it is not to be changed.

    Args:
        folder: of the record.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self._known: dict[str, tuple[str, Any]] = {}  # by file: its stamp and what was read from it

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
                f"has version {header.get('version')!r} of the format, and this program reads {VERSION}. Update "
                "sess_lightning",
            )
        for name, kind in (("samples", list), ("keys", list), ("windows", list)):
            if not isinstance(header.get(name), kind):
                raise self._damaged(HEADER, f"has no list {name!r}")
        if not isinstance(header.get("class_names"), (dict, type(None))):
            raise self._damaged(HEADER, "has class names that are no mapping")
        for number, sample in enumerate(header["samples"]):
            if not _is_sample(sample, len(header["windows"])):
                raise self._damaged(HEADER, f"has a sample, number {number}, that is not as it should be")
        if not all(isinstance(key, dict) and isinstance(key.get("name"), str) for key in header["keys"]):
            raise self._damaged(HEADER, "has a key without a name")
        return header

    def validations(self) -> list[dict[str, Any]]:
        """Returns the validations in order, without those that a resumed training went over again.

        Raises:
            DamagedRecord: if a line is not as it should be. A last line without its end is left out.
        """
        return self._once(LINES, self._validations)

    def _validations(self) -> list[dict[str, Any]]:
        if not (self.folder / LINES).exists():
            return []
        whole, _, _ = self._read(LINES).rpartition(b"\n")
        kept: list[dict[str, Any]] = []
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            validation = self._parsed(f"line {number} of {LINES}", line)
            if not _is_validation(validation, len(self.header()["samples"])):
                raise self._damaged(f"line {number} of {LINES}", "is not as it should be")
            kept = [one for one in kept if one["step"] < validation["step"]] + [validation]
        return kept

    def image(self, sample: int) -> bytes:
        """Returns the file of a sample's image.

        Raises:
            DamagedRecord: if there is no such sample or file.
        """
        samples = self.header()["samples"]
        if not 0 <= sample < len(samples):
            raise self._damaged(HEADER, f"has no sample {sample}")
        return self._file(samples[sample]["image"], _IMAGE)

    def maps(self, number: int) -> bytes:
        """Returns the PNG with the maps of a validation.

        Raises:
            DamagedRecord: if there is no such validation or file.
        """
        return self._file((self._validation(number).get("maps") or {}).get("file"), _MAPS)

    def scores(self, number: int) -> bytes:
        """Returns the JSON with the patch scores of a validation; empty where it has none.

        Raises:
            DamagedRecord: if there is no such validation or file.
        """
        name = self._validation(number).get("scores")
        return b"" if name is None else self._file(name, _SCORES)

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

    def _validation(self, number: int) -> dict[str, Any]:
        for one in self.validations():
            if one["number"] == number:
                return one
        raise self._damaged(LINES, f"has no validation {number}")

    def _file(self, name: Any, allowed: re.Pattern[str]) -> bytes:
        """Returns the content of a file that the record names; names that lead elsewhere are refused."""
        if not isinstance(name, str) or not allowed.fullmatch(name):
            raise self._damaged(self.folder.name, f"names a file that a record cannot have: {name!r}")
        if not (self.folder / name).resolve().is_relative_to(self.folder.resolve()):
            raise self._damaged(name, "lies outside the record")
        return self._read(name)

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise self._damaged(name, f"cannot be read: {error.strerror or error}") from error

    def _parsed(self, name: str, content: bytes) -> dict[str, Any]:
        try:
            parsed = json.loads(content, parse_constant=lambda _: None)
        except (ValueError, RecursionError) as error:
            raise self._damaged(name, f"is not JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise self._damaged(name, "is not a JSON object")
        return parsed

    def _damaged(self, name: str, what: str) -> DamagedRecord:
        return DamagedRecord(f"{self.folder.name}: {name} {what}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are(values: Any, test: Callable[[Any], bool], length: int | None = None) -> bool:
    return isinstance(values, list) and all(map(test, values)) and length in (None, len(values))


def _is_sample(sample: Any, geometries: int) -> bool:
    if not isinstance(sample, dict):
        return False
    return (
        all(_is_whole(sample.get(name)) and sample[name] > 0 for name in ("width", "height"))
        and isinstance(sample.get("image"), str)
        and isinstance(sample.get("id"), str)
        and (sample.get("label") is None or _is_whole(sample["label"]))
        and _are(sample.get("boxes"), lambda box: _are(box, _is_number, 5))
        and _are(sample.get("outlines", []), lambda one: isinstance(one, list) and len(one) == 2)
        and (sample.get("windows") is None or (_is_whole(sample["windows"]) and 0 <= sample["windows"] < geometries))
    )


def _is_validation(line: Mapping[str, Any], known: int) -> bool:
    """Whether a line is as docs/record.md says; `known` is the number of samples in the header."""
    samples, maps = line.get("samples"), line.get("maps")
    if not all(_is_whole(line.get(name)) for name in ("number", "epoch", "step")):
        return False
    if not isinstance(line.get("values"), dict) or not isinstance(line.get("intervals", {}), dict):
        return False
    if not isinstance(samples, dict) or not _are(samples.get("sample"), lambda i: _is_whole(i) and 0 <= i < known):
        return False
    count = len(samples["sample"])
    if not all(isinstance(column, list) and len(column) == count for column in samples.values()):
        return False
    return maps is None or (isinstance(maps, dict) and all(_tiles_fit(maps, count)))


def _tiles_fit(maps: Mapping[str, Any], count: int) -> Iterator[bool]:
    for kind in ("sess", "base", "second"):
        tiles = maps.get(kind)
        yield tiles is None or _are(
            tiles, lambda box: box is None or (_are(box, _is_whole, 4) and min(box) >= 0), count
        )
