"""Data to watch a classifier on: drawn shapes that need no download, and folders of photos with boxes."""

from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.data.photos import CocoPhotos
from sess_lightning.data.shapes import ShapeScenes

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "CocoPhotos", "ShapeScenes"]
