"""Any folder of photos with boxes in COCO format, each photo at its own resolution."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sess_lightning.data.base import PhotoData, Photos, annotated_size
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD


class CocoPhotos(PhotoData):
    """Photos with boxes, for `validate` and `test`.

    A batch is a list of images `(3, H, W)`, normalised, of their own sizes, and a list of detection targets: `boxes`
    `(N, 4)` xyxy in pixels, `labels` `(N,)` long, `iscrowd` `(N,)`, `image_id`.

    Args:
        root: folder with `images/` and `annotations.json` in COCO format; `category_id` is the model's class index as
            it is. Boxes count the pixels in the file, or those of the photo turned upright as its EXIF data say where
            `width` and `height` of `images` are the upright ones.
        batch_size: photos per batch.
        num_workers: processes that read photos.
        limit: only the first so many photos; `None` takes all.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation, likewise.

    Raises:
        ValueError: from `setup`, if `root` does not hold what is expected, or a photo has another size than annotated;
            says what is missing or wrong.

    Example::

        trainer.validate(model, datamodule=CocoPhotos("photos"))
    """

    layout = (
        "Expected a folder with images/ and annotations.json, whose `images` have id and file_name, `annotations` "
        "have image_id, category_id (the class index) and bbox [x, y, width, height], `categories` hold id and name."
    )

    def __init__(
        self,
        root: str | None,
        batch_size: int = 4,
        num_workers: int = 0,
        limit: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(root, batch_size, num_workers, limit, mean=mean, std=std)

    def _chosen(self, count: int) -> Sequence[int]:
        return range(count)[: self.limit]

    def _find(self, root: Path) -> Photos:
        file, folder = root / "annotations.json", root / "images"
        self._check(file, folder)
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
            photos = sorted(content["images"], key=lambda photo: photo["id"])
            found: dict[int, list[dict[str, Any]]] = defaultdict(list)
            for annotation in content["annotations"]:
                found[annotation["image_id"]].append(annotation)
            targets = [_target(photo["id"], found[photo["id"]]) for photo in photos]
            names = {c["id"]: c["name"] for c in content.get("categories", [])}
            paths = [folder / photo["file_name"] for photo in photos]
            sizes = [annotated_size(photo) for photo in photos]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"Could not read {file}: {type(error).__name__} {error}. {self.layout}") from error
        self._check_listed("photos", paths[: self.limit], file)
        return Photos(paths, targets, names, sizes)


def _target(photo: int, annotations: list[dict[str, Any]]) -> dict[str, Tensor]:
    corner_size = torch.tensor([a["bbox"] for a in annotations], dtype=torch.float32).reshape(-1, 4)
    return {
        "boxes": torch.cat([corner_size[:, :2], corner_size[:, :2] + corner_size[:, 2:]], 1),
        "labels": torch.tensor([a["category_id"] for a in annotations], dtype=torch.long),
        "iscrowd": torch.tensor([a.get("iscrowd", 0) for a in annotations], dtype=torch.long),
        "image_id": torch.tensor(photo),
    }
