"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_whole(path: Path, data: bytes) -> None:
    """Write a file: nobody reads half of it."""
    write_parts(path, [data])


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file in parts under a temporary name beside it, then rename it: nobody reads half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.writelines(parts)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def append_line(path: Path, line: str) -> None:
    """Add a line with one write. What an earlier writer left of a line without its end is cut off first.

    Raises:
        OSError: if it cannot be written, also where only a part of it could: the next call cuts that off.
    """
    data = line.encode() + b"\n"
    with open(path, "a+b", buffering=0) as file:
        file.truncate(_whole_lines(file))
        if file.write(data) < len(data):
            raise OSError(f"Only a part of a line could be written to {path}.")


def as_json(content: Mapping[str, Any]) -> str:
    """One line of JSON that every program reads: what is not finite must be `None` already.

    Raises:
        ValueError: for NaN or infinity.
    """
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _whole_lines(file: Any) -> int:
    """Bytes up to the end of the last whole line."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        return 0
    file.seek(size - 1)
    if file.read(1) == b"\n":
        return int(size)
    file.seek(0)
    return int(file.read().rfind(b"\n") + 1)
