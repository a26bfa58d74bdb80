"""Photos from the arguments of a command line, and the paths of their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from PIL import Image


class PhotoTask(NamedTuple):
    """A photo, and the path of its results without suffix."""

    photo: Path
    result: Path


def plan(words: Sequence[str], out: Path) -> list[PhotoTask]:
    """Returns the photos that `words` name, each once, and a path for the results of each.

    Below `out`, the folders are those of the photos below their common folder, so that photos of the same name in
    different folders do not overwrite each other. Where two names differ only in the suffix, the results keep it.

    Args:
        words: files, folders, which are searched with their subfolders, and glob patterns. A missing file stays in the
            list, and is reported when it is read.
        out: folder of the results; a search of a folder leaves out the photos in it.

    Raises:
        ValueError: if a folder or pattern holds no photo, or a result would overwrite a photo.
    """
    photos = list(dict.fromkeys(_absolute(photo) for word in words for photo in _found(word, out)))
    if not photos:
        raise ValueError("Expected argument `photos` to name at least one photo, folder or pattern, but got none.")
    common = Path(os.path.commonpath([photo.parent for photo in photos]))
    stems = Counter(photo.with_suffix("") for photo in photos)
    jobs = []
    for photo in photos:
        name = photo.name if stems[photo.with_suffix("")] > 1 else photo.stem
        jobs.append(PhotoTask(photo, out / photo.parent.relative_to(common) / name))
    overwritten = {_absolute(Path(f"{job.result}.png")) for job in jobs} & set(photos)
    if overwritten:
        raise ValueError(
            f"Expected argument `out` to be a folder without the photos themselves, but {min(overwritten)} would be "
            "overwritten. Pass another folder."
        )
    return jobs


def _found(word: str, out: Path) -> Iterator[Path]:
    path = Path(word)
    if path.is_dir():
        photos = [file for file in sorted(path.rglob("*")) if _is_photo(file, path, out)]
    elif not path.exists() and has_magic(word):
        photos = [Path(file) for file in sorted(glob(word, recursive=True)) if Path(file).is_file()]
    else:
        photos = [path]
    if not photos:
        raise ValueError(f"Expected argument `photos` to name photos, but {word!r} holds none.")
    yield from photos


def _is_photo(file: Path, folder: Path, out: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    known = file.suffix.lower() in Image.registered_extensions()
    # Results of an earlier run in a subfolder are not photos; where the folder is `out` itself, `plan` raises.
    is_result = _absolute(out) != _absolute(folder) and _absolute(out) in _absolute(file).parents
    return known and not hidden and not is_result and file.is_file()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # a link keeps its own name
