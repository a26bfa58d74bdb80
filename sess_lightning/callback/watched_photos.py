"""The argument `photos` of `SESSCallback`: photos of the user's own, read one by one, their classes as the model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from torchvision.transforms.v2 import functional as TF

from sess_lightning.callback.class_name_search import FoundNames, names_of_data
from sess_lightning.class_names import ClassNames, nearest_names
from sess_lightning.data import CocoPhotos
from sess_lightning.data.base import PhotoDataset, Photos
from sess_lightning.data.decoding import as_rgb
from sess_lightning.data.reading import is_photo
from sess_lightning.labels import IGNORED
from sess_lightning.probing import random_states
from sess_lightning.samples import IMAGE_KEYS, Samples, batch_to_samples

PhotoArgument = str | Path | Sequence[str | Path] | Dataset | DataLoader | Samples
ToSamples = Callable[[Any], Samples]

_FORMS = (
    "a folder in COCO format (images/ and annotations.json), of class folders or of photos, a list of image files, a "
    "Dataset of (image, label or detection target), a DataLoader, or Samples"
)


@dataclass
class WatchedPhotos:
    """Photos by number. Nothing is kept: each is read when it is asked for.

    Attributes:
        about: what they are and where, for messages.
        names: of the photos, which a resumed training finds them by: of files their paths in the folder, else numbers.
        read: function from a number to a batch of one.
        to_samples: function from that batch to `Samples`.
        class_names: of the photos' own labels, where they have any.
        counted: the labels are positions among the class folders.
        classes: class of the model by label; `None` where labels are taken as they are.
        used: for each class of the photos read so far one of them.
    """

    about: str
    names: list[str]
    read: Callable[[int], Any]
    to_samples: ToSamples = batch_to_samples
    class_names: ClassNames | None = None
    counted: bool = False
    classes: dict[int, int] | None = None
    used: dict[int, str] = field(default_factory=dict)
    _model_names: FoundNames = field(default_factory=FoundNames)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> tuple[Samples, Any]:
        """Read a photo, its classes those of the model.

        Returns:
            The photo as `Samples` of one, and the batch that it was read from, for `forward_fn`.

        Raises:
            ValueError: if it cannot be read, or has a class that the model lacks; names the photo.
        """
        try:
            # What a data set draws at random must not change what the training draws.
            with random_states(), torch.inference_mode(False):
                batch = self.read(number)
                samples = self.to_samples(batch)
            if len(samples) != 1:
                raise ValueError(f"expected one image of it, but got {len(samples)}")
            return self._relabelled(samples, number), batch
        except Exception as error:  # of a data set, whatever it is: which photo it was is all that can be added
            said = str(error) if isinstance(error, (ValueError, TypeError)) else f"{type(error).__name__} {error}"
            raise ValueError(f"SESSCallback(photos=), photo {self.names[number]} of {self.about}: {said}") from error

    def take_names(self, model: FoundNames) -> None:
        """Take note of the model's class names: labels that have names are matched with them when they are read."""
        self._model_names, self.used = model, {}
        self.classes = None if model.names is None or self.class_names is None else {}

    def check_outputs(self, count: int) -> None:
        """Refuse classes that a model with `count` outputs lacks.

        Raises:
            ValueError: names the class and a photo that has it, or that the class folders are not the model's classes.
        """
        count = max(count, 2)  # one output stands for two classes
        if self.counted and self.classes is None and len(self.class_names or ()) != count:
            raise ValueError(
                f"Expected argument `photos` to have a class folder for each of the model's {count} classes, as their "
                f"names are not known, but {self.about} has {len(self.class_names or ())}. Pass class_names=."
            )
        for label, photo in self.used.items():
            if label >= count and not label == IGNORED >= count:
                raise ValueError(
                    f"Expected argument `photos` to have classes of the model, 0..{count - 1}, but photo {photo} of "
                    f"{self.about} has class {label}. Ids that count from 1 or leave gaps need renumbering; where "
                    "both have names, class_names= matches them by name."
                )

    def _relabelled(self, samples: Samples, number: int) -> Samples:
        labels, objects = samples.labels, samples.objects
        if labels is not None:
            labels = self._of_model(labels, number)
        if objects is not None:
            objects = [
                one if one is None else {**one, "labels": self._of_model(torch.as_tensor(one["labels"]), number)}
                for one in objects
            ]
        return replace(samples, labels=labels, objects=objects)

    def _of_model(self, labels: Tensor, number: int) -> Tensor:
        found = [self._class(label) for label in labels.reshape(-1).tolist()]
        self.used |= {label: self.names[number] for label in found if label >= 0 and label not in self.used}
        return torch.tensor(found, dtype=torch.long).reshape(labels.shape)

    def _class(self, label: int) -> int:
        unknown = label < 0 or (label == IGNORED and label not in (self.class_names or {}))
        if self.classes is None or unknown:
            return label
        if label not in self.classes:
            self.classes[label] = self._named(label)
        return self.classes[label]

    def _named(self, label: int) -> int:
        """The class of the model that has the name of a label of the photos."""
        name, names = (self.class_names or {}).get(label), self._model_names.names or {}
        if name is None:
            raise ValueError(f"its class {label} has no name, so it cannot be found among the model's classes by name")
        found = [index for index, one in names.items() if one == name]
        found = found or [index for index, one in names.items() if one.lower() == name.lower()]
        if len(found) == 1 or label in found:
            return label if label in found else found[0]
        if found:
            raise ValueError(f"its class {name!r} may be any of the model's {' and '.join(map(str, found))}")
        near = nearest_names(name, list(names.values()))
        raise ValueError(
            f"the model has no class {name!r}; its class names are {self._model_names}."
            + (f" Nearest: {', '.join(near)}." if near else "")
            + " Pass class_names= where these are wrong, or rename the class of the photos."
        )


def open_photos(
    photos: Any, mean: Sequence[float], std: Sequence[float], to_samples: ToSamples | None = None
) -> WatchedPhotos:
    """The argument `photos`, in any of its forms. No photo is read yet.

    Files are normalised by `mean` and `std`, and so are PIL images and uint8 tensors of a data set; floating point
    images of a data set, a loader or `Samples` are taken as they are.

    Args:
        photos: as `SESSCallback` takes it.
        mean: per-channel mean.
        std: per-channel standard deviation.
        to_samples: reads the batches of a DataLoader; `None` reads the usual forms.

    Raises:
        ValueError: if it is none of the forms, or empty; names the files that are not there.
    """
    if isinstance(photos, (str, Path)):
        found = _of_path(Path(photos).expanduser(), mean, std)
    elif isinstance(photos, Samples):
        found = WatchedPhotos("Samples", _numbered(len(photos)), partial(_selected, photos))
    elif isinstance(photos, DataLoader):
        found = _of_loader(photos, to_samples or batch_to_samples)
    elif isinstance(photos, (list, tuple)) and photos and all(isinstance(one, (str, Path)) for one in photos):
        found = _of_files(photos, mean, std)
    elif hasattr(photos, "__getitem__") and hasattr(photos, "__len__") and not isinstance(photos, (Mapping, Tensor)):
        found = _of_dataset(photos, mean, std)
    else:
        hint = " One that can only be iterated has no numbered photos: pass list(...) of it."
        raise ValueError(
            f"Expected argument `photos` to be {_FORMS}, but got {type(photos).__name__}."
            + (hint if isinstance(photos, IterableDataset) else "")
        )
    if not len(found):
        raise ValueError(f"Expected argument `photos` to hold at least one photo, but {found.about} is empty.")
    return found


def _of_path(path: Path, mean: Sequence[float], std: Sequence[float]) -> WatchedPhotos:
    if path.is_file() and path.suffix.lower() != ".json":
        return _of_files([path], mean, std)
    if not path.is_dir():
        is_json = " a file in JSON: pass the folder that holds it." if path.exists() else " not there."
        raise ValueError(f"Expected argument `photos` to be {_FORMS}, but {path} is{is_json}")
    if (path / "annotations.json").exists() or (path / "images").is_dir():
        return _of_coco(path, mean, std)
    files = sorted(file for file in path.iterdir() if is_photo(file))
    folders = sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    by_class = [sorted(file for file in folder.rglob("*") if is_photo(file)) for folder in folders]
    if not any(by_class):
        return _of_files(files, mean, std, path)
    if files or not all(by_class):
        wrong = f"{files[0]} lies beside folders" if files else f"{folders[by_class.index([])]} has none"
        raise ValueError(
            "Expected argument `photos` to be a folder of class folders, each with photos, or of photos alone, but "
            f"{wrong}."
        )
    labels = [number for number, some in enumerate(by_class) for _ in some]
    found = _of_files([file for some in by_class for file in some], mean, std, path, labels)
    names = {number: folder.name for number, folder in enumerate(folders)}
    return replace(found, about=f"{len(folders)} class folders in {path}", class_names=names, counted=True)


def _of_coco(root: Path, mean: Sequence[float], std: Sequence[float]) -> WatchedPhotos:
    data = CocoPhotos(str(root), mean=_of_rgb("mean", mean), std=_of_rgb("std", std))
    data.setup()
    dataset: PhotoDataset = data.val_dataloader().dataset  # type: ignore[assignment]
    names = [path.relative_to(root / "images").as_posix() for path in dataset.photos.paths]
    return WatchedPhotos(
        f"the COCO-format folder {root}",
        names,
        partial(_read, dataset),
        class_names={label: str(name) for label, name in data.class_names.items()} or None,
    )


def _of_files(
    files: Sequence[str | Path],
    mean: Sequence[float],
    std: Sequence[float],
    root: Path | None = None,
    labels: Sequence[int] | None = None,
) -> WatchedPhotos:
    """Photos without boxes, of a folder or of a list."""
    paths = [Path(file).expanduser() for file in dict.fromkeys(map(str, files))]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise ValueError(
            f"Expected argument `photos` to name image files, but {len(missing)} of {len(paths)} are not there, e.g. "
            f"{', '.join(missing[:3])}."
        )
    targets = [{} if labels is None else {"label": torch.tensor(labels[i])} for i in range(len(paths))]
    dataset = PhotoDataset(
        Photos(paths, targets, {}), range(len(paths)), _of_rgb("mean", mean), _of_rgb("std", std), upright=True
    )
    names = [path.as_posix() if root is None else path.relative_to(root).as_posix() for path in paths]
    about = "the list of files" if root is None else f"the folder {root}"
    return WatchedPhotos(about, names, partial(_read, dataset))


def _of_dataset(data: Any, mean: Sequence[float], std: Sequence[float]) -> WatchedPhotos:
    names = names_of_data(data)
    return WatchedPhotos(
        type(data).__name__,
        _numbered(len(data)),
        partial(_read_normalised, data, mean, std),
        class_names=names and names.names,
    )


def _of_loader(loader: DataLoader, to_samples: ToSamples) -> WatchedPhotos:
    """The samples of a loader, each in a batch of its own, in the order of its data set whatever it shuffles."""
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise ValueError(
            "Expected argument `photos` to be a DataLoader that makes batches of numbered samples, but its data set "
            "can only be iterated or makes the batches itself. Pass a list of (image, label or detection target)."
        )
    with random_states():  # a sampler that shuffles draws a seed
        indices = sorted(set(loader.sampler))
    names = names_of_data(loader)
    return WatchedPhotos(
        f"DataLoader of {type(loader.dataset).__name__}",
        [str(index) for index in indices],
        partial(_collated, loader, indices),
        to_samples,
        class_names=names and names.names,
    )


# Functions of the module, not lambdas: the callback can be pickled and copied after a run.
def _selected(samples: Samples, number: int) -> Samples:
    return samples.select([number])


def _read(dataset: Any, number: int) -> Any:
    return _batch_of(dataset[number])


def _read_normalised(data: Any, mean: Sequence[float], std: Sequence[float], number: int) -> Any:
    return _batch_of(_normalised(data[number], mean, std))


def _collated(loader: DataLoader, indices: Sequence[int], number: int) -> Any:
    return loader.collate_fn([loader.dataset[indices[number]]])


def _batch_of(item: Any) -> Any:
    """A batch of one sample: an image, `(image, label or target, ...)`, or a mapping."""
    if isinstance(item, (list, tuple)) and len(item) > 1:
        image, known = item[0], item[1]
        if isinstance(known, Mapping) and "labels" in known and ("boxes" in known or "masks" in known):
            return [image], [known]
        return ([image], default_collate([known])) if known is not None and known != {} else [[image]]
    if isinstance(item, Mapping):
        return default_collate([item])
    return [[item[0] if isinstance(item, (list, tuple)) and item else item]]


def _normalised(item: Any, mean: Sequence[float], std: Sequence[float]) -> Any:
    """A sample with its image normalised where it is one of bytes: a PIL image, or a tensor of uint8."""

    def of(image: Any) -> Any:
        if isinstance(image, Image.Image):
            grey = image.mode in ("1", "L") and len(mean) == 1
            image = TF.pil_to_tensor(image.convert("L") if grey else as_rgb(image))
        if isinstance(image, Tensor) and image.dtype == torch.uint8 and image.ndim == 3:
            return TF.normalize(TF.to_dtype(image, torch.float32, scale=True), list(mean), list(std))
        return image

    if isinstance(item, Mapping):
        return {key: of(value) if key in IMAGE_KEYS else value for key, value in item.items()}
    if isinstance(item, (list, tuple)) and item:
        return (of(item[0]), *item[1:])
    return of(item)


def _of_rgb(name: str, values: Sequence[float]) -> list[float]:
    """The mean or standard deviation for photos from files, which are read in RGB."""
    if len(values) not in (1, 3):
        raise ValueError(
            f"Expected argument `{name}` to have 3 values, as `photos` are read in RGB, but got {len(values)}. Pass "
            "images with other channels as a Dataset."
        )
    return list(values) * (3 // len(values))


def _numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]
