"""What the data sets of photos have in common: choosing by a seed, reading, normalising, batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from sess_lightning.checks import check_count
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.data.reading import PhotoError, check_annotated_size, read_annotated

Sample = tuple[Tensor, dict[str, Tensor]]
Size = tuple[int, int]


class Targets(Protocol):
    """What is known about each photo; it may be made only when it is asked for."""

    def __getitem__(self, index: int, /) -> dict[str, Tensor]: ...


class Photos(NamedTuple):
    """The photos of a data set, none of them read yet."""

    paths: Sequence[Path]
    targets: Targets
    class_names: dict[int, str]
    sizes: Sequence[Size | None] | None = None  # height and width that the annotations name

    def size(self, number: int) -> Size | None:
        """Height and width of a photo as annotated, if they are."""
        return None if self.sizes is None else self.sizes[number]


class PhotoData(LightningDataModule):
    """Photos on disk, each at its own resolution, for `validate` and `test`; a subclass knows where they are.

    A batch is a list of images `(3, H, W)`, normalised, of their own sizes, and a list of what is known about each.

    Args:
        root: folder of the data set.
        batch_size: photos per batch.
        num_workers: processes that read photos.
        limit: so many photos, chosen by `seed`, in their order; `None` takes all.
        seed: of the choice.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation, likewise.

    Raises:
        ValueError: if `limit` is no positive number; from `setup`, if `root` does not hold what is expected.
    """

    layout: str  # what `root` is expected to hold, for errors

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
        """Read the annotations; photos are read when they are needed."""
        if self.root is None:
            raise ValueError(
                "Expected argument `root` to name a folder of photos: pass --data.root PHOTOS, or --root PHOTOS to a "
                f"benchmark. {self.layout}"
            )
        photos = self._find(Path(self.root))
        self.class_names = photos.class_names
        numbers = self._chosen(len(photos.paths))
        self._check_sizes(photos, numbers)
        self._photos = PhotoDataset(photos, numbers, self.mean, self.std)

    def val_dataloader(self) -> DataLoader[Sample]:
        """The photos in their order."""
        return DataLoader(self._photos, self.batch_size, num_workers=self.num_workers, collate_fn=self.collate)

    def test_dataloader(self) -> DataLoader[Sample]:
        """The same photos."""
        return self.val_dataloader()

    @staticmethod
    def collate(samples: list[Sample]) -> tuple[list[Tensor], Any]:
        """A batch: the images, and what is known about them."""
        return [image for image, _ in samples], [target for _, target in samples]

    def _find(self, root: Path) -> Photos:
        raise NotImplementedError

    def _chosen(self, count: int) -> Sequence[int]:
        return chosen(count, self.limit, self.seed)

    def _check(self, *paths: Path) -> None:
        """Raise a `ValueError` that says the expected layout, unless all paths are there."""
        for path in paths:
            if not path.exists():
                raise ValueError(f"Found no {path}. {self.layout}")

    def _check_listed(self, kind: str, paths: Sequence[Path], source: Path) -> None:
        """Raise a `ValueError` that counts the files that are missing and names some, unless all are there."""
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
    """Photos as `(image, target)`.

    Args:
        photos: of a data set.
        numbers: which of them.
        mean: per-channel mean to normalise with.
        std: per-channel standard deviation.
    """

    def __init__(self, photos: Photos, numbers: Sequence[int], mean: Sequence[float], std: Sequence[float]) -> None:
        self.photos, self.numbers = photos, numbers
        self.mean, self.std = list(mean), list(std)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Sample:
        number = self.numbers[index]
        path = self.photos.paths[number]
        try:
            pixels = TF.to_dtype(read_annotated(path, self.photos.size(number)), torch.float32, scale=True)
        except PhotoError as error:
            raise _unreadable(path, error) from error
        known = self.photos.targets[number]
        own = {key: value.clone() for key, value in known.items()}  # a validation_step may change its batch
        return TF.normalize(pixels, self.mean, self.std), own


def chosen(count: int, limit: int | None, seed: int) -> Sequence[int]:
    """The numbers of `limit` photos out of `count`, drawn by a seed, ascending; `None` takes all.

    Example:
        >>> chosen(3, None, 0), len(chosen(9, 4, 0)), chosen(9, 4, 0) == chosen(9, 4, 0)
        (range(0, 3), 4, True)
    """
    if limit is None:
        return range(count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:limit].tolist())


def annotated_size(photo: Mapping[str, Any]) -> Size | None:
    """Height and width in an entry of COCO's `images`; None where they are missing or 0, which some tools write.

    Raises:
        ValueError, TypeError: if they are no whole numbers.

    Example:
        >>> annotated_size({"height": 20, "width": 30}), annotated_size({"file_name": "a.png"})
        ((20, 30), None)
    """
    if not photo.get("height") or not photo.get("width"):
        return None
    return int(photo["height"]), int(photo["width"])


def _unreadable(path: Path, error: PhotoError) -> ValueError:
    return ValueError(f"Could not read the photo {path}: {error}. Mend it or take it out of the list.")
