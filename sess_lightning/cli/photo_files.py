"""Photos from the arguments of a command line, and the paths of their results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import escape, glob, has_magic
from pathlib import Path
from typing import NamedTuple

from sess_lightning.data.photo_folder import files_below
from sess_lightning.data.reading import is_photo


class PhotoTask(NamedTuple):
    """A photo, and the path of its results without suffix."""

    photo: Path
    result: Path
    named: bool = True  # by the user, not found in a folder or by a pattern


def plan(words: Sequence[str], out: Path) -> list[PhotoTask]:
    """Returns the photos that `words` name, each once, and a path for the results of each.

    Below `out`, the folders are those of the photos below their common folder, so that photos of the same name in
    different folders do not overwrite each other. Where two names differ only in the suffix, the results keep it.

    Args:
        words: files, folders, which are searched with their subfolders, and glob patterns. Links to folders are
            followed; a folder that is reached by two names is searched once. A file that is missing stays in the list,
            so that it can be named when its turn comes.
        out: folder of the results; photos in it are left out of a search.

    Raises:
        ValueError: if a folder or pattern holds no photo, a result would overwrite a photo, or `out` can be no folder.
    """
    check_out(out)
    found: dict[str, tuple[Path, bool]] = {}
    for word in words:
        for photo, named in _found(word, out):
            first, before = found.setdefault(_identity(photo), (_absolute(photo), False))
            found[_identity(photo)] = first, named or before
    if not found:
        raise ValueError("Expected argument `photos` to name at least one photo, folder or pattern, but got none.")
    photos = [photo for photo, _ in found.values()]
    common = Path(os.path.commonpath([photo.parent for photo in photos]))
    stems = Counter(photo.with_suffix("") for photo in photos)
    jobs = []
    for photo, named in found.values():
        name = photo.name if stems[photo.with_suffix("")] > 1 else photo.stem
        jobs.append(PhotoTask(photo, out / photo.parent.relative_to(common) / name, named))
    overwritten = [job.photo for job in jobs if _identity(Path(f"{job.result}.png")) in found]
    if overwritten:
        raise ValueError(
            f"Expected argument `out` to be a folder without the photos themselves, but {min(overwritten)} would be "
            "overwritten. Pass another folder."
        )
    return jobs


def check_out(out: Path) -> None:
    """Raise a `ValueError` unless `out` is a folder that can be written to, or can be made."""
    try:
        there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
        if not there.is_dir():
            raise NotADirectoryError(0, f"{there} is a file")
        if not os.access(there, os.W_OK):
            raise PermissionError(0, f"{there} is not writable")
    except OSError as error:  # also a name that is too long
        raise ValueError(
            f"Expected argument `out` to be a folder, which is made if it is not there, but {str(out)!r} cannot be "
            f"one: {error.strerror}. Pass another folder."
        ) from error


def _found(word: str, out: Path) -> Iterator[tuple[Path, bool]]:
    """Photos, and whether they were named; `os.path` takes a name that is too long for one that is not there."""
    if os.path.isdir(word):
        searched = sorted(_searched(word, out))
    elif os.path.exists(word) or not has_magic(word):
        yield Path(word), True
        return
    else:
        searched = [Path(file) for file in sorted(_matches(word)) if os.path.isfile(file)]
    if not searched:
        raise ValueError(f"Expected argument `photos` to name photos, but {word!r} holds none.")
    yield from ((photo, False) for photo in searched)


def _matches(pattern: str) -> Iterator[str]:
    """What a pattern means; `glob` itself would follow links that lead in circles again and again for `**`."""
    parts = Path(pattern).parts
    if "**" not in parts:
        yield from glob(pattern)
        return
    at = parts.index("**")
    rest = parts[at + 1 :] or ("*",)
    for start in glob(os.path.join(*parts[:at])) if at else ["."]:
        for folder, _ in files_below(start, set()):
            yield from _matches(os.path.join(escape(folder), *rest))


def _searched(folder: str, out: Path) -> Iterator[Path]:
    """Photos in a folder and all folders below it, but for hidden ones and the results in `out`.

    Results of an earlier run in a subfolder are no photos; a folder that is `out` itself is refused later.
    """
    results = {os.path.realpath(out)} - {os.path.realpath(folder)}
    for place, files in files_below(folder, results):
        yield from (Path(place, name) for name in files if is_photo(Path(place, name)))


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # a link keeps its own name


def _identity(photo: Path) -> str:
    """The same for one file in one folder, whatever links lead there; a link to a file is a photo of its own."""
    return os.path.join(os.path.realpath(photo.parent), photo.name)
