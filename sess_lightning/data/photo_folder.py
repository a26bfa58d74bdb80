"""Any folder of photos, without annotations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from sess_lightning.data.base import PhotoData, Photos
from sess_lightning.data.reading import is_photo


class PhotoFolder(PhotoData):
    """The photos of a folder and of all folders below it, each at its own size, upright as its EXIF data say.

    They have no labels: a batch is a list of normalised images `(3, H, W)` and a list of empty dicts.

    Args:
        root: the folder. Hidden folders and files are left out; links to folders are followed, each folder once.
        batch_size: photos per batch.
        num_workers: number of worker processes that read photos.
        limit: number of photos to use, chosen at random by `seed` and kept in their order; `None` uses all.
        seed: seed of that random choice.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation to normalise with; ImageNet's by default.

    Raises:
        ValueError: from `setup`, if the folder is missing or holds no photo.

    Example::

        trainer.predict(model, PhotoFolder("photos"))
    """

    layout = "Expected a folder with photos, in it or in folders below it."
    upright = True

    def _find(self, root: Path) -> Photos:
        self._check(root)
        paths = [
            Path(place, name)
            for place, names in files_below(str(root), set())
            for name in sorted(names)
            if is_photo(Path(place, name))
        ]
        if not paths:
            raise ValueError(f"Found no photo in {root}. {self.layout}")
        return Photos(paths, [{}] * len(paths), {})


def files_below(folder: str, visited: set[str]) -> Iterator[tuple[str, list[str]]]:
    """A folder and all below it that are not hidden, with their files; each once, whatever links lead there."""
    for place, folders, files in os.walk(folder, followlinks=True):
        if os.path.realpath(place) in visited:
            folders.clear()
            continue
        visited.add(os.path.realpath(place))
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        folders.sort(key=lambda name: (name in links, name))  # links give way to real names
        yield place, files
