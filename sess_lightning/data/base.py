"""Base class of the photo data sets: random subset, reading, normalisation, batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from sess_lightning.checks import check_count
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.data.reading import PhotoError, check_annotated_size, read_annotated, read_photo

Sample = tuple[Tensor, dict[str, Tensor]]
Size = tuple[int, int]


class Targets(Protocol):
    """Annotations by index of the photo. An implementation may build them on access."""

    def __getitem__(self, index: int, /) -> dict[str, Tensor]: ...


class Photos(NamedTuple):
    """Paths, annotations and class names of a data set. No photo has been read yet."""

    paths: Sequence[Path]
    targets: Targets
    class_names: dict[int, str]
    sizes: Sequence[Size | None] | None = None  # height and width that the annotations name

    def size(self, number: int) -> Size | None:
        """Height and width of a photo as annotated, if they are."""
        return None if self.sizes is None else self.sizes[number]


class PhotoData(LightningDataModule):
    """Base data module for photos on disk, each at its own resolution, for `validate` and `test`.

    A subclass implements `_find`, which lists the photos. A batch is a list of normalised images `(3, H, W)` of
    different sizes and a list of one annotation dict per image.

    Args:
        root: folder of the data set.
        batch_size: photos per batch.
        num_workers: number of worker processes that read photos.
        limit: number of photos to use, chosen at random by `seed` and kept in their order; `None` uses all.
        seed: seed of that random choice.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation to normalise with; ImageNet's by default.

    Raises:
        ValueError: if `limit` is not positive; from `setup`, if `root` does not have the expected layout.
    """

    layout: str  # expected content of `root`, for error messages
    upright = False  # whether photos are turned as their EXIF data say; boxes count the pixels in the file

    def __init__(
        self,
        root: str | None = None,
        batch_size: int = 4,
        num_workers: int = 0,
        limit: int | None = None,
        seed: int = 0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        check_count("limit", limit, optional=True)
        self.root, self.batch_size, self.num_workers = root, batch_size, num_workers
        self.limit, self.seed = limit, seed
        self.mean, self.std = list(mean), list(std)
        self.class_names: dict[int, str] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the annotations. Photos are read on access."""
        if self.root is None:
            raise ValueError(
                "Expected argument `root` to name a folder of photos: pass --data.root PHOTOS, or --root PHOTOS to a "
                f"benchmark. {self.layout}"
            )
        photos = self._find(Path(self.root))
        self.class_names = photos.class_names
        numbers = self._chosen(len(photos.paths))
        self._check_sizes(photos, numbers)
        self._photos = PhotoDataset(photos, numbers, self.mean, self.std, self.upright)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Returns a loader of the photos in their order."""
        return DataLoader(self._photos, self.batch_size, num_workers=self.num_workers, collate_fn=self.collate)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Returns the same loader as `val_dataloader`."""
        return self.val_dataloader()

    @staticmethod
    def collate(samples: list[Sample]) -> tuple[list[Tensor], Any]:
        """Collates samples into a list of images and a list of their annotations."""
        return [image for image, _ in samples], [target for _, target in samples]

    def _find(self, root: Path) -> Photos:
        raise NotImplementedError

    def _chosen(self, count: int) -> Sequence[int]:
        return chosen(count, self.limit, self.seed)

    def _check(self, *paths: Path) -> None:
        """Raise a `ValueError` with the expected layout if a path does not exist."""
        for path in paths:
            if not path.exists():
                raise ValueError(f"Found no {path}. {self.layout}")

    def _check_listed(self, kind: str, paths: Sequence[Path], source: Path) -> None:
        """Raise a `ValueError` with the number of missing files and some of their names, if any is missing."""
        missing = [path for path in paths if not path.is_file()]
        if missing:
            shown = ", ".join(path.name for path in missing[:3])
            raise ValueError(
                f"{source} lists {len(missing)} {kind} that are not in {missing[0].parent}, e.g. {shown}. {self.layout}"
            )

    def _check_sizes(self, photos: Photos, numbers: Sequence[int]) -> None:
        """Raise a `ValueError` that names the first photo of another size than annotated, before work starts."""
        for number in numbers:
            size = photos.size(number)
            if size is not None:
                try:
                    check_annotated_size(photos.paths[number], size)
                except PhotoError as error:
                    raise _unreadable(photos.paths[number], error) from error


class PhotoDataset(Dataset[Sample]):
    """Dataset of `(image, target)`.

    Args:
        photos: the photos of a data set.
        numbers: indices of the photos to use.
        mean: per-channel mean to normalise with.
        std: per-channel standard deviation to normalise with.
        upright: turn photos as their EXIF data say. By default the pixels are those in the file, as boxes count them.
    """

    def __init__(
        self,
        photos: Photos,
        numbers: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        upright: bool = False,
    ) -> None:
        self.photos, self.numbers, self.upright = photos, numbers, upright
        self.mean, self.std = list(mean), list(std)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        return self.normalised(self.picture(index)), self.target(index)

    def picture(self, index: int) -> Tensor:
        """Returns the photo as it is read, `(3, H, W)` uint8."""
        number = self.numbers[index]
        path = self.photos.paths[number]
        try:
            return read_photo(path).picture if self.upright else read_annotated(path, self.photos.size(number))
        except PhotoError as error:
            raise _unreadable(path, error) from error

    def target(self, index: int) -> dict[str, Tensor]:
        """Returns the photo's annotations; cloned, as a `validation_step` may change its batch in place."""
        return {key: value.clone() for key, value in self.photos.targets[self.numbers[index]].items()}

    def normalised(self, picture: Tensor) -> Tensor:
        """Returns a picture `(3, H, W)` uint8 as the network takes it: float32 with this mean and deviation."""
        return TF.normalize(TF.to_dtype(picture, torch.float32, scale=True), self.mean, self.std)


def chosen(count: int, limit: int | None, seed: int) -> Sequence[int]:
    """Returns the indices of `limit` out of `count` photos, drawn at random by `seed`, ascending.

    `limit=None` returns all indices.

    Example:
        >>> chosen(3, None, 0), len(chosen(9, 4, 0)), chosen(9, 4, 0) == chosen(9, 4, 0)
        (range(0, 3), 4, True)
    """
    if limit is None:
        return range(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:limit].tolist())


def _unreadable(path: Path, error: PhotoError) -> ValueError:
    return ValueError(f"Could not read the photo {path}: {error}. Mend it or take it out of the list.")
