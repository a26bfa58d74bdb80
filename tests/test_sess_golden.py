"""SESS against the published implementation, on the drawn images of tests/golden/sess_synthetic."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sess_lightning import SESS
from sess_lightning.saliency import GradCAM

FOLDER = Path(__file__).parent / "golden" / "sess_synthetic"
CASES = sorted(path.stem for path in FOLDER.glob("gradcam_*.npz"))
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def net():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 7, 4, 3), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip
    model.load_state_dict({k: torch.from_numpy(v) for k, v in np.load(FOLDER / "net.npz").items()})
    return model


def normalised(image):
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    return (pixels - MEAN[:, None, None]) / STD[:, None, None]


def sess_of(case):
    return SESS(
        method=GradCAM(str(case["layer"])),
        num_scales=int(case["num_scales"]),
        step_size=int(case["step"]),
        prefilter_ratio=float(case["prefilter_ratio"]),
        threshold=float(case["theta"]),
        pool=str(case["pool"]),
        smooth=bool(case["smooth"]),
        minmax=False,
    )


@pytest.mark.parametrize("name", CASES)
def test_equals_the_published_implementation(net, name):
    case = np.load(FOLDER / f"{name}.npz")
    result = sess_of(case)(net, normalised(case["image"])[None], torch.tensor([int(case["class_idx"])]))
    np.testing.assert_array_equal(result.windows[0].numpy(), case["windows"])
    np.testing.assert_allclose(result.scores[0].numpy(), case["scores"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(result.maps[0].numpy(), case["map"], rtol=0, atol=1e-5)


def test_all_cases_are_there():
    assert len(CASES) == 10
