"""ShapeScenes: a synthetic data set with boxes, generated on the fly from a seed.

The scenes contain the difficulties that SESS addresses: objects over a wide range of sizes, several instances, and
clutter and texture that belong to no class. Training scenes have the input size of the classifier. Validation scenes
are two to three times as large, so that the objects are small in them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sess_lightning.checks import check_choice
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.data.shapes.cues import CUES, Cue
from sess_lightning.data.shapes.outlines import CLASSES
from sess_lightning.data.shapes.scenes import Scene, draw_scene

TRAIN_SIZES = (0.16, 0.92)
"""Smallest and largest object of a training scene, as fractions of the window: 10 to 59 pixels for a window of 64."""

SCENE_SIZES = (0.22, 0.70)
"""Smallest and largest object of a validation or test scene, as fractions of the window: 14 to 45 pixels for 64."""

_SPLITS = {"train": 0, "val": 1, "test": 2}
_CUES = 1  # of the stream of random numbers that cues are drawn from
_CACHE_BYTES = 2**29  # cache of drawn scenes, 0.5 GiB: about 40,000 training scenes of 64 x 64

Target = dict[str, Tensor]


class SceneDataset(Dataset[Scene]):
    """The scenes of one split. Scene `i` is a function of the seed, the split and `i` only.

    Drawn scenes are cached, so that only the first epoch draws them. Each worker process has a cache of its own.

    Args:
        split: `"train"`, `"val"` or `"test"`; the splits use independent random streams.
        size: number of scenes.
        shape: height and width of a scene in pixels.
        sizes: size of the smallest and the largest object in pixels.
        num_classes: number of classes; scene `i` has class `i % num_classes`, so that all are equally frequent.
        seed: seed of the scenes.
        shortcut: kind of a planted shortcut, or `None`.
        strength: share of the scenes whose cue is that of their class; the others have one drawn from all classes.
    """

    def __init__(
        self,
        split: str,
        size: int,
        shape: tuple[int, int],
        sizes: tuple[float, float],
        num_classes: int,
        seed: int,
        shortcut: str | None = None,
        strength: float = 0.0,
    ) -> None:
        self.split, self.size, self.shape, self.sizes = split, size, shape, sizes
        self.num_classes, self.seed = num_classes, seed
        self.shortcut, self.strength = shortcut, strength
        self._drawn: dict[int, Scene] = {}
        self._keep = size * shape[0] * shape[1] * 3 <= _CACHE_BYTES

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.size:
            raise IndexError(f"Expected an index in [0, {self.size}), but got {index}.")
        scene = self._drawn.get(index)
        if scene is None:
            rng = np.random.default_rng([self.seed, _SPLITS[self.split], index])
            scene = draw_scene(rng, index % self.num_classes, self.shape, self.sizes, cue=self._cue(index))
            if self._keep:
                self._drawn[index] = scene
        return scene

    def _cue(self, index: int) -> Cue | None:
        """The cue of a scene, from a stream of random numbers of its own."""
        if self.shortcut is None:
            return None
        rng = np.random.default_rng([self.seed, _SPLITS[self.split], index, _CUES])
        variant = int(rng.integers(self.num_classes))
        return Cue(self.shortcut, index % self.num_classes if rng.random() < self.strength else variant)


class ShapeScenes(LightningDataModule):
    """Synthetic classification task with boxes: shapes of one class among clutter. Needs no files.

    The classes are the first `num_classes` of disc, square, triangle, star, cross, ring, arrow and heart. A scene
    contains one to three objects of one class, each in a colour with a minimum contrast to the background
    (`drawing.MIN_CONTRAST`), shapes that belong to no class (crescents, arcs, shards, bars) and textured patches.

    A training batch is `(images, labels)`: `(B, 3, window, window)` float32, normalised, and `(B,)` long. A validation
    or test batch is `(images, targets)`: `(B, 3, H, W)` float32 and for each image a detection target with `boxes`
    `(N, 4)` float xyxy in pixels (x2 and y2 exclusive, tight around the object), `labels` `(N,)` long, and `label`,
    the class of the scene, a long scalar.

    Args:
        num_classes: 2 to 8; 6 by default, which a small network learns in about a minute.
        train_size: number of training scenes.
        val_size: number of validation scenes, and of test scenes.
        window: side of the training scenes in pixels, at least 32; below that the smallest shapes look alike.
        scene_size: side of the validation and test scenes in pixels, or `(height, width)`, at least `window`; two to
            three windows make the objects small. `None` means 2.5 windows.
        seed: seed of the scenes and of the training order.
        batch_size: scenes per batch.
        num_workers: number of worker processes; 0 by default, as a scene takes 1 to 2 ms and is drawn only once.
        mean: per-channel mean to normalise with; ImageNet's by default, which is also the default of `SESSCallback`.
        std: per-channel standard deviation to normalise with; ImageNet's by default.
        shortcut: plants a shortcut, to try what notices it: `"mark"`, a coloured mark in a corner, `"background"`, the
            tint of the background, `"texture"`, its stripes, or `"colour"`, that of the objects; each class has a
            variant. There are two validation loaders then: scenes in which the cue goes with the class as in training,
            and the same scenes with the cues of random classes, of which accuracy tells what the network knows of
            the objects. Test scenes are as the second. `None`, the default, plants none.
        shortcut_strength: share of the scenes, in [0, 1], whose cue is that of their class; the others have that of a
            random class.

    Raises:
        ValueError: if an argument is out of range; the message names it and the range.

    Example:
        >>> data = ShapeScenes(train_size=8, val_size=4, batch_size=4)
        >>> images, labels = next(iter(data.train_dataloader()))
        >>> images.shape, labels.dtype
        (torch.Size([4, 3, 64, 64]), torch.int64)
        >>> images, targets = next(iter(data.val_dataloader()))
        >>> images.shape, sorted(targets[0])
        (torch.Size([4, 3, 160, 160]), ['boxes', 'label', 'labels'])
        >>> data.class_names[int(targets[0]["label"])]
        'disc'
    """

    def __init__(
        self,
        num_classes: int = 6,
        train_size: int = 5120,
        val_size: int = 192,
        window: int = 64,
        scene_size: int | tuple[int, int] | None = None,
        seed: int = 0,
        batch_size: int = 64,
        num_workers: int = 0,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
        shortcut: str | None = None,
        shortcut_strength: float = 1.0,
    ) -> None:
        _check_range("num_classes", num_classes, 2, len(CLASSES))
        _check_range("window", window, 32)
        for name, value in (("train_size", train_size), ("val_size", val_size), ("batch_size", batch_size)):
            _check_range(name, value, 1)
        _check_range("seed", seed, 0)
        if shortcut is not None:
            check_choice("shortcut", shortcut, CUES)
        if not 0 <= shortcut_strength <= 1:
            raise ValueError(f"Expected argument `shortcut_strength` to be in [0, 1], but got {shortcut_strength}.")
        super().__init__()
        if scene_size is None:
            scene_size = window * 5 // 2
        height, width = (scene_size, scene_size) if isinstance(scene_size, int) else scene_size
        _check_range("scene_size", min(height, width), window)
        self.num_classes, self.window, self.scene_shape, self.seed = num_classes, window, (height, width), seed
        self.batch_size, self.num_workers = batch_size, num_workers
        self.mean, self.std = tuple(mean), tuple(std)
        self.class_names = list(CLASSES)[:num_classes]
        self.shortcut, self.shortcut_strength = shortcut, shortcut_strength
        self.train_scenes = self._scenes("train", train_size, (window, window), TRAIN_SIZES, shortcut_strength)
        self.val_scenes = self._scenes("val", val_size, self.scene_shape, SCENE_SIZES, shortcut_strength)
        self.val_scenes_without = self._scenes("val", val_size, self.scene_shape, SCENE_SIZES, 0.0)
        self.test_scenes = self._scenes("test", val_size, self.scene_shape, SCENE_SIZES, 0.0)

    def train_dataloader(self) -> DataLoader[Scene]:
        """Returns a loader of the training scenes, shuffled by its own generator so that `seed` fixes the order."""
        shuffler = torch.Generator().manual_seed(self.seed)
        return self._loader(self.train_scenes, self._collate_labels, shuffle=True, drop_last=True, generator=shuffler)

    def val_dataloader(self) -> DataLoader[Scene] | list[DataLoader[Scene]]:
        """Returns a loader of the validation scenes in a fixed order; with `shortcut` two, the second without it."""
        first = self._loader(self.val_scenes, self._collate_targets)
        return first if self.shortcut is None else [first, self._loader(self.val_scenes_without, self._collate_targets)]

    def test_dataloader(self) -> DataLoader[Scene]:
        """Returns a loader of the test scenes in a fixed order; they differ from the validation scenes."""
        return self._loader(self.test_scenes, self._collate_targets)

    def _scenes(
        self, split: str, size: int, shape: tuple[int, int], shares: tuple[float, float], strength: float
    ) -> SceneDataset:
        sizes = (shares[0] * self.window, shares[1] * self.window)
        return SceneDataset(split, size, shape, sizes, self.num_classes, self.seed, self.shortcut, strength)

    def _loader(self, scenes: SceneDataset, collate: Any, **options: Any) -> DataLoader[Scene]:
        return DataLoader(
            scenes,
            self.batch_size,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,  # a worker that ends loses its cache
            collate_fn=collate,
            **options,
        )

    def _collate_labels(self, scenes: list[Scene]) -> tuple[Tensor, Tensor]:
        return self._images(scenes), torch.tensor([scene.label for scene in scenes])

    def _collate_targets(self, scenes: list[Scene]) -> tuple[Tensor, list[Target]]:
        return self._images(scenes), [_target(scene) for scene in scenes]

    def _images(self, scenes: list[Scene]) -> Tensor:
        """Returns the normalised images `(B, 3, H, W)` float32."""
        pixels = torch.from_numpy(np.stack([scene.image for scene in scenes])).permute(0, 3, 1, 2)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return ((pixels.float() / 255 - mean) / std).contiguous()


def _target(scene: Scene) -> Target:
    """Returns the detection target of a scene in torchvision's format, with its class as `label`."""
    return {
        "boxes": torch.from_numpy(scene.boxes).float(),
        "labels": torch.full((len(scene.boxes),), scene.label),
        "label": torch.tensor(scene.label),
    }


def _check_range(name: str, value: int, low: int, high: int | None = None) -> None:
    if value < low or (high is not None and value > high):
        wanted = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"Expected argument `{name}` to be {wanted}, but got {value}.")
