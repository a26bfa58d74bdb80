"""SESSCallback in a Trainer: what is logged, from which batches, and what is said when something is wrong."""

import logging
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.selection import SampleSelection
from sess_lightning.metrics import PointingGame
from sess_lightning.saliency import GradCAM
from sess_lightning.samples import Samples
from tests.helpers.training import METRICS, POINTING, Module, Pictures, keys, loader, run, sess_keys, trainer


def test_one_line_is_enough(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        t = run(tmp_path, SESSCallback(), logger=TensorBoardLogger(tmp_path))
    assert sess_keys(t) == keys(METRICS)
    assert t.callback_metrics["sess/num_samples"] == 12
    lines = [r.message for r in caplog.records if "SESSCallback explains layer" in r.message]
    assert lines == ["SESSCallback explains layer 'net.4' by GradCAM."]
    events = EventAccumulator(t.logger.log_dir, size_guidance={"images": 0, "scalars": 0}).Reload()
    assert [image.step for image in events.Images("sess/maps")] == [3, 6]
    assert set(events.Tags()["scalars"]) >= keys(METRICS)
    assert len(events.Scalars("sess/insertion_auc")) == 2


@pytest.mark.parametrize(
    ("form", "expected"),
    [("labels", METRICS), ("targets", METRICS | POINTING), ("dict", METRICS), ("images", METRICS)],
)
def test_the_usual_batches(tmp_path, form, expected):
    callback = SESSCallback(num_samples=4)
    t = run(tmp_path, callback, form, max_epochs=1)
    assert sess_keys(t) == keys(expected, 1)
    result = callback.last_result
    if form == "images":
        assert torch.equal(result.targets, result.predictions)
    else:
        assert torch.equal(result.targets, result.labels)


def test_any_other_batch_says_what_was_seen_and_the_way_out(tmp_path):
    with pytest.raises((TypeError, ValueError), match=r"(?s)left.*batch_to_samples"):
        run(tmp_path, SESSCallback(), "odd")
    callback = SESSCallback(batch_to_samples=lambda batch: Samples(images=batch["left"], labels=None, objects=None))
    assert sess_keys(run(tmp_path, callback, "odd", max_epochs=1)) == keys(METRICS, 1)


def test_last_result_is_on_the_cpu(tmp_path):
    callback = SESSCallback(num_samples=5)
    run(tmp_path, callback, "targets")
    result = callback.last_result
    assert len(result) == len(result.maps) == len(result.base_maps) == len(result.targets) == len(result.scores) == 5
    assert all(m.shape == (32, 32) and m.device.type == "cpu" for m in result.maps)
    assert not any(t.requires_grad or t.is_inference() for t in (*result.maps, result.scores, result.targets))


def test_values_are_those_of_sess_and_the_metrics_themselves(tmp_path):
    module, sess = Module(), SESS(num_scales=3, window_size=32)
    callback = SESSCallback(sess, indices=[1, 6, 7], metrics={"pointing": PointingGame(tolerance=0)})
    t = trainer(tmp_path, callback)
    t.validate(module, loader("targets"), verbose=False)
    data = Pictures("targets")
    chosen = [1, 6, 7]
    images, targets = data.images[chosen], data.labels[chosen]
    maps = sess(module, images, targets).maps
    torch.testing.assert_close(torch.stack(callback.last_result.maps), maps, rtol=0, atol=1e-6)
    peaks = [divmod(int(m.argmax()), 32) for m in maps]
    hits = [3 <= y < 29 and 2 <= x < 30 for y, x in peaks]
    assert t.callback_metrics["sess/pointing_acc"] == pytest.approx(sum(hits) / 3)
    with torch.no_grad():
        scores = module.eval()(images).softmax(1)[range(3), targets]
    torch.testing.assert_close(callback.last_result.scores, scores)


@pytest.mark.parametrize("inference_mode", [True, False])
@pytest.mark.parametrize("entry", ["validate", "test"])
def test_validate_and_test_log_the_same_keys(tmp_path, entry, inference_mode):
    t = trainer(tmp_path, SESSCallback(num_samples=4), inference_mode=inference_mode)
    getattr(t, entry)(Module(), loader("targets"), verbose=False)
    assert sess_keys(t) == keys(METRICS | POINTING, 1)


class Dropout(Module):
    def __init__(self):
        super().__init__(inplace=True)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.net[-1](self.drop(self.net[:-1](x)))


@pytest.mark.parametrize("validate_every", [2, 3])
def test_training_is_bit_identical_with_and_without(tmp_path, validate_every):
    def final_state(*callbacks):
        pl.seed_everything(0)
        module = Dropout()
        t = trainer(tmp_path, *callbacks, max_epochs=3, accumulate_grad_batches=2, val_check_interval=validate_every)
        t.fit(module, DataLoader(Pictures(), batch_size=2, shuffle=True), loader("targets"))
        return module.state_dict(), t.optimizers[0].state_dict(), torch.get_rng_state(), torch.rand(3)

    plain, watched = final_state(), final_state(SESSCallback(num_samples=4))
    for a, b in zip(plain[0].values(), watched[0].values(), strict=True):
        assert torch.equal(a, b)
    assert str(plain[1]) == str(watched[1])
    assert torch.equal(plain[2], watched[2])
    assert torch.equal(plain[3], watched[3])


def test_the_same_images_are_followed_even_when_the_loader_shuffles(tmp_path):
    """Row 30."""
    seen = []

    class Remember(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                seen.append(torch.stack(callback.last_result.images))

    callback = SESSCallback(num_samples=5)
    t = trainer(tmp_path, callback, Remember(), max_epochs=3)
    t.fit(Module(), loader(), DataLoader(Pictures("labels"), batch_size=4, shuffle=True))
    assert len(seen) == 3
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])


def test_samples_are_cloned_before_validation_step_changes_its_batch(tmp_path):
    """Row 46."""

    class Mutating(Module):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            batch["pixel_values"].mul_(0)
            batch.pop("labels")

    callback, expected = SESSCallback(num_samples=4), SESSCallback(num_samples=4)
    run(tmp_path, callback, "dict", Mutating(), max_epochs=1)
    run(tmp_path, expected, "dict", max_epochs=1)
    assert torch.equal(callback.last_result.labels, expected.last_result.labels)
    assert all(torch.equal(a, b) for a, b in zip(callback.last_result.images, expected.last_result.images, strict=True))


def test_unknown_layer_fails_in_the_sanity_check(tmp_path):
    """Rows 25 and 36."""
    t = trainer(tmp_path, SESSCallback(SESS(GradCAM("net.9"), num_scales=2, window_size=None)))
    with pytest.raises(ValueError, match=r"but got 'net\.9'.*Nearest names"):
        t.fit(Module(), loader(), loader())
    assert t.global_step == 0


def test_the_sanity_check_logs_nothing(tmp_path):
    """Row 25."""

    class Stop(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            assert not sess_keys(trainer)
            assert callback.last_result is None
            trainer.should_stop = True

    callback = SESSCallback()
    run(tmp_path, callback, max_epochs=0)
    trainer(tmp_path, callback, Stop(), max_epochs=1, min_epochs=0).fit(Module(), loader(), loader())


def test_labels_out_of_range(tmp_path):
    with pytest.raises(ValueError, match=r"in 0\.\.2, as the model gives 3 logits, but got 3"):
        trainer(tmp_path, SESSCallback()).validate(Module(num_classes=3), loader(), verbose=False)


class FailsLater:
    """A base method that fails from the second validation on."""

    def __init__(self):
        self.failing = False

    def __call__(self, model, images, targets):
        if self.failing:
            raise OSError("the disk is on fire")
        return images.mean(1)


def test_a_failure_that_comes_again_is_told_in_one_line(tmp_path):
    method = FailsLater()

    class Ignite(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            method.failing = trainer.current_epoch > 0

    callback = SESSCallback(SESS(method, num_scales=1, window_size=None), num_samples=4)
    with pytest.warns(UserWarning, match="SESSCallback failed") as caught:
        trainer(tmp_path, callback, Ignite(), max_epochs=4).fit(Module(), loader(), loader())
    said = [str(one.message) for one in caught if "SESSCallback failed" in str(one.message)]
    assert [text.count("Traceback") for text in said] == [1, 0, 0]
    assert all("the disk is on fire" in text for text in said)


@pytest.mark.parametrize("on_error", ["warn", "raise"])
def test_a_later_failure_warns_and_skips_that_validation(tmp_path, on_error):
    method = FailsLater()

    class Ignite(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            method.failing = trainer.current_epoch == 1

    callback = SESSCallback(SESS(method, num_scales=1, window_size=None), num_samples=4, on_error=on_error)
    t = trainer(tmp_path, callback, Ignite(), max_epochs=3)
    if on_error == "raise":
        with pytest.raises(OSError, match="on fire"):
            t.fit(Module(), loader(), loader())
    else:
        with pytest.warns(UserWarning, match="(?s)SESSCallback failed and skips.*the disk is on fire"):
            t.fit(Module(), loader(), loader())
        assert t.current_epoch == 3
        assert t.callback_metrics["sess/num_samples"] == 4


def test_several_loaders(tmp_path):
    """Row 40."""
    t = trainer(tmp_path, SESSCallback(num_samples=3))
    t.fit(Module(), loader(), [loader(), loader("targets", seed=1)])
    expected = {f"{k}/dataloader_idx_0" for k in keys(METRICS)} | {
        f"{k}/dataloader_idx_1" for k in keys(METRICS | POINTING)
    }
    assert sess_keys(t) == expected
    callback = SESSCallback(num_samples=3, dataloaders=[1])
    t = trainer(tmp_path, callback, max_epochs=1)
    t.fit(Module(), loader(), [loader(), loader("targets", seed=1)])
    assert sess_keys(t) == {f"{k}/dataloader_idx_1" for k in keys(METRICS | POINTING, 1)}
    assert list(callback.last_results) == [1]


def test_loggers_without_images_get_the_numbers_and_one_warning(tmp_path):
    loggers = [CSVLogger(tmp_path), TensorBoardLogger(tmp_path)]
    with pytest.warns(UserWarning, match="cannot show images in CSVLogger") as caught:
        run(tmp_path, SESSCallback(num_samples=4), logger=loggers)
    assert sum("cannot show images" in str(w.message) for w in caught) == 1
    assert "sess/insertion_auc" in Path(loggers[0].experiment.metrics_file_path).read_text()


def test_a_fast_run_without_loggers_says_nothing_about_images(tmp_path, recwarn):
    run(tmp_path, SESSCallback(num_samples=4), logger=TensorBoardLogger(tmp_path), fast_dev_run=True)
    assert not [w for w in recwarn if "cannot show images" in str(w.message)]


def test_images_every_n_epochs_metrics_every_time(tmp_path):
    callback = SESSCallback(num_samples=4, every_n_epochs=2)
    t = run(tmp_path, callback, max_epochs=4, logger=TensorBoardLogger(tmp_path))
    events = EventAccumulator(t.logger.log_dir, size_guidance={"images": 0, "scalars": 0}).Reload()
    assert [image.step for image in events.Images("sess/maps")] == [3, 9]
    assert len(events.Scalars("sess/overall")) == 4


def test_a_process_sends_its_share_of_what_is_drawn(tmp_path):
    class FirstOfTwo(SESSCallback):
        def _new_tracker(self, trainer, loader):
            tracker = super()._new_tracker(trainer, loader)
            tracker.selection = SampleSelection(self.num_samples, None, 0, length=12, rank=0, world_size=2)
            return tracker

    callback = FirstOfTwo(num_samples=10, num_images=6)
    trainer(tmp_path, callback, logger=TensorBoardLogger(tmp_path)).validate(Module(), loader(), verbose=False)
    drawn, verdicts = callback.reporter.share(callback._trackers[0])
    assert (len(drawn), len(verdicts)) == (3, 5)


def test_a_test_that_is_asked_for_is_drawn_whatever_the_epoch(tmp_path):
    t = run(tmp_path, SESSCallback(num_samples=4, every_n_epochs=2), max_epochs=1, logger=TensorBoardLogger(tmp_path))
    assert t.current_epoch == 1
    t.test(Module(), loader(), verbose=False)
    events = EventAccumulator(t.logger.log_dir, size_guidance={"images": 0}).Reload()
    assert len(events.Images("sess/maps")) == 2


def test_a_test_with_a_checkpoint_chooses_its_own_samples(tmp_path):
    t = trainer(tmp_path, SESSCallback(num_samples=4), max_epochs=1)
    t.fit(Module(), loader(), loader(count=200))
    t.save_checkpoint(tmp_path / "last.ckpt")
    for walk in ("test", "validate"):
        t = trainer(tmp_path, SESSCallback(num_samples=4))
        getattr(t, walk)(Module(), loader(count=8), ckpt_path=tmp_path / "last.ckpt", verbose=False)
        assert t.callback_metrics["sess/num_samples"] == 4


def test_images_that_do_not_fit_mean_and_std_warn(tmp_path):
    class Bytes(Pictures):
        def __getitem__(self, i):
            image, label = super().__getitem__(i)
            return image.abs() * 80, label

    with pytest.warns(UserWarning, match="SESSCallback: .*mean.*std"):
        trainer(tmp_path, SESSCallback(num_samples=4)).validate(
            Module(), DataLoader(Bytes(), batch_size=4), verbose=False
        )
