"""Writes the record of a run, in the format of docs/record.md: files that any program reads, line by line."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sess_lightning.viewer.files import append_line, as_json, write_whole
from sess_lightning.viewer.reading import HEADER, LINES, DamagedRecord, Record
from sess_lightning.viewer.tiles import Tile, drift, packed

MOST_SAMPLES = 64
"""Samples of a loader that are recorded, over all processes."""

KINDS = {"sess": 96, "base": 64, "second": 96}
"""Kinds of maps, and the longest side of their tiles: a base map is coarse, 64 pixels lose nothing of it."""


@dataclass(frozen=True)
class RecordSample:
    """What stays the same of a followed sample.

    Attributes:
        picture: the image as JPEG.
        width: of the sample.
        height: of the sample.
        name: where it comes from.
        label: `None` where unknown.
        boxes: `[class, x1, y1, x2, y2]` each, in pixels of the sample.
        outlines: `[class, [x, y, x, y, ...]]` each, likewise.
        annotated: boxes or masks came with it.
        windows: `[x1, y1, x2, y2, scaled height, scaled width]` each.
        chance: that a random pixel counts as a hit; `None` where the sample has no say. In no file of its own.
    """

    picture: bytes
    width: int
    height: int
    name: str
    label: int | None
    boxes: list[list[float]]
    outlines: list[list[Any]]
    annotated: bool
    windows: list[list[int]]
    chance: float | None = None


@dataclass
class RecordRow:
    """A sample in one validation.

    Attributes:
        id: `sample_id` of its image.
        key: tells it from another with the same image, in this process.
        sample: `None` where it was given before.
        values: by name of the column.
        tiles: by kind of map, see `KINDS`.
        scores: of its windows.
    """

    id: str
    key: Hashable
    sample: RecordSample | None
    values: dict[str, Any]
    tiles: dict[str, Tile]
    scores: list[float] = field(default_factory=list)


def sample_id(image: Tensor) -> str:
    """The same for the same pixels, whatever run they are in.

    Args:
        image: `(C, H, W)` as the network gets it.
    """
    pixels = np.ascontiguousarray(image.detach().cpu().float().numpy())
    return sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()[:20]


class RecordWriter:
    """Writes one record: first the files of a validation, then, once its numbers are known, its line.

    Args:
        folder: need not exist.
        about: of `record.json` all but the samples and their windows. A record that is there keeps its own.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self._content: dict[str, Any] = {**about, "windows": [], "samples": []}
        self._described = -1  # samples that `record.json` on the disk has; -1 without one
        self._pictures: dict[str, bytes] = {}  # not written yet
        self._numbers: dict[Hashable, int] = {}  # of the samples of this process, by key and id
        self._number = 0  # of the next validation
        self._latest: dict[int, Tile] | None = None  # by sample, those of the last validation
        self._pending: tuple[dict[str, Any], dict[int, Tile]] | None = None
        known = read_record(folder)
        if known is not None:
            self._content, self._described = known, len(known["samples"])
            self._number = 1 + max((line["number"] for line in _lines(folder)), default=-1)

    def __len__(self) -> int:
        """Returns how many samples the record has."""
        return len(self._content["samples"])

    def knows(self, name: str, key: Hashable) -> bool:
        """Whether a row of this id and key needs no sample."""
        return (name, key) in self._numbers

    def begin(self) -> None:
        """Start a validation: one that was prepared and got no line, as its numbers failed, has none any more."""
        self._pending = None

    def prepare(self, rows: Sequence[RecordRow], epoch: int, step: int) -> None:
        """Write all of a validation but its line.

        Args:
            rows: its samples. Of one that is new the sample must be there.
            epoch: of the training.
            step: of the training.

        Raises:
            OSError: if a file cannot be written. The validation can then be left out, or prepared again.
        """
        numbers = [self._numbered(row) for row in rows]
        self._describe()
        name = f"maps/{self._number:06d}"
        before = _tiles_before(self.folder, step) if self._latest is None else self._latest
        tiles = [(kind, i, row.tiles[kind]) for kind in KINDS for i, row in enumerate(rows) if kind in row.tiles]
        picture, places = packed([one for _, _, one in tiles])
        maps: dict[str, Any] = {"file": f"{name}.png", **{kind: [None] * len(rows) for kind in KINDS}}
        for (kind, i, _), place in zip(tiles, places, strict=True):
            maps[kind][i] = place
        (self.folder / "maps").mkdir(exist_ok=True)
        write_whole(self.folder / f"{name}.png", picture)
        scores = [[_short(one, 4) for one in row.scores] for row in rows]
        write_whole(self.folder / f"{name}.json", as_json({"scores": scores}).encode())
        columns: dict[str, Any] = {"sample": numbers}
        for column in dict.fromkeys(name for row in rows for name in row.values):
            columns[column] = [_plain(row.values.get(column)) for row in rows]
        latest = {number: row.tiles["sess"] for number, row in zip(numbers, rows, strict=True)}
        columns["drift"] = [_short(drift(one, before.get(number)), 4) for number, one in latest.items()]
        line = {"number": self._number, "epoch": epoch, "step": step, "samples": columns, "maps": maps}
        self._pending = {**line, "scores": f"{name}.json"}, latest

    def append(
        self,
        values: Mapping[str, float],
        intervals: Mapping[str, Sequence[float]],
        alarms: Sequence[tuple[str, int | None]] = (),
    ) -> bool:
        """Write the line of the validation that was prepared, with its numbers, and sentences with their class.

        Returns:
            Whether there was one.

        Raises:
            OSError: if it cannot be written.
        """
        if self._pending is None:
            return False
        (line, latest), self._pending = self._pending, None
        line |= {"time": time.time(), "values": _plain(values), "intervals": _plain(intervals)}
        line["alarms"] = [{"text": text, "class": target} for text, target in alarms]
        order = ("number", "epoch", "step", "time", "values", "intervals", "alarms", "samples", "maps", "scores")
        append_line(self.folder / LINES, as_json({name: line[name] for name in order}))
        self._number, self._latest = self._number + 1, latest
        return True

    def _describe(self) -> None:
        """Write the images and `record.json`, where there is something new in them."""
        (self.folder / "images").mkdir(parents=True, exist_ok=True)
        for name, data in list(self._pictures.items()):
            write_whole(self.folder / name, data)
            del self._pictures[name]
        if self._described < len(self._content["samples"]):
            write_whole(self.folder / HEADER, as_json(self._content).encode())
            self._described = len(self._content["samples"])

    def _numbered(self, row: RecordRow) -> int:
        """The number of a sample in the record, where it is added if it is new."""
        key = (row.id, row.key)
        if key not in self._numbers:
            taken = set(self._numbers.values())
            known = {one["id"]: number for number, one in enumerate(self._content["samples"])}
            # An image that comes twice has a second name; in a record that is resumed the first free one is its own.
            name = next(one for one in _names(row.id) if known.get(one) not in taken)
            self._numbers[key] = known[name] if name in known else self._added(name, row.sample)
        return self._numbers[key]

    def _added(self, name: str, sample: RecordSample | None) -> int:
        if sample is None:
            raise ValueError(f"Expected row of sample {name} to hold the sample, as it is new to {self.folder}.")
        picture = f"images/{name}.jpg"
        self._pictures[picture] = sample.picture
        if sample.windows not in self._content["windows"]:
            self._content["windows"].append(sample.windows)
        self._content["samples"].append(
            {
                "id": name, "image": picture, "width": sample.width, "height": sample.height, "name": sample.name,
                "label": sample.label, "boxes": _plain(sample.boxes), "outlines": _plain(sample.outlines),
                "annotated": sample.annotated, "windows": self._content["windows"].index(sample.windows),
            }
        )  # fmt: skip
        return len(self._content["samples"]) - 1


def read_record(folder: Path) -> dict[str, Any] | None:
    """What `record.json` of a folder holds; `None` where there is none of this version that can be continued."""
    try:
        return Record(folder).header()
    except DamagedRecord:
        return None


def claim_folders(parent: Path, names: Mapping[str, Sequence[RecordRow]], resumed: bool) -> tuple[list[Path], int]:
    """The folders for the records of a run: those of the run that is resumed, else such as nobody has.

    Args:
        parent: need not exist.
        names: of the folders, each with its samples.
        resumed: whether a record of the same samples is continued.

    Returns:
        The folders, of which the first is created, and the number behind `-v` in their names, 0 without.
    """
    versions = range(_first_free(parent, names))
    for version in reversed(versions) if resumed else ():
        folders = [parent / versioned(name, version) for name in names]
        if all(_follows(folder, rows) for folder, rows in zip(folders, names.values(), strict=True)):
            return folders, version
    while True:
        version = _first_free(parent, names)
        folders = [parent / versioned(name, version) for name in names]
        parent.mkdir(parents=True, exist_ok=True)
        try:
            folders[0].mkdir()
        except FileExistsError:  # another run was faster
            continue
        return folders, version


def versioned(name: str, version: int) -> str:
    """A name with its version, as `ModelCheckpoint` names its files: `record`, `record-v1` and so on."""
    return f"{name}-v{version}" if version else name


def _first_free(parent: Path, names: Collection[str]) -> int:
    return next(one for one in count() if not any((parent / versioned(name, one)).exists() for name in names))


def _follows(folder: Path, rows: Sequence[RecordRow]) -> bool:
    """Whether a record has these samples, or fewer or more of them: there may be time for others than before."""
    known = read_record(folder)
    if known is None:
        return False
    windows = {one["id"]: known["windows"][one["windows"]] for one in known["samples"]}
    same = all(row.sample is None or windows.get(row.id, row.sample.windows) == row.sample.windows for row in rows)
    first = {name for name in _random_ids(folder, known) if "-" not in name}
    ids = {row.id for row in rows}
    return same and (ids <= first or first <= ids)


def _random_ids(folder: Path, known: Mapping[str, Any]) -> Iterator[str]:
    """The ids of the samples that are followed: not those that were only the worst, say, of some validation."""
    random: set[int] = set()
    others: set[int] = set()
    for line in _lines(folder):
        try:
            for number, kinds in zip(line["samples"]["sample"], line["samples"]["kind"], strict=True):
                (random if "random" in kinds.split() else others).add(number)
        except (KeyError, TypeError, ValueError, AttributeError):
            continue  # no kinds: all are random; or a line that readers refuse
    return (one["id"] for number, one in enumerate(known["samples"]) if number not in others - random)


def _lines(folder: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of `validations.jsonl` that can be read."""
    try:
        data = (folder / LINES).read_bytes()
    except OSError:
        return
    for line in data.split(b"\n")[:-1]:
        try:
            content = json.loads(line)
            if isinstance(content["number"], int) and isinstance(content["step"], int):
                yield content
        except (ValueError, KeyError, TypeError):
            continue


def _tiles_before(folder: Path, step: int) -> dict[int, Tile]:
    """The tiles of the last validation before a step, by sample; none where they cannot be read."""
    earlier = [line for line in _lines(folder) if line["step"] < step]
    if not earlier:
        return {}
    try:
        line = earlier[-1]
        with Image.open(folder / line["maps"]["file"]) as picture:
            pixels = np.asarray(picture)
        places = zip(line["samples"]["sample"], line["maps"]["sess"], strict=True)
        return {number: pixels[y : y + h, x : x + w] for number, (x, y, w, h) in places}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _names(first: str) -> Iterator[str]:
    return chain([first], (f"{first}-{number}" for number in count(2)))


def _short(value: float | None, digits: int) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _plain(value: Any) -> Any:
    """A value as JSON has it: `None` for what is not finite."""
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
