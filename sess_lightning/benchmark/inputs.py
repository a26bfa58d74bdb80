"""Photos and networks of a benchmark, from what the command line says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from sess_lightning import data as datasets
from sess_lightning.data.base import chosen
from sess_lightning.networks import Network, load_network

_NAMED = {"voc07": "VOC07", "coco14": "COCO14", "imagenet": "ImageNet"}


class BenchmarkPhotos(Dataset[tuple[str, Any]]):
    """Photos of a data set as `(key, (image, target))`; a photo that cannot be read as `(key, message)`.

    Args:
        data: a folder in COCO format, or `voc07`, `coco14`, `imagenet`.
        root: where the named data set lies, as docs/data.md says; not used for a folder.
        limit: so many photos, chosen by `seed`; None takes all.
        seed: of the choice.
        network: whose normalisation the photos get.

    Raises:
        ValueError: if the data are not there; says what was expected.
    """

    def __init__(self, data: str, root: str | None, limit: int | None, seed: int, network: Network) -> None:
        module = _data_module(data, root, network)
        module.setup("validate")
        self._samples: Any = module.val_dataloader().dataset
        count = len(self._samples)
        self._numbers = chosen(count, limit, seed)
        self._width = len(str(count))

    def without(self, done: set[str]) -> BenchmarkPhotos:
        """Leave out what is measured."""
        self._numbers = [number for number in self._numbers if self._key(number) not in done]
        return self

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> tuple[str, Any]:
        number = self._numbers[index]
        try:
            return self._key(number), self._samples[number]
        except (ValueError, OSError) as error:
            return self._key(number), str(error)

    def _key(self, number: int) -> str:
        return str(number).zfill(self._width)  # sorts as numbers do


def networks(models: str, weights: str) -> dict[str, Network]:
    """Networks by name, each with its weights; one name with several weights is told apart by the files' names.

    Args:
        models: names, separated by commas.
        weights: a path or `DEFAULT` for each, separated by commas; one for all is enough.

    Raises:
        ValueError: if the numbers differ, or a network or its weights are not there.
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
    """One of the networks, if all expect images of one normalisation, as a benchmark reads each photo once.

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
    if not Path(data).is_dir():
        raise ValueError(
            f"Expected argument `data` to be a folder of photos in COCO format, or one of {', '.join(_NAMED)}, but got "
            f"{data!r}."
        )
    return datasets.CocoPhotos(data, **options)
