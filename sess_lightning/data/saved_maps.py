"""Maps that `sess-lightning maps` wrote, read one by one.

The folder holds tar files in the layout of WebDataset, two members a photo: `NAME.json` and `NAME.maps.npy`, which is
`(K, H, W)` of K classes, uint8 (255 is 1) or float16. Beside each tar file, an index has a line of JSON a photo: what
is in the member `.json`, and where the maps begin. `maps.index.jsonl` has those of all photos, in their order.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sess_lightning.pixels import resize

INDEX = "maps.index.jsonl"


class SavedMap(NamedTuple):
    """The maps of one photo."""

    photo: str  # path below the folder of the data
    size: tuple[int, int]  # height and width of the photo
    classes: list[int]
    names: list[str]  # of the classes; the numbers where they have none
    maps: Tensor  # (K, H, W) float32 in [0, 1], a map a class
    valid: list[bool]  # False: the map is constant, it is all zeros


class SavedMaps(Dataset[SavedMap]):
    """The maps in a folder that `sess-lightning maps` wrote.

    Args:
        root: the folder.
        resized: bring maps that were written smaller (`--max_side` with `--size native`) to the size of their photo.

    Raises:
        ValueError: if the folder holds no finished maps, or lacks one of its files.

    Example::

        for photo in SavedMaps("maps"):
            print(photo.photo, photo.classes, photo.maps.shape)
    """

    def __init__(self, root: str | Path, resized: bool = False) -> None:
        self.root, self.resized = Path(root), resized
        index = self.root / INDEX
        if not index.is_file():
            raise ValueError(
                f"Expected argument `root` to be a folder of finished maps, but {self.root} has no {INDEX}. It is "
                "written when all photos are done: run sess-lightning maps again, with the same arguments."
            )
        self._entries = read_index(index)
        self._at = {entry["photo"]: number for number, entry in enumerate(self._entries)}
        missing = sorted({e["shard"] for e in self._entries if not (self.root / e["shard"]).is_file()})
        if missing:
            raise ValueError(f"{index} names {missing[0]}, which is not there. Copy the whole folder.")

    @property
    def photos(self) -> list[str]:
        """Paths of the photos below the folder of the data, in the order of the items."""
        return [entry["photo"] for entry in self._entries]

    def of(self, photo: str) -> SavedMap:
        """Returns the maps of a photo.

        Args:
            photo: as in `photos`.

        Raises:
            KeyError: if there are none of it.
        """
        return self[self._at[photo]]

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> SavedMap:
        entry = self._entries[index]
        with (self.root / entry["shard"]).open("rb") as file:
            file.seek(entry["begin"])
            content = file.read(entry["bytes"])
        if len(content) < entry["bytes"]:
            raise ValueError(f"{self.root / entry['shard']} is cut short. Copy it again, or remove it and its index.")
        values = np.load(io.BytesIO(content))
        maps = torch.from_numpy(values).float()
        if values.dtype == np.uint8:
            maps = maps / 255
        size = entry["size"][0], entry["size"][1]
        if self.resized and len(maps):
            maps = resize(maps[None], size)[0]
        return SavedMap(entry["photo"], size, entry["classes"], entry["names"], maps, entry["valid"])


def read_index(path: Path) -> list[dict[str, Any]]:
    """Returns the entries of an index; lines that were cut short are left out."""
    entries = []
    for line in path.read_bytes().split(b"\n"):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
