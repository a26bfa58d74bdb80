"""A monitored key that cannot exist is said in words, before the training where that can be known."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torchmetrics import Metric

from sess_lightning import SESSCallback
from sess_lightning.metrics import SaliencyDrift
from tests.helpers.shortcuts import ReadsTheCorner, marked
from tests.helpers.training import SMALL, Module, Pictures, collate_targets, loader, small_sess, trainer


def monitored(kind, key, tmp_path):
    if kind is ModelCheckpoint:
        return ModelCheckpoint(tmp_path, monitor=key)
    return kind(key)


def fit(tmp_path, callback, *others, module=None, validation=None, **options):
    t = trainer(tmp_path, callback, *others, enable_checkpointing=any(isinstance(o, ModelCheckpoint) for o in others),
                **options)  # fmt: skip
    t.fit(module or Module(), loader(), validation or loader())
    return t


class Counting(Module):
    """Counts its steps: none is made before the message."""

    steps = 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize("kind", [EarlyStopping, ModelCheckpoint])
@pytest.mark.parametrize(
    ("key", "options", "says"),
    [
        ("sess/insertion", {}, r"never logs\. Did you mean 'sess/insertion_auc'\?.*sess/overall"),
        ("sess/pointing_accuracy", {}, "Did you mean 'sess/pointing_acc'"),
        ("sess/insertion_auc", {"metrics": ("pointing",)}, r"never logs.*sess/pointing_acc.*`metrics`"),
        ("sess/overall", {"metrics": ("insertion",)}, "never logs.*`metrics`"),
        ("sess/base_overall", {"compare_base": False}, "never logs.*`compare_base`"),
        ("sess/pointing_acc", {}, "hold no boxes and no masks.*batch_to_samples=.*sess/overall"),
        ("sess/base_pointing_acc", {}, "hold no boxes and no masks"),
        ("sess/alarms", {"alarm": False}, "never logs.*`alarm`"),
        ("sess/alarms", {}, "hold no boxes and no masks"),
        ("sess/overall/dataloader_idx_0", {}, "one validation loader the key is 'sess/overall'"),
    ],
)
def test_names_that_never_come_stop_before_the_training(tmp_path, kind, key, options, says):
    module = Counting()
    with pytest.raises(MisconfigurationException, match=rf"(?s){kind.__name__} monitors '{key}'.*{says}"):
        fit(tmp_path, SESSCallback(small_sess(), **SMALL, **options), monitored(kind, key, tmp_path), module=module)
    assert module.steps == 0


def test_several_loaders_have_keys_of_their_own(tmp_path):
    module = Counting()
    with pytest.raises(MisconfigurationException, match=r"several validation loaders.*'sess/overall/dataloader_idx_0'"):
        fit(tmp_path, SESSCallback(small_sess(), **SMALL), EarlyStopping("sess/overall"), module=module,
            validation=[loader(), loader()])  # fmt: skip
    assert module.steps == 0
    stopping = EarlyStopping("sess/pointing_acc/dataloader_idx_1", mode="max")
    t = fit(tmp_path, SESSCallback(small_sess(), **SMALL), stopping, validation=[loader(), loader("targets")])
    assert t.current_epoch == 2


def test_a_monitor_that_may_go_without_is_warned(tmp_path):
    with pytest.warns(UserWarning, match="EarlyStopping monitors 'sess/insertion'.*Did you mean"):
        t = fit(tmp_path, SESSCallback(small_sess(), **SMALL), EarlyStopping("sess/insertion", strict=False))
    assert t.current_epoch == 2


def test_a_scheduler_is_a_monitor_too(tmp_path):
    class Plateau(Counting):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "sess/deletion"}}

    module = Plateau()
    with pytest.raises(MisconfigurationException, match=r"plateau scheduler monitors 'sess/deletion'.*deletion_auc"):
        fit(tmp_path, SESSCallback(small_sess(), **SMALL), module=module)
    assert module.steps == 0


def test_a_key_that_the_module_logs_itself_is_left_alone(tmp_path):
    class Logs(Module):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.log("sess/quality", 1.0)

    stopping = EarlyStopping("sess/quality", mode="max", patience=9)
    with pytest.warns(UserWarning, match="'sess/quality', which this SESSCallback never logs"):
        t = fit(tmp_path, SESSCallback(small_sess(), **SMALL), stopping, module=Logs())
    assert t.current_epoch == 2


class Several(Metric):
    """A metric of the user's with names of its own."""

    def __init__(self):
        super().__init__()
        self.add_state("spread_sum", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, saliency):
        self.spread_sum = self.spread_sum + len(saliency)

    def compute(self):
        return {"spread": self.spread_sum, "double": 2 * self.spread_sum}


@pytest.mark.parametrize("key", ["sess/double", "sess/base_double"])
def test_metrics_with_names_of_their_own(tmp_path, key, recwarn):
    stopping = EarlyStopping(key, mode="max", patience=9)
    t = fit(tmp_path, SESSCallback(small_sess(), metrics={"own": Several()}, **SMALL), stopping)
    assert t.current_epoch == 2
    assert not [w for w in recwarn if "monitors" in str(w.message)]


def test_a_metric_that_needs_two_validations(tmp_path):
    stopping = EarlyStopping("sess/drift", strict=False, patience=9)
    t = fit(tmp_path, SESSCallback(small_sess(), metrics={"drift": SaliencyDrift()}, **SMALL), stopping, max_epochs=3)
    assert torch.isfinite(stopping.best_score)
    assert t.current_epoch == 3


def test_objects_of_other_classes_only(tmp_path):
    class Elsewhere(Pictures):
        def __getitem__(self, i):
            image, target = super().__getitem__(i)
            return image, {**target, "label": (target["labels"][0] + 1) % 4}

    validation = torch.utils.data.DataLoader(Elsewhere("targets"), batch_size=4, collate_fn=collate_targets)
    with pytest.raises(MisconfigurationException, match=r"(?s)'sess/pointing_acc'.*no sample followed has an object"):
        fit(tmp_path, SESSCallback(small_sess(), **SMALL), EarlyStopping("sess/pointing_acc"), validation=validation)


def test_without_a_sanity_check_the_first_validation_says_it(tmp_path):
    with pytest.raises(MisconfigurationException, match="hold no boxes and no masks"):
        fit(tmp_path, SESSCallback(small_sess(), **SMALL), EarlyStopping("sess/pointing_acc"), num_sanity_val_steps=0)


@pytest.mark.parametrize("entry", ["validate", "test"])
def test_only_a_fit_has_monitors(tmp_path, entry):
    t = trainer(tmp_path, SESSCallback(small_sess(), **SMALL), EarlyStopping("sess/pointing_acc"))
    getattr(t, entry)(Module(), loader(), verbose=False)
    assert "sess/overall" in t.callback_metrics


@pytest.mark.parametrize("kind", [EarlyStopping, ModelCheckpoint])
def test_a_metric_that_compares_validations_has_no_first_value(tmp_path, kind):
    callback = SESSCallback(small_sess(), metrics={"moved": SaliencyDrift()}, **SMALL)
    with pytest.raises(MisconfigurationException, match=r"(?s)'sess/moved'.*no value in the first.*strict=False"):
        fit(tmp_path, callback, monitored(kind, "sess/moved", tmp_path))


def test_not_strict_waits_for_the_second_value(tmp_path, recwarn):
    callback = SESSCallback(small_sess(), metrics={"moved": SaliencyDrift()}, **SMALL)
    t = fit(tmp_path, callback, EarlyStopping("sess/moved", strict=False))
    assert "sess/moved" in t.callback_metrics
    assert not [w for w in recwarn if "no value in the first" in str(w.message)]


class FailsFrom(SESSCallback):
    """Fails in some validations, counted from 1 over the sanity check's end."""

    validations = 0

    def on_validation_start(self, trainer, pl_module):
        self.validations += not trainer.sanity_checking
        super().on_validation_start(trainer, pl_module)


def failing_in(*validations):
    def target(samples, logits):
        if callback.validations in validations:
            raise RuntimeError("planted")
        return samples.labels

    callback = FailsFrom(small_sess(), target=target, **SMALL)
    return callback


class Plateau(Module):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=99)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "sess/overall"}}


def test_a_skipped_validation_is_skipped_by_monitors(tmp_path):
    """A stale value would be saved by, and counted as no improvement; a missing one would end the run."""
    saving = ModelCheckpoint(tmp_path / "best", "{epoch}", monitor="sess/overall", save_top_k=-1)
    often = ModelCheckpoint(tmp_path / "often", "{step}", monitor="sess/overall", every_n_train_steps=1, save_top_k=9)
    stopping = EarlyStopping("sess/overall", mode="max", min_delta=9.0, patience=3)
    with pytest.warns(UserWarning, match=r"skips this validation\. `sess/\.\.\.` has no new values(?s:.*)planted"):
        t = fit(tmp_path, failing_in(2, 3), stopping, saving, often, module=Plateau(), max_epochs=9)
    assert sorted(path.stem for path in (tmp_path / "best").glob("*")) == [f"epoch={i}" for i in (0, 3, 4, 5)]
    assert (stopping.stopped_epoch, t.current_epoch) == (5, 6)  # the first and three that do not improve on it
    steps = {int(path.stem.removeprefix("step=")) for path in (tmp_path / "often").glob("*")}
    assert not steps & {7, 8, 11}  # between a skipped validation and the next
    assert (saving.save_top_k, often.save_top_k, stopping.strict) == (-1, 9, True)
    assert t.lr_scheduler_configs[0].strict


def test_settings_of_monitors_come_back_where_the_last_validation_is_skipped(tmp_path):
    saving = ModelCheckpoint(tmp_path, monitor="sess/overall")
    stopping = EarlyStopping("sess/overall")
    with pytest.warns(UserWarning, match="planted"):
        t = fit(tmp_path, failing_in(2), stopping, saving)
    assert "sess/overall" not in t.callback_metrics
    assert (saving.save_top_k, stopping.strict) == (1, True)


@pytest.mark.parametrize("walk", ["validate", "test", "fit"])
def test_each_stage_must_prove_itself(tmp_path, walk):
    """After a good fit, what cannot be read is an error of the next stage, not a warning without a number."""
    callback = SESSCallback(small_sess(), **SMALL)
    t = fit(tmp_path, callback)
    again = getattr(trainer(tmp_path, callback), walk)
    odd = loader("odd")
    with pytest.raises(Exception, match="batch_to_samples"):
        again(Module(), *([loader(), odd] if walk == "fit" else [odd]))
    assert t.current_epoch == 2


class Late(pl.Callback):
    """The network predicts the other class of each sample until an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_validation_epoch_start(self, trainer, pl_module):
        pl_module.sign = 1 if trainer.current_epoch >= self.epoch else -1


class Turning(ReadsTheCorner):
    sign = 1

    def forward(self, images):
        return self.sign * super().forward(images)


@pytest.mark.parametrize("kind", [EarlyStopping, ModelCheckpoint])
def test_a_number_of_alarms_is_waited_for_until_enough_are_right(tmp_path, kind):
    """Three validations in which no sample is right, and two with alarms."""
    watching, kept = monitored(kind, "sess/alarms", tmp_path), []

    class Keep(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            kept.append(trainer.callback_metrics.get("sess/alarms"))

    callback = SESSCallback(num_samples=24, num_images=0, metrics=(), compare_base=False)
    t = fit(tmp_path, callback, Late(3), watching, Keep(), module=Turning(), validation=marked(), max_epochs=5,
            num_sanity_val_steps=0)  # fmt: skip
    assert kept == [None, None, None, 2, 2]
    assert t.current_epoch == 5
    assert (watching.best_model_score if kind is ModelCheckpoint else watching.best_score) == 2


@pytest.mark.parametrize("options", [{"num_samples": 4}, {"target": lambda samples, logits: 1 - samples.labels}])
def test_a_number_of_alarms_that_cannot_come(tmp_path, options):
    callback = SESSCallback(**{"num_samples": 24, "num_images": 0, "metrics": (), "compare_base": False, **options})
    with pytest.raises(MisconfigurationException, match="'sess/alarms', but fewer than 5 of the samples followed"):
        fit(tmp_path, callback, EarlyStopping("sess/alarms"), module=ReadsTheCorner(), validation=marked())


def test_without_the_alarm_its_number_is_refused_beside_metrics_with_names_of_their_own(tmp_path):
    callback = SESSCallback(small_sess(), metrics={"own": Several()}, alarm=False, **SMALL)
    with pytest.raises(MisconfigurationException, match="'sess/alarms', but alarm=False"):
        fit(tmp_path, callback, EarlyStopping("sess/alarms"), validation=loader("targets"))
