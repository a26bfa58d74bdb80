"""Networks and data that the tests of the metrics share."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"


def golden_net():
    """The network of tests/golden/metrics: five logits, any image size."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 5),
    )  # fmt: skip
    net.load_state_dict({key: torch.from_numpy(value) for key, value in np.load(GOLDEN / "net.npz").items()})
    return net.eval()
