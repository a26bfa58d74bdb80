"""The network and the photos of the studies, which are not part of the project: the environment names their folder."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from sess_lightning.benchmark.insertion_deletion import centre_crop
from sess_lightning.networks import load_network
from sess_lightning.probing import probe


def network_and_photos(count: int, size: int = 224) -> tuple[nn.Module, Tensor, Tensor]:
    """MobileNetV2, the first `count` photos of `imagenet_samples` as crops `(N, 3, size, size)`, the classes predicted.

    SESS_REAL_DATA names a folder with `mobilenet_v2.pth` and `imagenet_samples/images`.
    """
    folder = Path(os.environ["SESS_REAL_DATA"])
    network = load_network("mobilenet_v2", str(folder / "mobilenet_v2.pth"))
    files = sorted((folder / "imagenet_samples" / "images").iterdir())[:count]
    pictures = [TF.pil_to_tensor(Image.open(file).convert("RGB")).float() / 255 for file in files]
    crops = torch.stack(
        [centre_crop(TF.normalize(one, list(network.mean), list(network.std)), size) for one in pictures]
    )
    model = network.module.eval()
    with probe(model):
        targets = torch.cat([model(some.clone()).argmax(1) for some in crops.split(4)])
    return model, crops, targets


def mean_colour(images: Tensor) -> Tensor:
    """A baseline: the mean colour of each image."""
    return images.mean((2, 3), keepdim=True)
