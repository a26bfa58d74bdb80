"""Defaults of what users call: those of the paper and of the documents, which figures are compared by."""

from inspect import Parameter, signature

import pytest

from sess_lightning import SESS
from sess_lightning.metrics import (
    DeletionAUC,
    InsertionAUC,
    MaxBoxAccuracy,
    PointingGame,
    SymmetricRelevanceGain,
    perturbation_curve,
)

CURVE = {
    "steps": 28, "pixels_per_step": None, "protocol": "groupcam", "baseline": None, "blur_kernel_size": None,
    "blur_sigma": None, "activation": "softmax", "batch_size": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("what", "defaults"),
    [
        (
            SESS,
            {
                "method": "gradcam", "num_scales": None, "scales": None, "window_size": 224, "step_size": None,
                "prefilter_ratio": 0.0, "threshold": 0.0, "pool": "mean", "weight_by_score": True, "minmax": True,
                "smooth": True, "activation": "softmax", "batch_size": None,
            },
        ),
        (perturbation_curve, {"mode": "insertion", **CURVE, "limit": None, "order": "most"}),
        (InsertionAUC, CURVE),
        (DeletionAUC, CURVE),
        (SymmetricRelevanceGain, CURVE),
        (PointingGame, {"num_classes": None, "tolerance": 15, "average": "micro", "subset": "all"}),
        (MaxBoxAccuracy, {"iou_thresholds": (0.3, 0.5, 0.7), "thresholds": 100, "components": "all"}),
    ],
)  # fmt: skip
def test_defaults(what, defaults):
    parameters = signature(what).parameters.items()
    found = {name: one.default for name, one in parameters if one.default is not Parameter.empty}
    assert found == defaults
    assert all(type(found[name]) is type(value) for name, value in defaults.items())


def test_twelve_scales_are_the_released_default():
    assert SESS().num_scales == 12
    assert SESS(scales=[224, 300]).num_scales is None
