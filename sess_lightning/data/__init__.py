"""Data modules: synthetic shapes (no download), folders of photos, and the data sets of the paper."""

from sess_lightning.data.coco14 import COCO14
from sess_lightning.data.coco_photos import CocoPhotos
from sess_lightning.data.imagenet import ImageNet
from sess_lightning.data.normalisation import CAFFE_MEAN, CAFFE_STD, IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.data.photo_folder import PhotoFolder
from sess_lightning.data.saved_maps import SavedMap, SavedMaps
from sess_lightning.data.shapes import ShapeScenes
from sess_lightning.data.voc07 import VOC07

__all__ = [
    "CAFFE_MEAN",
    "CAFFE_STD",
    "COCO14",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "VOC07",
    "CocoPhotos",
    "ImageNet",
    "PhotoFolder",
    "SavedMap",
    "SavedMaps",
    "ShapeScenes",
]
