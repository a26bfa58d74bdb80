"""Data to watch a classifier on, as LightningDataModules."""

from sess_lightning.data.photos import CocoPhotos

__all__ = ["CocoPhotos"]
