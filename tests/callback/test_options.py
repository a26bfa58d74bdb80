"""SESSCallback's arguments: metrics of one's own, prefixes, targets, precisions, and what it refuses."""

import pickle
from copy import deepcopy

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.nn import functional as F
from torch.utils.data import DataLoader
from torchmetrics import Metric

from sess_lightning import SESS, SESSCallback
from tests.helpers.training import BOOKS, METRICS, Module, Pictures, keys, loader, run, sess_keys, trainer


class Spread(Metric):
    """A metric of the user's: takes what it knows."""

    def __init__(self):
        super().__init__()
        self.add_state("spread_sum", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, saliency, previous):
        self.spread_sum += float(previous is not None)

    def compute(self):
        return self.spread_sum


def test_own_metrics_under_their_own_name(tmp_path):
    values = []

    class Read(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                values.append(float(trainer.callback_metrics["sess/spread"]))

    t = trainer(tmp_path, SESSCallback(num_samples=4, metrics={"spread": Spread()}), Read())
    t.fit(Module(), loader(), loader())
    assert sess_keys(t) == {"sess/spread", "sess/base_spread", "sess/drift", "sess/base_drift"} | BOOKS
    assert values[0] == 0  # nothing to compare with yet
    assert values[1] > 0


def test_two_callbacks_and_monitors(tmp_path):
    first, second = (
        SESSCallback(num_samples=4),
        SESSCallback(SESS(num_scales=1, window_size=32), num_samples=4, prefix="one"),
    )
    stopping = EarlyStopping("sess/pointing_acc", mode="max", patience=5)
    checkpoint = ModelCheckpoint(tmp_path, monitor="one/overall", mode="max")
    t = trainer(tmp_path, stopping, first, checkpoint, second, enable_checkpointing=True)
    t.fit(Module(), loader(), loader("targets"))
    assert "one/pointing_acc" in t.callback_metrics
    assert checkpoint.best_model_score is not None
    assert stopping.best_score == max(stopping.best_score, t.callback_metrics["sess/pointing_acc"])


def test_constant_maps_are_logged_as_no_information(tmp_path):
    def flat(model, images, targets):
        return torch.zeros(len(images), 4, 4)

    callback = SESSCallback(SESS(flat, num_scales=1, window_size=None), num_samples=4)
    with pytest.warns(UserWarning, match="only constant saliency maps.*no information"):
        t = run(tmp_path, callback)
    assert sess_keys(t) == keys(METRICS, 1)  # a map of zeros has no drift
    assert all(torch.isfinite(value) for value in t.callback_metrics.values())
    assert t.callback_metrics["sess/valid_fraction"] == 0


def test_labels_of_no_class_of_the_model_are_no_second_class(tmp_path):
    """The prediction is explained: nothing asks whether the labels belong to this model."""
    pictures = Pictures()
    pictures.labels = torch.full_like(pictures.labels, 255)
    callback = SESSCallback(num_samples=4, target="predicted")
    t = trainer(tmp_path, callback, logger=TensorBoardLogger(tmp_path))
    t.validate(Module(), DataLoader(pictures, batch_size=4), verbose=False)
    assert t.callback_metrics["sess/num_samples"] == 4
    assert callback.last_result.second_maps == [None] * 4


class Gathered(Metric):
    """A metric of the user's that cannot compute without samples."""

    def __init__(self):
        super().__init__()
        self.add_state("peaks", [], dist_reduce_fx="cat")

    def update(self, saliency):
        self.peaks += [one.max()[None] for one in saliency if one.max() > 0]

    def compute(self):
        return torch.cat(self.peaks).mean()


def watched_by(method):
    """By a method `(images, number of the validation) -> maps`, with a metric that cannot compute without samples."""

    class Counting(SESSCallback):
        validations = 0

        def on_validation_start(self, trainer, pl_module):
            self.validations += not trainer.sanity_checking
            super().on_validation_start(trainer, pl_module)

    def explain(model, images, targets):
        return method(images, callback.validations)

    sess = SESS(explain, num_scales=1, window_size=None)
    callback = Counting(sess, num_samples=4, compare_base=False, metrics={"gathered": Gathered()})
    return callback


def test_a_validation_that_failed_is_not_computed(tmp_path):
    def fails_once(images, number):
        if number == 2:
            raise RuntimeError("seldom")
        return images.mean(1)

    callback = watched_by(fails_once)
    with pytest.warns(UserWarning, match="seldom") as caught:
        t = run(tmp_path, callback, max_epochs=3)
    assert sum("skips this validation" in str(w.message) for w in caught) == 1
    assert callback.validations == 3
    assert torch.isfinite(t.callback_metrics["sess/gathered"])


def test_a_metric_that_fails_later_skips_that_validation(tmp_path):
    callback = watched_by(lambda images, number: images.mean(1) * (number != 2))  # no valid map: nothing gathered
    with pytest.warns(UserWarning, match="skips this validation"):
        t = run(tmp_path, callback, max_epochs=3)
    assert callback.validations == 3
    assert torch.isfinite(t.callback_metrics["sess/gathered"])


def test_max_seconds_says_how_many_samples_it_used(tmp_path):
    with pytest.warns(UserWarning, match="max_seconds"):
        t = run(tmp_path, SESSCallback(max_seconds=1e-9), max_epochs=1)
    assert t.callback_metrics["sess/num_samples"] == 1  # it shows what one costs


def test_logits_out_of_an_unusual_output(tmp_path):
    class Pair(Module):
        def forward(self, x):
            return "embedding", self.net(x)

        def training_step(self, batch, batch_idx):
            return F.cross_entropy(self(batch[0])[1], batch[1])

    with pytest.raises(TypeError, match=r"a tuple of 2 \(str, Tensor\).*`logits_fn`"):
        run(tmp_path, SESSCallback(), module=Pair())
    module = Pair()
    t = run(tmp_path, SESSCallback(logits_fn=lambda output: output[1]), module=module)
    assert sess_keys(t) == keys(METRICS)
    assert not module._forward_hooks


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions(tmp_path, precision):
    module = Module(norm=False)
    assert sess_keys(run(tmp_path, SESSCallback(num_samples=4), "labels", module, precision=precision)) == keys(METRICS)


def test_targets_by_rule(tmp_path):
    callback = SESSCallback(num_samples=4, target="predicted")
    run(tmp_path, callback, max_epochs=1)
    assert torch.equal(callback.last_result.targets, callback.last_result.predictions)
    callback = SESSCallback(num_samples=4, target=lambda samples, logits: logits.argmin(1))
    run(tmp_path, callback, max_epochs=1)
    assert not torch.equal(callback.last_result.targets, callback.last_result.predictions)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "`num_samples`"),
        ({"every_n_epochs": 0}, "`every_n_epochs`"),
        ({"max_seconds": 0}, "`max_seconds`"),
        ({"max_seconds": float("nan")}, "`max_seconds`"),
        ({"metrics": ["insert"]}, "`metrics` to be one of"),
        ({"metrics": "insertion"}, "a list of names"),
        ({"metrics": {"insertion": 3}}, r"`metrics\['insertion'\]` to be a torchmetrics"),
        ({"target": "truth"}, "`target`"),
        ({"on_error": "ignore"}, "`on_error`"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SESSCallback(**options)


def test_pickle_and_deepcopy_after_use(tmp_path):
    """Row 43."""
    callback = SESSCallback(num_samples=4)
    run(tmp_path, callback)
    assert pickle.loads(pickle.dumps(callback)).num_samples == 4
    assert deepcopy(callback).last_result is not None
