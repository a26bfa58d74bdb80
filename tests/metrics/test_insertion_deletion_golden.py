"""Insertion and deletion against the published implementations (Group-CAM and RISE), run on tests/golden/metrics."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sess_lightning.metrics import DeletionAUC, InsertionAUC, area_under_curve, perturbation_curve
from sess_lightning.metrics.baselines import BaselineChoice, gkern_profile
from tests.helpers.nets import golden_net

FOLDER = Path(__file__).parents[1] / "golden" / "metrics"
NAMES = ("sq224", "rect48x72", "rect80x40", "const64", "ties64", "nan64", "sparse64")
MODES = {"ins": "insertion", "del": "deletion"}
FIELD = re.compile(r"(rise|groupcam)_(ins|del)_step(\d+)_(?:(top|c\d)_)?stable_scores")


def golden(name):
    return np.load(FOLDER / f"insdel_{name}.npz")


def fields():
    return [(name, field) for name in NAMES for field in golden(name).files if FIELD.fullmatch(field)]


@pytest.fixture(scope="module")
def net():
    return golden_net()


def test_every_golden_curve_is_tested():
    assert len(fields()) == 60


@pytest.mark.parametrize(("name", "field"), fields())
def test_curve_equals_the_published_one(net, name, field):
    case = golden(name)
    protocol, mode, step, target = FIELD.fullmatch(field).groups()
    target = int(target[1:]) if target and target.startswith("c") else int(case["argmax"])
    curve = perturbation_curve(
        net,
        torch.from_numpy(case["input"]),
        torch.from_numpy(case["saliency"])[None],
        torch.tensor([target]),
        MODES[mode],
        pixels_per_step=int(step),
        protocol=protocol,
        batch_size=64,
    )
    np.testing.assert_allclose(curve[0].numpy(), case[field], rtol=0, atol=1e-5)
    auc = case[field.replace("scores", "auc")]
    np.testing.assert_allclose(area_under_curve(curve)[0], auc, rtol=0, atol=1e-5)


def test_default_steps_are_the_papers(net):
    case = golden("sq224")
    images, saliency = torch.from_numpy(case["input"]), torch.from_numpy(case["saliency"])[None]
    metric = InsertionAUC()
    metric.update(net, images, saliency, torch.tensor([int(case["argmax"])]))
    np.testing.assert_allclose(metric.compute(), case["groupcam_ins_step1792_top_stable_auc"], atol=1e-5)
    np.testing.assert_allclose(metric.mean_curve(), case["groupcam_ins_step1792_top_stable_scores"], atol=1e-5)


@pytest.mark.parametrize("mode", ["ins", "del"])
@pytest.mark.parametrize("step", [96, 100])
def test_batch_equals_rise(net, mode, step):
    case = golden("batch32x48")
    images, saliency = torch.from_numpy(case["input"]), torch.from_numpy(case["saliency"])
    targets = torch.from_numpy(case["argmax"])
    curves = perturbation_curve(
        net, images, saliency, targets, MODES[mode], pixels_per_step=step, protocol="rise", batch_size=7
    )
    np.testing.assert_allclose(curves.numpy().T, case[f"rise_{mode}_step{step}_scores"], rtol=0, atol=1e-5)
    metric = {"ins": InsertionAUC, "del": DeletionAUC}[mode](pixels_per_step=step, protocol="rise")
    for rows in ([0, 1, 2], [3]):
        metric.update(net, images[rows], saliency[rows], targets[rows])
    np.testing.assert_allclose(metric.compute(), case[f"rise_{mode}_step{step}_mean_of_auc"], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("protocol", "field"), [("rise", "rise_blur"), ("groupcam", "gc_blur")])
def test_blurred_start_images(name, protocol, field):
    case = golden(name)
    blurred = BaselineChoice(protocol, "blur").of(torch.from_numpy(case["input"]), [0], 1)
    np.testing.assert_allclose(blurred.numpy(), case[field], rtol=0, atol=5e-6)


def test_rise_kernel():
    kernels = np.load(FOLDER / "kernels.npz")
    profile = gkern_profile(11, 5.0)
    np.testing.assert_allclose(torch.outer(profile, profile), kernels["rise_gkern_11_5"], rtol=0, atol=1e-8)
