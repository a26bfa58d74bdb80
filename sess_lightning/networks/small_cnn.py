"""`small_cnn`: a network for pictures of 64 x 64 that learns `ShapeScenes` in about a minute on two CPU cores."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

_LAYERS = ((16, 2), (32, 1), (64, 2), (64, 1), (96, 2), (128, 1))  # channels and stride of each 3 x 3 convolution


def small_cnn(num_classes: int) -> nn.Sequential:
    """Six convolutions with batch norm and ReLU, global average pooling, one linear layer.

    The last convolution gives a grid of 8 x 8 for an image of 64 x 64, which is fine enough for Grad-CAM. With average
    pooling before a single linear layer, a class score is a sum over the positions of the grid, as class activation
    maps assume.

    Args:
        num_classes: number of logits.

    Returns:
        The network: `(N, 3, H, W)`, H and W at least 8, to logits `(N, num_classes)`. Its two modules are `features`
        and `head`.

    Example:
        >>> import torch
        >>> network = small_cnn(6)
        >>> network(torch.rand(2, 3, 64, 64)).shape, network.features(torch.rand(2, 3, 64, 64)).shape
        (torch.Size([2, 6]), torch.Size([2, 128, 8, 8]))
    """
    channels = 3
    blocks = []
    for width, stride in _LAYERS:
        blocks.append(_block(channels, width, stride))
        channels = width
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
    return nn.Sequential(OrderedDict(features=nn.Sequential(*blocks), head=head))


def _block(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
