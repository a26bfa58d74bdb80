"""ImageNet (ILSVRC 2012), validation split: photos with one label each."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.models import ResNet50_Weights

from sess_lightning.data.base import PhotoData, Photos, Sample

_CLASSES = 1000


class ImageNet(PhotoData):
    """The 50000 photos of ImageNet's validation split, for `validate` and `test`.

    A batch is a list of normalised images `(3, H, W)` of different sizes and their labels `(B,)` long. A label is the
    position of the class folder in sorted order; with all 1000 folders this is the class order of torchvision's
    networks. There are no boxes.

    Args:
        root: folder with `val/WNID/*.JPEG`, one folder per class.
        batch_size: photos per batch.
        num_workers: number of worker processes that read photos.
        limit: number of photos to use, chosen at random by `seed` and kept in their order; `None` uses all.
        seed: seed of that random choice.
        mean: per-channel mean to normalise with; ImageNet's by default, as torchvision's models expect.
        std: per-channel standard deviation to normalise with; ImageNet's by default.

    Raises:
        ValueError: from `setup`, if `root` does not have the expected layout.

    Example::

        trainer.validate(model, datamodule=ImageNet("imagenet", limit=5000, seed=0))
    """

    layout = (
        "Expected a folder with val/, which holds a folder a class with its photos, e.g. "
        "val/n01440764/ILSVRC2012_val_00000293.JPEG. ILSVRC2012_img_val.tar holds them without those folders; "
        "docs/data.md says how to sort them."
    )

    @staticmethod
    def collate(samples: list[Sample]) -> tuple[list[Tensor], Any]:
        """Collates samples into a list of images and their labels `(B,)`."""
        return [image for image, _ in samples], torch.stack([target["label"] for _, target in samples])

    def _find(self, root: Path) -> Photos:
        folder = root / "val"
        self._check(folder)
        try:
            found = ImageFolder(str(folder))
        except FileNotFoundError as error:  # there are no class folders, or one is empty
            raise ValueError(f"{error} {self.layout}") from error
        strange = [name for name in found.classes if not re.fullmatch(r"n\d{8}", name)]
        if strange:
            raise ValueError(
                f"Expected only class folders in {folder}, as a label is a folder's position, but found {strange[0]}. "
                f"{self.layout}"
            )
        names = found.classes
        if len(names) == _CLASSES:
            names = ResNet50_Weights.DEFAULT.meta["categories"]
        else:
            warnings.warn(
                f"{folder} holds {len(names)} of ImageNet's {_CLASSES} classes: labels are positions among these, and "
                "fit only a network that was trained on them.",
                stacklevel=2,
            )
        labels = [{"label": torch.tensor(label)} for label in range(len(names))]
        targets = [labels[label] for label in found.targets]
        return Photos([Path(path) for path, _ in found.samples], targets, dict(enumerate(names)))
