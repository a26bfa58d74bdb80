"""Small networks with random weights for the tests."""

import torch
from torch import nn


def small_cnn(num_classes=4, channels=3, inplace=False, norm=True):
    """Two convolutions, any input size, one output per class."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8) if norm else nn.Identity(),
            nn.ReLU(inplace=inplace),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(inplace=inplace),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes),
        )  # fmt: skip


def seeded(seed, *shape):
    """Random normal tensor that leaves the global generator alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
