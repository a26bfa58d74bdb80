"""Settings of a run in words: whatever a user passes can be written down."""

import pytest
import torch

from sess_lightning import SESSCallback
from sess_lightning.callback.run_text import settings_of
from sess_lightning.metrics import PointingGame


@pytest.mark.parametrize(
    ("function", "name"),
    [(torch.nn.functional.relu, "torch.nn.functional.relu"), (str.upper, "builtins.str.upper")],
)
def test_functions_go_by_their_names_in_c_too(function, name):
    assert settings_of(SESSCallback(logits_fn=function))["logits_fn"] == name


def test_metrics_keep_their_arguments():
    settings = settings_of(SESSCallback(metrics={"pointing": PointingGame(tolerance=3)}))
    assert "tolerance=3" in settings["metrics.pointing"]
