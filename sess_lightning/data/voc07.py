"""PASCAL VOC 2007, test split: the photos of the pointing game."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
from torch import Tensor
from torchvision.datasets import VOCDetection

from sess_lightning.data.base import PhotoData, Photos
from sess_lightning.data.box_checks import BoxChecks, annotated_size, box_tensor, photo_size
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip

_INDEX = {name: index for index, name in enumerate(VOC_CLASSES)}
_OFFICIAL: dict[str, Any] = {"year": "2007", "image_set": "test"}
_FOLDER = Path("VOCdevkit", "VOC2007")
_SPLIT = _FOLDER / "ImageSets" / "Main" / "test.txt"
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class VOC07(PhotoData):
    """The 4952 photos of PASCAL VOC 2007's test split with boxes of 20 classes, for `validate` and `test`.

    A batch is a list of images `(3, H, W)`, normalised, of their own sizes, and a list of detection targets: `boxes`
    `(N, 4)` `(xmin - 1, ymin - 1, xmax, ymax)` of the file, which counts pixels from 1 and includes the last, `labels`
    `(N,)` long, positions in `VOC_CLASSES`, and `difficult` `(N,)` long, 1 for objects that are hard to recognise.
    Objects without a pixel inside their photo are left out, and their number is said.

    Args:
        root: folder with `VOCdevkit/VOC2007/`, as unpacked from the archive.
        download: whether torchvision may download the archive (450 MB) into `root` if the photos are missing.
        batch_size: photos per batch.
        num_workers: number of worker processes that read photos.
        limit: number of photos to use, chosen at random by `seed` and kept in their order; `None` uses all.
        seed: seed of that random choice.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation to normalise with; ImageNet's by default.

    Raises:
        ValueError: from `prepare_data`, if the download fails; from `setup`, if `root` does not have the expected
            layout or an annotation cannot be read.

    Example::

        trainer.validate(model, datamodule=VOC07("voc", download=True))
    """

    layout = (
        "Expected a folder with VOCdevkit/VOC2007/, which holds ImageSets/Main/test.txt, Annotations/NUMBER.xml and "
        "JPEGImages/NUMBER.jpg: what VOCtest_06-Nov-2007.tar unpacks to. VOC07(root, download=True).prepare_data() "
        "fetches it."
    )

    def __init__(
        self,
        root: str | None = None,
        download: bool = False,
        batch_size: int = 4,
        num_workers: int = 0,
        limit: int | None = None,
        seed: int = 0,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__(root, batch_size, num_workers, limit, seed, mean, std)
        self.download = download

    def prepare_data(self) -> None:
        """Download and unpack the archive, once per machine, if `download` is true and the photos are missing."""
        if not self.download or self.root is None or (Path(self.root) / _SPLIT).is_file():
            return
        try:
            VOCDetection(self.root, **_OFFICIAL, download=True)
        except (OSError, RuntimeError) as error:  # no connection, or a wrong checksum
            raise ValueError(
                f"Could not download VOC07 to {self.root}: {type(error).__name__} {error} Get VOCtest_06-Nov-2007.tar "
                "another way and unpack it there."
            ) from error

    def _find(self, root: Path) -> Photos:
        self._check(root / _SPLIT, root / _FOLDER / "Annotations", root / _FOLDER / "JPEGImages")
        voc = VOCDetection(root, **_OFFICIAL)
        paths, annotations = [[Path(file) for file in files] for files in (voc.images, voc.annotations)]
        self._check_listed("photos", paths, root / _SPLIT)
        self._check_listed("annotations", annotations, root / _SPLIT)
        checks = BoxChecks(root / _FOLDER / "Annotations")
        targets = [_target(file, path, checks) for file, path in zip(annotations, paths, strict=True)]
        checks.warn()
        return Photos(paths, targets, dict(enumerate(VOC_CLASSES)))


def _target(file: Path, photo: Path, checks: BoxChecks) -> dict[str, Tensor]:
    """The objects of one annotation file."""
    try:
        root = ElementTree.parse(file).getroot()  # noqa: S314  the user's own file
        content = VOCDetection.parse_voc_xml(root)["annotation"]
        objects = content["object"]
        sides = [[float(one["bndbox"][side]) for side in _SIDES] for one in objects]
        labels = [_INDEX[one["name"]] for one in objects]
        difficult = [int(one.get("difficult", 0)) for one in objects]
        size = annotated_size(content.get("size") or {})
    except (ElementTree.ParseError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"Could not read the annotation {file}: {type(error).__name__} {error}. Expected VOC's XML: an object with "
            f"name (one of the 20 classes), bndbox ({', '.join(_SIDES)}) and difficult for each thing, and a size in "
            "whole pixels if any."
        ) from error
    checks.check_corners(sides, photo.name)
    boxes = box_tensor(sides) - torch.tensor([1.0, 1.0, 0.0, 0.0])  # the file counts from 1 and includes the last
    seen = checks.visible(boxes, size or photo_size(photo), photo.name)
    return {
        "boxes": boxes[seen],
        "labels": torch.tensor(labels, dtype=torch.long)[seen],
        "difficult": torch.tensor(difficult, dtype=torch.long)[seen],
    }
