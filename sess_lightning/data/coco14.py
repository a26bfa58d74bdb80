"""MS COCO 2014, validation split: photos with the masks of 80 classes."""

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

from sess_lightning.data.base import PhotoData, Photos, annotated_size

_NEEDED = ("category_id", "bbox", "segmentation")


class COCO14(PhotoData):
    """The 40504 photos of MS COCO's val2014, with the masks of 80 classes, for `validate` and `test`.

    A batch is a list of images `(3, H, W)`, normalised, of their own sizes, and a list of detection targets: `masks`
    `(N, H, W)` bool, `boxes` `(N, 4)` xyxy in pixels, `labels` `(N,)` long, positions in the ordered list of the
    category ids, which has gaps, `iscrowd` `(N,)` long, and `image_id`. Photos without annotations stay in, with empty
    targets. Masks are drawn when their photo is read. Needs pycocotools.

    Args:
        root: folder with `val2014/` and `annotations/instances_val2014.json`.
        batch_size: photos per batch.
        num_workers: processes that read photos.
        limit: so many photos, chosen by `seed`, in their order; `None` takes all.
        seed: of the choice.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation, likewise.

    Raises:
        ModuleNotFoundError: from `setup`, without pycocotools.
        ValueError: from `setup`, if `root` does not hold what is expected.

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
        numbers = sorted(coco.imgs)
        paths = [folder / coco.imgs[number]["file_name"] for number in numbers]
        self._check_listed("photos", paths, file)
        categories = sorted(coco.cats)
        names = {index: coco.cats[category]["name"] for index, category in enumerate(categories)}
        objects = _Objects(coco, numbers, {c: index for index, c in enumerate(categories)})
        return Photos(paths, objects, names, [annotated_size(coco.imgs[number]) for number in numbers])

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


@dataclass
class _Objects:
    """What is in each photo, drawn when it is asked for: all masks of val2014 would fill 90 GB."""

    coco: Any
    photos: list[int]
    labels: dict[int, int]  # by category id

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        photo = self.photos[index]
        size = (self.coco.imgs[photo]["height"], self.coco.imgs[photo]["width"])
        found = self.coco.imgToAnns[photo]  # crowds too
        corner_size = torch.tensor([one["bbox"] for one in found], dtype=torch.float32).reshape(-1, 4)
        masks = [self.coco.annToMask(one) for one in found]
        return {
            "masks": torch.from_numpy(np.array(masks, dtype=bool).reshape(-1, *size)),
            "boxes": torch.cat([corner_size[:, :2], corner_size[:, :2] + corner_size[:, 2:]], 1),
            "labels": torch.tensor([self.labels[one["category_id"]] for one in found], dtype=torch.long),
            "iscrowd": torch.tensor([one.get("iscrowd", 0) for one in found], dtype=torch.long),
            "image_id": torch.tensor(photo),
        }
