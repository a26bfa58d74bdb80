"""MS COCO 2014, validation split: photos with masks of 80 classes."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sess_lightning.data.base import PhotoData, Photos
from sess_lightning.data.box_checks import BoxChecks, annotated_size, box_tensor

_NEEDED = ("category_id", "bbox", "segmentation")


class COCO14(PhotoData):
    """The 40504 photos of MS COCO's val2014 with masks of 80 classes, for `validate` and `test`.

    A batch is a list of images `(3, H, W)`, normalised, of their own sizes, and a list of detection targets: `masks`
    `(N, H, W)` bool, `boxes` `(N, 4)` xyxy in pixels, `labels` `(N,)` long, positions in the ordered list of the
    category ids, which has gaps, `iscrowd` `(N,)` long, and `image_id`. Photos without annotations stay in, with empty
    targets; objects whose box has no pixel inside its photo are left out, and their number is said. Masks are drawn
    when their photo is read. Needs pycocotools.

    Args:
        root: folder with `val2014/` and `annotations/instances_val2014.json`.
        batch_size: photos per batch.
        num_workers: number of worker processes that read photos.
        limit: number of photos to use, chosen at random by `seed` and kept in their order; `None` uses all.
        seed: seed of that random choice.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation to normalise with; ImageNet's by default.

    Raises:
        ModuleNotFoundError: from `setup`, without pycocotools.
        ValueError: from `setup`, if `root` does not have the expected layout.

    Example::

        trainer.validate(model, datamodule=COCO14("coco", limit=500))
    """

    layout = (
        "Expected a folder with val2014/*.jpg and annotations/instances_val2014.json: what val2014.zip and "
        "annotations_trainval2014.zip of cocodataset.org unpack to."
    )

    def _find(self, root: Path) -> Photos:
        if find_spec("pycocotools") is None:
            raise ModuleNotFoundError(
                "COCO14 reads masks with pycocotools. Install it with pip install 'sess-lightning[benchmark]'."
            )
        folder, file = root / "val2014", root / "annotations" / "instances_val2014.json"
        self._check(file, folder)
        coco = self._read(file)
        checks = BoxChecks(file)
        annotations = _checked(coco, checks)
        checks.warn()
        numbers = sorted(coco.imgs)
        paths = [folder / coco.imgs[number]["file_name"] for number in numbers]
        self._check_listed("photos", paths, file)
        categories = sorted(coco.cats)
        names = {index: coco.cats[category]["name"] for index, category in enumerate(categories)}
        labels = {category: index for index, category in enumerate(categories)}
        sizes = [annotated_size(coco.imgs[number]) for number in numbers]
        return Photos(paths, _Objects(coco, numbers, labels, annotations), names, sizes)

    def _read(self, file: Path) -> Any:
        from pycocotools.coco import COCO

        try:
            coco = COCO()
            # Not by COCO(file), which opens it in the platform's encoding.
            coco.dataset = json.loads(file.read_text(encoding="utf-8-sig"))
            if not isinstance(coco.dataset, dict):
                raise TypeError(f"a {type(coco.dataset).__name__} at the top")
            with redirect_stdout(io.StringIO()):  # it prints how far it is
                coco.createIndex()
            if not coco.imgs or not coco.cats:
                raise KeyError("images or categories")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"Could not read {file}: {type(error).__name__} {error}. {self.layout}") from error
        for number, annotation in coco.anns.items():
            missing = [key for key in _NEEDED if key not in annotation]
            if missing:
                raise ValueError(f"Annotation {number} in {file} has no {missing[0]}. {self.layout}")
        return coco


def _checked(coco: Any, checks: BoxChecks) -> dict[int, list[dict[str, Any]]]:
    """The annotations of each photo whose box has a pixel inside it, crowds too."""
    found = {}
    for number, photo in coco.imgs.items():
        name, boxed = str(photo["file_name"]), []
        for one in coco.imgToAnns[number]:
            if one["category_id"] not in coco.cats:
                raise checks.error(
                    name, f"expected category_id to be one of `categories`, but got {one['category_id']!r}"
                )
            box = checks.corners(one["bbox"], name)
            boxed += [] if box is None else [(one, box)]
        seen = checks.visible(box_tensor([box for _, box in boxed]), (photo["height"], photo["width"]), name).tolist()
        found[number] = [one for (one, _), ok in zip(boxed, seen, strict=True) if ok]
    checks.strange(sum(len(annotations) for photo, annotations in coco.imgToAnns.items() if photo not in coco.imgs))
    return found


@dataclass
class _Objects:
    """Detection targets, built on access: all masks of val2014 together would take 90 GB."""

    coco: Any
    photos: list[int]
    labels: dict[int, int]  # by category id
    annotations: dict[int, list[dict[str, Any]]]  # by photo, crowds too

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        photo = self.photos[index]
        size = (self.coco.imgs[photo]["height"], self.coco.imgs[photo]["width"])
        found = self.annotations[photo]
        corner_size = box_tensor([one["bbox"] for one in found])
        masks = [self.coco.annToMask(one) for one in found]
        return {
            "masks": torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *size)),
            "boxes": torch.cat([corner_size[:, :2], corner_size[:, :2] + corner_size[:, 2:]], 1),
            "labels": torch.tensor([self.labels[one["category_id"]] for one in found], dtype=torch.long),
            "iscrowd": torch.tensor([one.get("iscrowd", 0) for one in found], dtype=torch.long),
            "image_id": torch.tensor(photo),
        }
