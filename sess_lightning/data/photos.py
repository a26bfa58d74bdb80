"""Any folder of photos with boxes in COCO format, each photo at its own resolution."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as TF

from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD

_LAYOUT = (
    "Expected a folder with images/ and annotations.json, whose `images` have id and file_name, `annotations` "
    "have image_id, category_id (the class index) and bbox [x, y, width, height], `categories` hold id and name."
)

Sample = tuple[Tensor, dict[str, Any]]


class CocoPhotos(LightningDataModule):
    """Photos with boxes, for `validate` and `test`.

    A batch is a list of images `(3, H, W)`, normalised, of their own sizes, and a list of detection targets: `boxes`
    `(N, 4)`
    xyxy in pixels, `labels` `(N,)` long, `iscrowd` `(N,)`, `image_id`.

    Args:
        root: folder with `images/` and `annotations.json` in COCO format; `category_id` is the model's class index as
            it is.
        batch_size: photos per batch.
        num_workers: processes that read photos.
        limit: only the first so many photos; `None` takes all.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation, likewise.

    Raises:
        ValueError: from `setup`, if `root` does not hold what is expected; says what is missing.

    Example::

        trainer.validate(model, datamodule=CocoPhotos("photos"))
    """

    def __init__(
        self,
        root: str | None,
        batch_size: int = 4,
        num_workers: int = 0,
        limit: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.root, self.batch_size, self.num_workers, self.limit = root, batch_size, num_workers, limit
        self.mean, self.std = list(mean), list(std)
        self.class_names: dict[int, str] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the annotations; photos are read when they are needed."""
        if self.root is None:
            raise ValueError(f"Expected argument `root` to name a folder of photos: pass --data.root PHOTOS. {_LAYOUT}")
        self._photos = PhotoDataset(self.root, self.limit, self.mean, self.std)
        self.class_names = self._photos.class_names

    def val_dataloader(self) -> DataLoader[Sample]:
        """All photos in the order of the annotations."""
        return DataLoader(self._photos, self.batch_size, num_workers=self.num_workers, collate_fn=_collate)

    def test_dataloader(self) -> DataLoader[Sample]:
        """The same photos."""
        return self.val_dataloader()


class PhotoDataset(Dataset[Sample]):
    """Photos of a COCO-format folder as `(image, target)`; arguments as in `CocoPhotos`."""

    def __init__(self, root: str | Path, limit: int | None, mean: Sequence[float], std: Sequence[float]) -> None:
        self.folder = Path(root) / "images"
        file = Path(root) / "annotations.json"
        for path in (file, self.folder):
            if not path.exists():
                raise ValueError(f"Found no {path}. {_LAYOUT}")
        try:
            content = json.loads(file.read_text())
            self.photos = sorted(content["images"], key=lambda photo: photo["id"])[:limit]
            self.annotations: dict[int, list[dict[str, Any]]] = defaultdict(list)
            for annotation in content["annotations"]:
                self.annotations[annotation["image_id"]].append(annotation)
            self.class_names = {c["id"]: c["name"] for c in content.get("categories", [])}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"Could not read {file}: {type(error).__name__} {error}. {_LAYOUT}") from error
        missing = [p["file_name"] for p in self.photos if not (self.folder / p["file_name"]).is_file()]
        if missing:
            shown = ", ".join(missing[:3])
            raise ValueError(
                f"{file} lists {len(missing)} photos that are not in {self.folder}, e.g. {shown}. {_LAYOUT}"
            )
        self.mean, self.std = list(mean), list(std)

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> Sample:
        photo = self.photos[index]
        image = TF.to_dtype(TF.pil_to_tensor(self._read(self.folder / photo["file_name"])), torch.float32, scale=True)
        found = self.annotations[photo["id"]]
        corner_size = torch.tensor([a["bbox"] for a in found], dtype=torch.float32).reshape(-1, 4)
        target = {
            "boxes": torch.cat([corner_size[:, :2], corner_size[:, :2] + corner_size[:, 2:]], 1),
            "labels": torch.tensor([a["category_id"] for a in found], dtype=torch.long),
            "iscrowd": torch.tensor([a.get("iscrowd", 0) for a in found], dtype=torch.long),
            "image_id": torch.tensor(photo["id"]),
        }
        return TF.normalize(image, self.mean, self.std), target

    def _read(self, path: Path) -> Image.Image:
        try:
            with Image.open(path) as photo:
                return photo.convert("RGB")
        except (UnidentifiedImageError, OSError) as error:
            raise ValueError(
                f"Could not read the photo {path}: {error}. Mend it or take it out of annotations.json."
            ) from error


def _collate(samples: list[Sample]) -> tuple[list[Tensor], list[dict[str, Any]]]:
    return [image for image, _ in samples], [target for _, target in samples]
