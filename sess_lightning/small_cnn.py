"""A small convolutional network that learns the embedded data in about a minute on two CPU cores."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


def small_cnn(num_classes: int) -> nn.Sequential:
    """Five convolutions to an 8 x 8 grid for 64 x 64 pixels, then global average pooling.

    The grid is kept that fine because a class activation map has its resolution.

    Args:
        num_classes: outputs.
    """
    features = nn.Sequential(_block(3, 24, 2), _block(24, 32), _block(32, 64, 2), _block(64, 64, 2), _block(64, 96))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, num_classes))
    return nn.Sequential(OrderedDict(features=features, head=head))


def _block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )
