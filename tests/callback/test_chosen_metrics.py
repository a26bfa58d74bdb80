"""Which metrics a callback measures, under which keys, and which mappings are refused."""

import pytest
import torch
from torchmetrics import Metric

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.monitors import possible_names
from sess_lightning.metrics import BackgroundReliance, ObjectReliance, PointingGame, SaliencyDrift
from tests.helpers.shortcuts import Marked, ReadsTheCorner, marked
from tests.helpers.training import trainer


def validated(tmp_path, metrics, **options):
    options = {"num_samples": 24, "num_images": 0, "compare_base": False, **options}
    t = trainer(tmp_path, SESSCallback(metrics=metrics, **options))
    t.validate(ReadsTheCorner(), marked(), verbose=False)
    return {key.removeprefix("sess/"): float(value) for key, value in t.callback_metrics.items()}


@pytest.mark.parametrize("name", ["base_drift", "base_pointing_acc"])
def test_a_key_that_another_metric_has_is_refused(name):
    metrics = {name: SaliencyDrift(), "pointing": PointingGame()}
    with pytest.raises(ValueError, match=rf"different keys, but both '\w+' and '\w+' would be logged as '{name}'"):
        SESSCallback(metrics=metrics)


def test_what_reads_no_map_has_no_key_of_the_base_method():
    metrics = {"mine": ObjectReliance(), "base_mine": PointingGame()}
    assert SESSCallback(metrics=metrics).metrics.keys() > metrics.keys()


@pytest.mark.parametrize("name", ["object_reliance", "background_reliance"])
def test_what_the_alarm_reads_is_nothing_else(name):
    with pytest.raises(ValueError, match=rf"`metrics\['{name}'\]` to be \w+Reliance.*got PointingGame.*alarm=False"):
        SESSCallback(metrics={name: PointingGame()})
    assert isinstance(SESSCallback(metrics={name: PointingGame()}, alarm=False).metrics[name], PointingGame)


class Several(Metric):
    full_state_update = False

    def __init__(self):
        super().__init__()
        self.add_state("several_sum", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, saliency):
        self.several_sum += len(saliency)

    def compute(self):
        return {"pointing_acc": self.several_sum, "other": self.several_sum}


def test_values_of_a_metric_do_not_take_the_key_of_another(tmp_path):
    with pytest.raises(ValueError, match="values of other names, but 'pointing_acc' comes twice"):
        validated(tmp_path, {"several": Several(), "pointing": PointingGame()})


def test_a_reliance_under_another_name_leaves_the_standing_one(tmp_path):
    values = validated(tmp_path, {"mine": ObjectReliance(), "moved": SaliencyDrift()})
    assert values["mine"] == values["object_reliance"]
    assert values["alarms"] == 2


def test_one_under_its_own_name_takes_the_place(tmp_path):
    own = ObjectReliance(activation="sigmoid")
    assert SESSCallback(metrics={"object_reliance": own}).metrics["object_reliance"] is own


def test_possible_names_are_those_that_are_logged():
    metrics = {"mine": ObjectReliance(), "pointing": PointingGame()}
    standing = {"seconds", "num_samples", "valid_fraction"}
    assert possible_names(metrics, True, False) == {"mine", "pointing_acc", "base_pointing_acc"} | standing
    assert possible_names(metrics, False, True) == {"mine", "pointing_acc", "alarms"} | standing


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("mine", ["softmax", "sigmoid"])
def test_scores_are_shared_only_where_they_are_the_same(tmp_path, activation, mine):
    metric = BackgroundReliance(activation=mine)
    values = validated(tmp_path, {"mine": metric}, sess=SESS(num_scales=2, window_size=None, activation=activation))
    images, targets = zip(*Marked(), strict=True)
    labels = torch.cat([one["labels"] for one in targets])
    expected = BackgroundReliance(activation=mine)(ReadsTheCorner().eval(), torch.stack(images), labels, targets)
    assert values["mine"] == pytest.approx(float(expected), abs=1e-5)
    assert (values["mine"] == pytest.approx(values["background_reliance"], abs=1e-3)) == (mine == activation)
