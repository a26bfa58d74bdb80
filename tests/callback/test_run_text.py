"""Settings of a run in words: whatever a user passes can be written down."""

import pytest
import torch

from sess_lightning import SESSCallback
from sess_lightning.callback.run_text import settings_of, waiting
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


def test_who_waited_how_long():
    assert waiting([1.0]) == waiting([]) == []
    (said,) = waiting([1.5, 4.0, 1.0])
    assert "4.0 s on process 1, the slowest, and 1.0 s on process 2, which waited 3.0 s" in said
