"""A folder of photos with boxes in COCO format, each photo at its own resolution."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sess_lightning.data.base import PhotoData, Photos
from sess_lightning.data.box_checks import BoxChecks, annotated_size, as_number, box_tensor, photo_size
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD


class CocoPhotos(PhotoData):
    """Photos with boxes, for `validate` and `test`.

    A batch is a list of images `(3, H, W)`, normalised, of their own sizes, and a list of detection targets: `boxes`
    `(N, 4)` xyxy in pixels, `labels` `(N,)` long, `iscrowd` `(N,)`, `image_id` (the position of the photo where ids are
    words). Objects without a pixel inside their photo are left out, and their number is said.

    Args:
        root: folder with `images/` and `annotations.json` in COCO format; `category_id` is used as the model's class
            index. Boxes count the pixels in the file, or those of the photo turned upright as its EXIF data say where
            `width` and `height` of `images` are the upright ones.
        batch_size: photos per batch.
        num_workers: number of worker processes that read photos.
        limit: number of photos to use, from the first on; `None` uses all.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation to normalise with; ImageNet's by default.

    Raises:
        ValueError: from `setup`, if `root` does not hold what is expected; says what is missing, which photo's
            annotation is malformed or of no class of the model, or which photo has another size than annotated.

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
        checks = BoxChecks(file)
        try:
            content = json.loads(file.read_text(encoding="utf-8-sig"))
            photos = sorted(content["images"], key=lambda photo: _order(photo["id"]))[: self.limit]
            found: dict[Any, list[dict[str, Any]]] = defaultdict(list)
            for annotation in content["annotations"]:
                found[as_number(annotation["image_id"])].append(annotation)
            names = {as_number(c["id"]): c["name"] for c in content.get("categories", [])}
            paths = [folder / photo["file_name"] for photo in photos]
            listed = {as_number(photo["id"]) for photo in content["images"]}
            sizes = [annotated_size(photo) for photo in photos]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"Could not read {file}: {type(error).__name__} {error}. {self.layout}") from error
        if len(listed) < len(content["images"]):
            raise ValueError(f"Could not read {file}: two of its `images` have the same id. {self.layout}")
        self._check_listed("photos", paths, file)
        checks.strange(sum(len(annotations) for photo, annotations in found.items() if photo not in listed))
        reader = _TargetReader(checks, self._num_classes())
        targets = [
            reader.target(number, photo, found[as_number(photo["id"])], path)
            for number, (photo, path) in enumerate(zip(photos, paths, strict=True))
        ]
        checks.warn()
        return Photos(paths, targets, names, sizes)

    def _num_classes(self) -> int | None:
        """How many classes the trainer's model has, where it says so, as `LitClassifier` does."""
        model = getattr(getattr(self, "trainer", None), "lightning_module", None)
        count = None if model is None else model.hparams.get("num_classes")
        return count if isinstance(count, int) else None


@dataclass
class _TargetReader:
    """Detection targets from annotations, checked."""

    checks: BoxChecks
    num_classes: int | None

    def target(
        self, number: int, photo: dict[str, Any], annotations: list[dict[str, Any]], path: Path
    ) -> dict[str, Tensor]:
        """The objects of one photo, the `number`-th."""
        name = str(photo["file_name"])
        corners = [self.checks.corners(one.get("bbox"), name) for one in annotations]
        boxed = [(one, box) for one, box in zip(annotations, corners, strict=True) if box is not None]
        boxes = box_tensor([box for _, box in boxed])
        labels = torch.tensor([self._label(one, name) for one, _ in boxed], dtype=torch.long)
        crowds = torch.tensor([int(one.get("iscrowd") or 0) for one, _ in boxed], dtype=torch.long)
        size = (annotated_size(photo) or photo_size(path)) if boxed else None
        seen = self.checks.visible(boxes, size, name)
        known = as_number(photo["id"])
        image_id = torch.tensor(known if isinstance(known, int) else number)
        return {"boxes": boxes[seen], "labels": labels[seen], "iscrowd": crowds[seen], "image_id": image_id}

    def _label(self, annotation: dict[str, Any], photo: str) -> int:
        label = as_number(annotation.get("category_id"))
        if not isinstance(label, int) or label < 0:
            raise self.checks.error(photo, f"expected category_id to be the index of a class, but got {label!r}")
        if self.num_classes is not None and label >= self.num_classes:
            raise self.checks.error(
                photo,
                f"expected category_id to be a class of the model, 0..{self.num_classes - 1}, but got {label}; ids "
                "that count from 1 or leave gaps need renumbering",
            )
        return label


def _order(photo_id: Any) -> tuple[bool, Any]:
    """Numbers in their order, then words."""
    number = as_number(photo_id)
    return isinstance(number, str), number
