"""Intervals beside the numbers: of the same samples as they, paired, and only where there is something to compare."""

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from scipy.stats import bootstrap, norm
from scipy.stats import t as student

from sess_lightning.callback.sample_values import as_table, in_short, intervals_of, joined
from sess_lightning.cli.main import summary
from sess_lightning.metrics import DeletionAUC, InsertionAUC, PointingGame, SymmetricRelevanceGain
from sess_lightning.probing import probe
from tests.helpers.boards import callback, events, fit

SAMPLES = 24


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    metrics = {
        "insertion": InsertionAUC(steps=4),
        "deletion": DeletionAUC(steps=4),
        "pointing": PointingGame(tolerance=0),
        "srg": SymmetricRelevanceGain(steps=4),
    }
    watch = callback(num_samples=SAMPLES, num_images=2, metrics=metrics, intervals=True)
    folder = tmp_path_factory.mktemp("intervals")
    checkpoint = ModelCheckpoint(folder, monitor="sess/overall_gain_low", mode="max")
    return fit(folder, watch, checkpoint, epochs=1, enable_checkpointing=True), watch, checkpoint


def test_values_are_the_logged_numbers_and_gains_their_differences(run):
    trainer, watch, _ = run
    found = watch.last_intervals[0]
    for name in ("insertion_auc", "deletion_auc", "overall", "pointing_acc", "srg"):
        sess, base = (float(trainer.callback_metrics[f"sess/{before}{name}"]) for before in ("", "base_"))
        assert found[name].value == pytest.approx(sess, abs=1e-6)
        assert found[f"base_{name}"].value == pytest.approx(base, abs=1e-6)
        assert found[f"{name}_gain"].value == pytest.approx(sess - base, abs=1e-6)
        for end in ("low", "high"):
            logged = float(trainer.callback_metrics[f"sess/{name}_gain_{end}"])
            assert logged == pytest.approx(getattr(found[f"{name}_gain"], end), abs=1e-6)


def test_the_interval_of_a_gain_is_that_of_the_differences_of_the_samples(run):
    """Each sample measured again by itself, resampled by another library, at percentiles for Student's t."""
    trainer, watch, _ = run
    result, module = watch.last_result, trainer.lightning_module.eval()
    differences = []
    for number in range(len(result)):
        image, target = result.images[number], result.targets[number : number + 1]
        squashed = torch.nn.functional.interpolate(image[None], (32, 32), mode="bilinear", antialias=True)
        area = {}
        for name, maps in (("SESS", result.maps), ("base", result.base_maps)):
            metric = InsertionAUC(steps=4)
            with probe(module):
                metric.update(module, squashed, maps[number][None], target)
            area[name] = float(metric.compute())
        differences.append(area["SESS"] - area["base"])
    n = len(differences)
    level = 1 - 2 * norm.cdf(-np.sqrt(n / (n - 1)) * student.ppf(0.975, n - 1))
    options = {"method": "percentile", "confidence_level": level, "n_resamples": 20000}
    reference = bootstrap((np.array(differences),), np.mean, rng=0, **options)
    found = watch.last_intervals[0]["insertion_auc_gain"]
    assert found.value == pytest.approx(np.mean(differences), abs=1e-5)
    error = reference.standard_error
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=0.2 * error)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=0.2 * error)


def test_they_are_shown_and_can_be_monitored(run):
    trainer, watch, checkpoint = run
    assert checkpoint.best_model_path
    board = events(trainer.logger.log_dir)
    text = board.Tensors("sess/intervals/text_summary")[-1].tensor_proto.string_val[0].decode()
    assert text == as_table(watch.last_intervals[0])
    assert "| pointing |" in text
    lines = [line.split() for line in summary(trainer).splitlines() if line]
    gain = watch.last_intervals[0]["overall_gain"]
    assert lines[3][:3] == ["SESS", "-", "base"]
    assert lines[3][5] == f"{gain.value:+.3f}"
    assert [lines[4][0], lines[4][2], lines[4][5]] == ["95", "from", f"{gain.low:+.3f}"]
    assert lines[5][3] == f"{gain.high:+.3f}"


def test_by_default_they_are_no_keys(tmp_path):
    watch = callback(num_images=0)
    t = fit(tmp_path, watch, epochs=1)
    assert watch.last_intervals[0]
    assert not [key for key in t.callback_metrics if "gain" in key or key.endswith(("_low", "_high"))]
    message = r"monitors 'sess/overall_gain', which this SESSCallback never logs"
    monitor = ModelCheckpoint(tmp_path, monitor="sess/overall_gain")
    with pytest.raises(MisconfigurationException, match=message):
        fit(tmp_path, callback(), monitor, epochs=1, enable_checkpointing=True)


def test_without_a_base_there_is_no_gain(tmp_path):
    watch = callback(num_images=0, compare_base=False, intervals=True)
    t = fit(tmp_path, watch, epochs=1)
    assert not [name for name in watch.last_intervals[0] if "gain" in name or "base" in name]
    assert "95 %" not in summary(t)


def test_an_average_over_classes_is_no_mean_over_samples(tmp_path):
    metrics = {"pointing": PointingGame(num_classes=3, average="macro")}
    watch = callback(num_images=0, metrics=metrics)
    fit(tmp_path, watch, epochs=1)
    assert not [name for name in watch.last_intervals[0] if "pointing" in name]


def test_samples_without_a_value_are_left_out_and_processes_are_joined():
    parts = [
        {"pointing_acc": [1.0, np.nan], "base_pointing_acc": [0.0, np.nan]},
        {},
        {"pointing_acc": [0.0, 1.0], "base_pointing_acc": [0.0, 1.0]},
    ]
    found = intervals_of(joined(parts))
    assert found["pointing_acc"].value == pytest.approx(2 / 3)
    assert found["pointing_acc_gain"].value == pytest.approx(1 / 3)
    # Wilson's of two of three: (2 + z^2 / 2 +- z sqrt(2 / 3 + z^2 / 4)) / (3 + z^2)
    assert in_short({"pointing_acc": found["pointing_acc"]}) == "pointing 0.67 [0.21, 0.94]"
    nothing = intervals_of({"pointing_acc": [np.nan], "base_pointing_acc": [np.nan]})
    assert in_short(nothing) == ""
