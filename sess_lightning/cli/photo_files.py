"""Which photos the words on a command line mean, and where the results about each go."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import NamedTuple

from PIL import Image


class PhotoTask(NamedTuple):
    """A photo, and the path of its results without their suffix."""

    photo: Path
    result: Path


def plan(words: Sequence[str], out: Path) -> list[PhotoTask]:
    """All photos that `words` mean, each once, and for each a result of its own.

    Results lie in `out` as the photos do in the folder that they have in common, so photos of the same name in
    different folders do not overwrite each other; where names differ in the suffix only, results keep it.

    Args:
        words: files, folders, which are searched with their subfolders, and glob patterns. A file that is missing stays
            in the list, so that it can be named when its turn comes.
        out: folder of the results; photos in it are left out of a search.

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
    # Results of an earlier run in a subfolder are no photos; a folder that is `out` itself is refused later.
    is_result = _absolute(out) != _absolute(folder) and _absolute(out) in _absolute(file).parents
    return known and not hidden and not is_result and file.is_file()


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # a link keeps its own name
