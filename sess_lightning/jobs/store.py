"""Stores the rows of a benchmark on disk, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sess_lightning.jobs.photos import JobPhoto

Row = Mapping[str, object]


class RowStore:
    """Measured photos in `<folder>/<name>.parts/`, one file per process, one line of JSON per photo.

    A line contains all rows of its photo, so no photo is stored in part. An incomplete last line, left by a killed
    process, is ignored. A photo that several processes measured counts once. The key of a photo
    and the settings must say all that the rows depend on: rows of the same key and settings are reused.

    Args:
        folder: folder of the results; created if missing.
        name: name of the benchmark.
        settings: all settings that determine the results; stored with the rows.

    Raises:
        ValueError: if the folder contains rows of other settings; the message names the first that differs.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        self._parts = folder / f"{name}.parts"
        self._parts.mkdir(parents=True, exist_ok=True)
        check_settings(self._parts, settings)

    def done(self) -> set[str]:
        """Returns the keys of the photos that have been measured."""
        return {line["photo"] for line in self._lines()}

    def begin(self, writer: str) -> None:
        """Nothing is open between two photos."""

    def add(self, writer: str, photo: JobPhoto, result: Sequence[Row]) -> None:
        """Store the rows of one photo; they are on disk when this returns."""
        with (self._parts / f"{writer}.jsonl").open("ab+") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # end an incomplete line, which would otherwise swallow this one
                    file.write(b"\n")
            file.write(json.dumps({"photo": photo.key, "rows": list(map(dict, result))}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Nothing is open between two photos."""

    def rows(self, names: Mapping[str, str] | None = None) -> list[Row]:
        """Returns the rows of the photos, each photo once.

        Args:
            names: of the photos that count, by key, in their order: the column `photo`. `None` gives the rows of all
                photos as they were stored, in the order of the keys.
        """
        photos = {line["photo"]: line["rows"] for line in self._lines()}
        if names is None:
            return [row for photo in sorted(photos) for row in photos[photo]]
        return [{"photo": name, **row} for key, name in names.items() for row in photos.get(key, [])]

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for path in sorted(self._parts.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    continue  # an empty or incomplete line
        return lines


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of results beside them, or compare with those that lie there.

    Args:
        folder: of the results.
        settings: all that determine them; JSON.

    Raises:
        ValueError: if the folder holds results of other settings; the message names the first that differs.
    """
    path = folder / "settings.json"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps(settings, indent=1), encoding="utf-8")
        unfinished.replace(path)  # atomic, as several processes may start at the same time
    before, now = _settings_in(path), json.loads(json.dumps(settings))
    different = [key for key in {**now, **before} if before.get(key) != now.get(key)]
    if different:
        key = different[0]
        raise ValueError(
            f"Expected the settings of the results that lie in {folder}, but `{key}` was {before.get(key)!r} and "
            f"is {now.get(key)!r}. Pass another --out, or remove that folder to begin anew."
        )


def _settings_in(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"Expected argument `out` to be a folder of results of this command, or a new one, but {path} does not "
            "hold settings of one. Pass another --out."
        )
    return found
