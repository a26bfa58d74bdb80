"""Writes maps to tar files, one a process, so that a killed process costs the photo that it was at."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sess_lightning.data.saved_maps import INDEX, read_index
from sess_lightning.jobs.photos import JobPhoto
from sess_lightning.jobs.store import check_settings
from sess_lightning.pixels import Size, resize

TYPES = ("uint8", "float16")
_LONGEST = 50  # letters of a photo's name, of up to 4 bytes each: file systems allow 255 bytes
_END = bytes(2 * tarfile.BLOCKSIZE)  # ends an archive


class PhotoMaps(NamedTuple):
    """What is written of one photo."""

    classes: list[int]
    names: list[str]
    maps: Tensor  # (K, H, W) in [0, 1]
    valid: list[bool]


class MapStore:
    """Maps of photos in `<folder>/maps-<writer>.tar`, in the layout that `SavedMaps` describes.

    A photo counts once its line is in the index. The line is written after the maps: what lies behind the last one in a
    tar file was left by a process that was killed, and is overwritten.

    Args:
        folder: created if missing.
        settings: all that determines the maps; stored with them.
        dtype: of the values, `"uint8"` or `"float16"`.
        photo_size: whether maps of photos that were scaled down are brought back to their size.

    Raises:
        ValueError: if the folder contains maps of other settings; the message names the first that differs.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], dtype: str, photo_size: bool) -> None:
        self.folder, self.dtype, self.photo_size = folder, dtype, photo_size
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "settings.json").exists() and [*folder.glob(_tar("*")), *folder.glob(INDEX)]:
            raise ValueError(
                f"Expected argument `out` to be a folder of maps with their settings.json, or a new one, but {folder} "
                "has maps without it. Copy the whole folder, or pass another --out."
            )
        check_settings(folder, settings)
        self._open: dict[str, IO[bytes]] = {}

    def done(self) -> set[str]:
        """Returns the keys of the photos that have maps."""
        return set(self._entries())

    def begin(self, writer: str) -> None:
        """Open the tar file of a process, and keep others from it.

        Raises:
            ValueError: if another process writes to it, or it is none that this class has written.
        """
        self._file(writer)

    def add(self, writer: str, photo: JobPhoto, result: PhotoMaps) -> None:
        """Store the maps of one photo; they are on disk when this returns.

        Raises:
            ValueError: if another process writes to the same file.
        """
        tar = self._file(writer)
        about = {
            "photo": photo.file,
            "size": list(photo.stored),
            "classes": result.classes,
            "names": result.names,
            "valid": result.valid,
        }
        name, array = _member_name(photo), _npy(self._values(result.maps, photo.stored))
        tar.write(_member(f"{name}.json", json.dumps(about).encode()))
        head = _head(f"{name}.maps.npy", len(array))
        begin = tar.tell() + len(head)
        tar.write(head + array + _padding(len(array)))
        end = tar.tell()
        tar.write(_END)
        tar.flush()
        os.fsync(tar.fileno())
        tar.seek(end)  # the next photo begins where the end of the archive was
        place = {"shard": _tar(writer), "begin": begin, "bytes": len(array), "end": end}
        with (self.folder / _index(writer)).open("ab") as index:
            index.write(json.dumps({"key": photo.key, **about, **place}).encode() + b"\n")
            index.flush()
            os.fsync(index.fileno())

    def close(self) -> None:
        """Close the files, and let other processes write to them."""
        while self._open:
            self._open.popitem()[1].close()

    def finish(self, names: Mapping[str, str]) -> list[dict[str, Any]]:
        """Write the index of these photos, and return it.

        Args:
            names: keys of the photos, in their order.
        """
        for index in self.folder.glob(_index("*")):
            with suppress(ValueError):  # another command writes to it
                # A process that was killed while it wrote has left the end of its file in pieces.
                self._file(index.name.removeprefix("maps-").removesuffix(".index.jsonl"))
        self.close()
        found = self._entries()
        entries = [found[key] for key in names if key in found]
        _write_index(self.folder / INDEX, entries)
        return entries

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # each process opens its own

    def _values(self, maps: Tensor, size: Size) -> np.ndarray:
        maps = resize(maps[None], size)[0] if self.photo_size and len(maps) else maps
        scaled = (maps * 255).round().to(torch.uint8) if self.dtype == "uint8" else maps.half()
        return scaled.cpu().numpy()

    def _entries(self) -> dict[str, dict[str, Any]]:
        """What the indices of all tar files say, by key; without what the tar file does not hold."""
        found = {}
        for index in sorted(self.folder.glob(_index("*"))):
            for entry in read_index(index):
                tar = self.folder / entry["shard"]
                if tar.is_file() and tar.stat().st_size >= entry["end"]:
                    found[entry["key"]] = entry
        return found

    def _file(self, writer: str) -> IO[bytes]:
        """The tar file of a process, at the place where its next photo goes."""
        if writer not in self._open:
            path, index = self.folder / _tar(writer), self.folder / _index(writer)
            if not index.exists() and path.exists() and path.stat().st_size:
                raise ValueError(
                    f"Expected argument `out` to be a folder of maps with their indices, but {path} has none. Copy the "
                    "whole folder, or pass another --out."
                )
            path.touch()
            tar = path.open("r+b")
            try:
                _lock(tar, path)
            except ValueError:
                tar.close()
                raise
            held = path.stat().st_size
            whole = [entry for entry in (read_index(index) if index.exists() else []) if entry["end"] <= held]
            _write_index(index, whole)  # without a line that was cut short, which would swallow the next one
            end = max((entry["end"] for entry in whole), default=0)
            if held != end + len(_END):
                tar.truncate(end)
                tar.seek(end)
                tar.write(_END)
                tar.flush()
            tar.seek(end)
            self._open[writer] = tar
        return self._open[writer]


def _write_index(index: Path, entries: list[dict[str, Any]]) -> None:
    """Write an index anew, as a whole or not at all."""
    unfinished = index.with_suffix(f".{os.getpid()}")
    unfinished.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    unfinished.replace(index)


def _lock(file: IO[bytes], path: Path) -> None:
    """Keep other processes from the file until this one ends, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(
            f"Expected argument `out` to be a folder that no other command writes to, but one writes to {path}. Wait "
            "for it to end, or pass another --out."
        ) from error
    except OSError:  # a file system without locks
        return


def _tar(writer: str) -> str:
    return f"maps-{writer}.tar"


def _index(writer: str) -> str:
    return f"maps-{writer}.index.jsonl"


def _member_name(photo: JobPhoto) -> str:
    """The path of the photo without dots, as WebDataset's names end at the first, and a digest that tells it apart."""
    stem = re.sub(r"[^\w/-]", "_", os.path.splitext(photo.file)[0]).strip("/")
    folder, _, name = stem.rpartition("/")
    digest = hashlib.blake2b(photo.key.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"{folder}{'/' * bool(folder)}{name[:_LONGEST]}-{digest}"


def _npy(values: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


def _head(name: str, size: int) -> bytes:
    """The head of a member, the same whoever writes it and when."""
    about = tarfile.TarInfo(name)
    about.size = size
    return about.tobuf(tarfile.PAX_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _member(name: str, content: bytes) -> bytes:
    return _head(name, len(content)) + content + _padding(len(content))
