"""Rows of a benchmark on disk as they come: a killed run goes on where it was, and nothing counts twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from sess_lightning.benchmark.tables import Row, write_csv


class RowStore:
    """Measured photos in `<folder>/<name>.parts/`, one file per process, one line of JSON per photo.

    A line holds all rows of its photo, so a photo is measured whole or not at all; a last line that a kill cut short is
    left out. Photos that several processes measured (a distributed sampler repeats some) count once.

    Args:
        folder: of the results; made where it is missing.
        name: of the benchmark.
        settings: all that decides about the numbers; kept beside the rows.

    Raises:
        ValueError: if the folder holds rows of other settings; names the first that differs.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        self.name, self.folder = name, folder
        self._parts = folder / f"{name}.parts"
        self._parts.mkdir(parents=True, exist_ok=True)
        self._check_settings(json.loads(json.dumps(settings)))

    def done(self) -> set[str]:
        """Keys of the photos that are measured."""
        return {line["photo"] for line in self._lines()}

    def add(self, rank: int, photo: str, rows: list[dict[str, Any]]) -> None:
        """Keep the rows of one photo; they are on disk when this returns."""
        with (self._parts / f"{rank}.jsonl").open("ab+") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a line that a kill cut short must not swallow this one
                    file.write(b"\n")
            file.write(json.dumps({"photo": photo, "rows": rows}).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def rows(self) -> list[Row]:
        """The rows of all photos, each photo once, in the order of their keys."""
        photos = {line["photo"]: line["rows"] for line in self._lines()}
        return [row for photo in sorted(photos) for row in photos[photo]]

    def write_csv(self) -> list[Row]:
        """Write `<name>.csv` and give its rows."""
        rows = self.rows()
        if rows:
            write_csv(self.folder / f"{self.name}.csv", rows)
        return rows

    def _lines(self) -> list[dict[str, Any]]:
        lines = []
        for path in sorted(self._parts.glob("*.jsonl")):
            for line in path.read_bytes().split(b"\n"):
                try:
                    lines.append(json.loads(line))
                except ValueError:
                    continue  # empty, or cut short
        return lines

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = self._parts / "settings.json"
        if not path.exists():
            unfinished = path.with_suffix(f".{os.getpid()}")
            unfinished.write_text(json.dumps(settings, indent=1), encoding="utf-8")
            unfinished.replace(path)  # whole or not at all, also where processes begin at once
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
        if different:
            key = different[0]
            raise ValueError(
                f"Expected the settings of the rows that lie in {self._parts}, but `{key}` was {before.get(key)!r} and "
                f"is {settings.get(key)!r}. Pass another --out, or remove that folder to begin anew."
            )
