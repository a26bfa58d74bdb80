"""The photos of a command: what is in each decides about its key, and processes beside the device read them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from sess_lightning import data as datasets
from sess_lightning.data.base import PhotoDataset, Size, chosen
from sess_lightning.data.box_checks import photo_size
from sess_lightning.data.photo_folder import PhotoFolder
from sess_lightning.networks import Network, OutputGroups

_NAMED = {"voc07": "VOC07", "coco14": "COCO14", "imagenet": "ImageNet"}

# The work for one photo, in any unit, from its height and width and its annotations.
Cost = Callable[[Size, Mapping[str, Tensor]], float]


class JobPhoto(NamedTuple):
    """One photo as a worker process hands it over: arrays, as tensors would need memory that processes share."""

    key: str  # name and digest of file and annotations
    name: str  # its position among all photos
    file: str  # its path below the folder of the data
    stored: Size  # height and width as read, before `max_side`
    picture: np.ndarray | None  # (3, H, W) uint8; `None` if it cannot be read
    target: dict[str, np.ndarray]
    problem: str = ""  # why it cannot be read


class JobPhotos:
    """The photos that a command works on, in their order.

    A photo's key is made of the file's path below the folder of the data and of what is in it and in its annotations:
    it stays with a photo wherever it stands among the others, and a photo that is replaced has another one.

    Args:
        data: a folder in COCO format, or the name `voc07`, `coco14` or `imagenet`.
        root: folder of the named data set, see docs/data.md; ignored if `data` is a folder.
        limit: number of photos to use, chosen at random by `seed`; `None` uses all.
        seed: seed of that random choice.
        network: network whose mean and standard deviation normalise the photos.
        groups: classes that the networks tell apart; labels are then numbers of groups, and -1 for objects of no group.
        max_side: pixels; larger photos are scaled down to this. `None` keeps their size.
        plain: whether `data` may be any folder of photos, without annotations.

    Raises:
        ValueError: if the data are missing; the message describes the expected layout. If no class has a group.
    """

    def __init__(
        self,
        data: str,
        root: str | None,
        limit: int | None,
        seed: int,
        network: Network,
        groups: OutputGroups | None = None,
        max_side: int | None = None,
        plain: bool = False,
    ) -> None:
        module = _data_module(data, root, network, plain)
        try:
            module.setup("validate")
        except (ValueError, OSError) as error:
            raise ValueError(f"The photos of argument `data`, {data!r}, cannot be used: {error}") from error
        self.class_names: dict[int, str] = module.class_names if groups is None else dict(enumerate(groups.names))
        self._group_of = None if groups is None else groups.of_labels(module.class_names)
        self._samples: PhotoDataset = module.val_dataloader().dataset
        self._keys: dict[int, str] = {}
        self._max_side = max_side
        count = len(self._samples)
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"Expected argument `seed` to be an int of 64 bits, but got {seed}.")
        self._numbers = chosen(count, limit, seed)
        self._width = len(str(count))
        self._folder = module.root

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> JobPhoto:
        number = self._numbers[index]
        key, name, file = self.key(index) or "", self._name(number), self._file(number)
        try:
            picture = self._samples.picture(number)
            reduced = self._reduced(picture).numpy()
            target = self._in_groups(self._samples.target(number))
        except (ValueError, OSError) as error:
            return JobPhoto(key, name, file, (0, 0), None, {}, str(error))
        stored = (picture.shape[-2], picture.shape[-1])
        return JobPhoto(key, name, file, stored, reduced, _arrays(target))

    def names(self) -> dict[str, str]:
        """Returns the name of every photo that can be read, by its key."""
        keys = ((self.key(index), number) for index, number in enumerate(self._numbers))
        return {key: self._name(number) for key, number in keys if key is not None}

    def normalised(self, picture: Tensor) -> Tensor:
        """Returns a picture `(3, H, W)` uint8 as the network takes it."""
        return self._samples.normalised(picture)

    def cost(self, index: int, cost: Cost) -> float:
        """Returns the work for a photo; only its header is read, and only where the annotations name no size."""
        number = self._numbers[index]
        photos, place = self._samples.photos, self._samples.numbers[number]
        size = photos.size(place) or photo_size(photos.paths[place])
        return 0.0 if size is None else cost(self._size(size), self._in_groups(dict(photos.targets[place])))

    def key(self, index: int) -> str | None:
        """Returns the key of a photo, read once; `None` if there is no such file any more."""
        number = self._numbers[index]
        if number not in self._keys:
            try:
                self._keys[number] = f"{self._file(number)} {_digest(self._samples, number)}"
            except OSError:
                return None
        return self._keys[number]

    def check_labels(self, num_classes: int) -> None:
        """Raise a `ValueError` that names the first photo with a label that is no class of the network.

        Annotations that are read with each photo are those of named data sets, whose classes are known.

        Args:
            num_classes: of the network.
        """
        targets = self._samples.photos.targets
        for number in self._numbers if isinstance(targets, list) else ():
            target = self._in_groups(targets[self._samples.numbers[number]])
            for label in target.get("labels", torch.empty(0)).tolist():
                if label >= num_classes:
                    raise ValueError(
                        f"Expected labels in argument `data` to be classes of the network, 0..{num_classes - 1}, but "
                        f"{self._file(number)} has {label}. Pass --groups, or the weights of another network."
                    )

    def __getstate__(self) -> dict[str, Any]:
        """Without tensors, each of which a process that is started anew would open a file for."""
        targets = self._samples.photos.targets
        if not isinstance(targets, list):
            return {**self.__dict__, "_arrays": None}
        return {**self.__dict__, "_arrays": list(map(_arrays, targets)), "_samples": _without_targets(self._samples)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays = state.pop("_arrays")
        self.__dict__.update(state)
        if arrays is not None:
            self._samples.photos = self._samples.photos._replace(targets=list(map(as_tensors, arrays)))

    def _in_groups(self, target: dict[str, Tensor]) -> dict[str, Tensor]:
        """Labels as numbers of groups; -1 for those of no group."""
        if self._group_of is None:
            return target
        found = dict(target)
        for name in {"labels", "label"} & target.keys():
            numbers = [self._group_of.get(label, -1) for label in target[name].reshape(-1).tolist()]
            found[name] = torch.tensor(numbers, dtype=torch.long).reshape(target[name].shape)
        return found

    def _size(self, size: Size) -> Size:
        """Height and width of a photo of this size as it is worked on."""
        if self._max_side is None or max(size) <= self._max_side:
            return size
        return max(1, size[0] * self._max_side // max(size)), max(1, size[1] * self._max_side // max(size))

    def _reduced(self, picture: Tensor) -> Tensor:
        size = self._size((picture.shape[-2], picture.shape[-1]))
        return picture if size == tuple(picture.shape[-2:]) else TF.resize(picture, list(size), antialias=True)

    def _name(self, number: int) -> str:
        return str(number).zfill(self._width)

    def _file(self, number: int) -> str:
        path = self._samples.photos.paths[self._samples.numbers[number]]
        return Path(os.path.relpath(path, self._folder)).as_posix()


class _Groups(Dataset[list[JobPhoto]]):
    """Photos that are worked on together."""

    def __init__(self, photos: JobPhotos, groups: Sequence[Sequence[int]]) -> None:
        self.photos, self.groups = photos, groups

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> list[JobPhoto]:
        return [self.photos[photo] for photo in self.groups[index]]


def group_loader(photos: JobPhotos, groups: Sequence[Sequence[int]], workers: int) -> DataLoader[list[JobPhoto]]:
    """Returns a loader whose batches are the photos of one group each.

    Args:
        photos: all photos.
        groups: indices of photos.
        workers: processes that read them ahead, two groups each; 0 reads in this process.
    """
    return DataLoader(_Groups(photos, groups), batch_size=1, num_workers=workers, collate_fn=_only)


def as_tensors(target: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Returns the annotations of a `JobPhoto` as data sets give them."""
    return {name: torch.from_numpy(value) for name, value in target.items()}


def _only(groups: list[list[JobPhoto]]) -> list[JobPhoto]:
    (group,) = groups
    return group


def _arrays(target: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in target.items()}


def _without_targets(samples: PhotoDataset) -> PhotoDataset:
    found = copy(samples)
    found.photos = samples.photos._replace(targets=[])
    return found


def _digest(samples: PhotoDataset, index: int) -> str:
    """Returns what a photo's results depend on: bytes of the file, annotations, the size that they name."""
    number = samples.numbers[index]
    path = samples.photos.paths[number]
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16)
    for name, value in sorted(samples.photos.targets[number].items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    digest.update(str(samples.photos.size(number)).encode())
    return digest.hexdigest()


def _data_module(data: str, root: str | None, network: Network, plain: bool) -> Any:
    options: dict[str, Any] = {"mean": network.mean, "std": network.std}
    if data.lower() in _NAMED:
        return getattr(datasets, _NAMED[data.lower()])(root, **options)
    if not os.path.isdir(data):  # unlike Path.is_dir, False for a name that is too long
        kind = "photos" if plain else "photos in COCO format"
        raise ValueError(
            f"Expected argument `data` to be a folder of {kind}, or one of {', '.join(_NAMED)}, but got {data!r}."
        )
    if plain and not os.path.isfile(os.path.join(data, "annotations.json")):
        return PhotoFolder(data, **options)
    return datasets.CocoPhotos(data, **options)
