"""Loads the photos and networks of a benchmark from its command-line arguments."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sess_lightning import data as datasets
from sess_lightning.data.base import PhotoDataset, chosen
from sess_lightning.networks import Network, OutputGroups, load_network

_NAMED = {"voc07": "VOC07", "coco14": "COCO14", "imagenet": "ImageNet"}


class BenchmarkPhotos(Dataset[tuple[str, str, Any]]):
    """Dataset of `(key, name, (image, target))`; a photo that cannot be read is `(key, name, message)`.

    The key is made of the file's name and of what is in it and in its annotations: it stays with a photo wherever it
    stands among the others, and a photo that is replaced has another one. The name is the position.

    Args:
        data: a folder in COCO format, or the name `voc07`, `coco14` or `imagenet`.
        root: folder of the named data set, see docs/data.md; ignored if `data` is a folder.
        limit: number of photos to use, chosen at random by `seed`; `None` uses all.
        seed: seed of that random choice.
        network: network whose mean and standard deviation normalise the photos.
        groups: classes that the networks tell apart; labels are then numbers of groups, and -1 for objects of no group.

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
    ) -> None:
        module = _data_module(data, root, network)
        try:
            module.setup("validate")
        except (ValueError, OSError) as error:
            raise ValueError(f"The photos of argument `data`, {data!r}, cannot be used: {error}") from error
        self._group_of = None if groups is None else groups.of_labels(module.class_names)
        self._samples: PhotoDataset = module.val_dataloader().dataset
        self._keys: dict[int, str] = {}
        count = len(self._samples)
        if not -(2**63) <= seed < 2**64:
            raise ValueError(f"Expected argument `seed` to be an int of 64 bits, but got {seed}.")
        self._numbers = chosen(count, limit, seed)
        self._width = len(str(count))

    def names(self) -> dict[str, str]:
        """Returns the name of every photo that can be read, by its key."""
        return {key: self._name(number) for number in self._numbers if (key := self._key(number)) is not None}

    def without(self, done: set[str]) -> BenchmarkPhotos:
        """Returns the data set without the photos with keys in `done`."""
        rest = copy(self)
        rest._numbers = [number for number in self._numbers if not done or self._key(number) not in done]
        return rest

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[str, str, Any]:
        number = self._numbers[index]
        try:
            sample: Any = self._in_groups(*self._samples[number])
        except (ValueError, OSError) as error:
            sample = str(error)
        return self._key(number) or "", self._name(number), sample

    def _in_groups(self, image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if self._group_of is None or "labels" not in target:
            return image, target
        labels = [self._group_of.get(label, -1) for label in target["labels"].tolist()]
        return image, {**target, "labels": torch.tensor(labels, dtype=torch.long)}

    def _name(self, number: int) -> str:
        return str(number).zfill(self._width)

    def _key(self, number: int) -> str | None:
        """Returns the key of a photo, read once; `None` if there is no such file any more."""
        if number not in self._keys:
            try:
                self._keys[number] = _key(self._samples, number)
            except OSError:
                return None
        return self._keys[number]


def _key(samples: PhotoDataset, index: int) -> str:
    """Returns what a photo's rows depend on: name and bytes of the file, annotations, the size that they name."""
    number = samples.numbers[index]
    path = samples.photos.paths[number]
    digest = hashlib.blake2b(path.read_bytes(), digest_size=16)
    for name, value in sorted(samples.photos.targets[number].items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    digest.update(str(samples.photos.size(number)).encode())
    return f"{path.parent.name}/{path.name} {digest.hexdigest()}"


def networks(models: str, weights: str) -> dict[str, Network]:
    """Load networks with their weights, by name.

    If a name occurs with several weights, the stem of the weights' file is added to it.

    Args:
        models: names of networks, separated by commas.
        weights: for each network a path or `DEFAULT`, separated by commas; a single one is used for all.

    Raises:
        ValueError: if the numbers of names and weights differ, or a network or its weights cannot be found.
    """
    names, files = models.split(","), weights.split(",")
    files = files * len(names) if len(files) == 1 else files
    if len(names) != len(files):
        raise ValueError(
            f"Expected argument `weights` to name weights for each of {len(names)} models, but got {len(files)}."
        )
    labels = [
        name if names.count(name) == 1 else f"{name} ({Path(file).stem})"
        for name, file in zip(names, files, strict=True)
    ]
    if len(set(labels)) < len(labels):
        raise ValueError(f"Expected argument `model` to name each network with its weights once, but got {models!r}.")
    return {label: load_network(*chosen) for label, chosen in zip(labels, zip(names, files, strict=True), strict=True)}


def same_normalisation(found: Sequence[Network]) -> Network:
    """Returns the first network after checking that all have the same mean and standard deviation.

    A benchmark reads and normalises each photo only once.

    Raises:
        ValueError: if they differ.
    """
    first = found[0]
    if any((list(n.mean), list(n.std)) != (list(first.mean), list(first.std)) for n in found):
        raise ValueError(
            "Expected all models of argument `model` to have one normalisation (mean and std), but they differ. "
            "Measure them one at a time, each with its own --out."
        )
    return first


def _data_module(data: str, root: str | None, network: Network) -> Any:
    options: dict[str, Any] = {"mean": network.mean, "std": network.std}
    if data.lower() in _NAMED:
        return getattr(datasets, _NAMED[data.lower()])(root, **options)
    if not os.path.isdir(data):  # unlike Path.is_dir, False for a name that is too long
        raise ValueError(
            f"Expected argument `data` to be a folder of photos in COCO format, or one of {', '.join(_NAMED)}, but got "
            f"{data!r}."
        )
    return datasets.CocoPhotos(data, **options)
