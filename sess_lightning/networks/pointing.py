"""The pointing game's networks: VGG16 and ResNet-50 as in Caffe, for the weights that TorchRay publishes.

Both are fully convolutional, with multi-label heads of 20 (VOC) or 80 (COCO) classes, and give logits `(N, K, 1, 1)`
for images of 224 x 224. The modules are named as in torchvision, except the classifier, which is `head`: by that name
weights of these modules are distinguished from a published file, whose shapes and order of colours are Caffe's.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping

import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

from sess_lightning.data.voc07 import VOC_CLASSES

POINTING_SIDE = 224
_VGG_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and number of convolutions
_VGG_GRID = 7  # side of the last features, which the first layer of the head covers
_VGG_SMALLEST = 193  # smallest side that five poolings, rounding up, reduce to that grid

# Names of modules: in the published files, and in the networks here.
_HEADS = {"classifier.0": "head.0", "classifier.2": "head.3", "classifier.4": "head.6", "fc": "head"}
_FIRST = ("features.0", "conv1")
_CAFFE_NORM = re.compile(r"(bn\d|downsample\.\d)\.[01]\.(\w+)$")


class _PointingVGG16(nn.Sequential):
    def forward(self, images: Tensor) -> Tensor:
        if min(images.shape[-2:]) < _VGG_SMALLEST:
            raise ValueError(
                f"Expected images of at least {_VGG_SMALLEST} x {_VGG_SMALLEST} pixels for pointing_vgg16, whose head "
                f"reads a grid of {_VGG_GRID} x {_VGG_GRID}, but got {images.shape[-2]} x {images.shape[-1]}. Use "
                f"windows of {POINTING_SIDE}."
            )
        return super().forward(images)


class _GridConv2d(nn.Conv2d):
    """A convolution, computed as a linear layer where its kernel covers the whole grid: many times faster on a CPU."""

    def forward(self, grid: Tensor) -> Tensor:
        if grid.shape[-2:] != self.weight.shape[-2:]:
            return super().forward(grid)
        return F.linear(grid.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]


def pointing_vgg16(num_classes: int = len(VOC_CLASSES)) -> nn.Sequential:
    """VGG16 without batch norm, with pooling that rounds up and convolutions instead of linear layers.

    Args:
        num_classes: number of logits.

    Returns:
        The network: `(N, 3, 224, 224)` to logits `(N, num_classes, 1, 1)`; larger images give a map of logits.

    Raises:
        ValueError: when called with images of fewer than 193 pixels.
    """
    channels = 3
    features: list[nn.Module] = []
    for width, depth in _VGG_BLOCKS:
        for _ in range(depth):
            features += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        features.append(nn.MaxPool2d(2, ceil_mode=True))
    head = nn.Sequential(
        _GridConv2d(channels, 4096, _VGG_GRID), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Conv2d(4096, 4096, 1), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Conv2d(4096, num_classes, 1),
    )  # fmt: skip
    return _PointingVGG16(OrderedDict(features=nn.Sequential(*features), head=head))


def pointing_resnet50(num_classes: int = len(VOC_CLASSES)) -> nn.Sequential:
    """ResNet-50 as in Caffe: a bias in `conv1`, pooling that rounds up, strides on the blocks' first convolution.

    Args:
        num_classes: number of logits.

    Returns:
        The network: `(N, 3, H, W)` to logits `(N, num_classes, 1, 1)`, of the average over the last grid.
    """
    network = torchvision.models.resnet50(num_classes=1)
    network.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
    network.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    for layer in (network.layer2, network.layer3, network.layer4):
        layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)
    parts = OrderedDict(network.named_children())
    features = parts.pop("fc").in_features
    return nn.Sequential(OrderedDict(parts, head=nn.Conv2d(features, num_classes, 1)))


POINTING_NETWORKS = {"pointing_vgg16": pointing_vgg16, "pointing_resnet50": pointing_resnet50}


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert a published file to the names, shapes and order of colours of the networks here.

    Published are `vgg16_voc-b050e8c3.pth.tar`, `vgg16_coco-d82c8150.pth.tar`, `resnet50_voc-9ca920d6.pth.tar` and
    `resnet50_coco-e99468c5.pth.tar`. VGG16's linear layers are `classifier.0`, `.2` and `.4` there, ResNet-50's is
    `fc`; statistics and scale of its batch norms are modules `.0` and `.1` of their own; the first convolution takes
    blue, green, red (as TorchRay's `benchmark/models.py` reads them). A state_dict of the networks here is returned
    unchanged.

    Args:
        state: tensors by name.
    """
    if "fc.weight" not in state and "classifier.0.weight" not in state:
        return dict(state)
    found = {}
    for key, value in state.items():
        # Batch norms: `bn1.0.running_mean` and `bn1.1.weight` become `bn1.running_mean` and `bn1.weight`.
        module, _, kind = _CAFFE_NORM.sub(r"\1.\2", key).rpartition(".")
        if kind == "weight" and module in _FIRST:
            value = value.flip(1)  # blue, green, red to red, green, blue
        elif kind == "weight" and module in _HEADS:
            value = _as_convolution(value, _VGG_GRID if module == "classifier.0" else 1)
        found[f"{_HEADS.get(module, module)}.{kind}"] = value
    return found


def label_names(num_classes: int) -> Mapping[int, str] | None:
    """Returns the names of VOC's 20 classes or COCO's 80, or `None` for another number.

    Example:
        >>> label_names(20)[11], label_names(80)[0], label_names(80)[79], label_names(3)
        ('dog', 'person', 'toothbrush', None)
    """
    coco = [
        name
        for name in FasterRCNN_ResNet50_FPN_Weights.DEFAULT.meta["categories"]
        if name not in ("__background__", "N/A")  # torchvision keeps the unused indices of COCO
    ]
    names = {len(names): names for names in (VOC_CLASSES, coco)}.get(num_classes)
    return None if names is None else dict(enumerate(names))


def _as_convolution(weight: Tensor, side: int) -> Tensor:
    """Reshape the weight of a linear layer over a flattened grid to that of a convolution as large as the grid."""
    flat = weight.flatten(1)
    if flat.shape[1] % (side * side):
        return weight  # of another network: `load_state_dict` reports the shape
    return flat.unflatten(1, (-1, side, side))
