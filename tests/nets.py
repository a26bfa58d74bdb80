"""Small networks with random weights for the tests."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

METRICS_GOLDEN = Path(__file__).parent / "golden" / "metrics"


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


def golden_net():
    """The network of tests/golden/metrics: five logits, any image size."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5),
    )  # fmt: skip
    net.load_state_dict({key: torch.from_numpy(value) for key, value in np.load(METRICS_GOLDEN / "net.npz").items()})
    return net.eval()
