"""Long, repeated and interrupted runs in one process: what is drawn, written, kept and said."""

import time

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric

import sess_lightning.cli as cli
from sess_lightning import SESSCallback
from sess_lightning.callback import tensor_store, validation
from sess_lightning.callback.explainer import Explained
from sess_lightning.callback.selection import SampleSelection
from sess_lightning.callback.tracker import LoaderTracker
from sess_lightning.metrics import SaliencyDrift
from sess_lightning.samples import batch_to_samples
from tests.helpers.boards import events
from tests.helpers.nets import seeded
from tests.helpers.training import SMALL, Module, Pictures, loader, run, small_sess, trainer


def ours(**options):
    return SESSCallback(options.pop("sess", None) or small_sess(), **{**SMALL, **options})


class TestPictures:
    """`every_n_epochs` counts validations since the last one drawn; a fit has three steps an epoch."""

    @pytest.mark.parametrize(
        ("every", "options", "steps"),
        [
            (5, {"check_val_every_n_epoch": 5, "max_epochs": 10}, [15]),
            (2, {"check_val_every_n_epoch": 2, "max_epochs": 6}, [6, 18]),
            (2, {"check_val_every_n_epoch": 4, "max_epochs": 12}, [12, 36]),
            (3, {"max_epochs": 5}, [3, 12]),
            (2, {"val_check_interval": 1, "max_epochs": 2}, [1, 3, 5]),
            (4, {"val_check_interval": 2, "check_val_every_n_epoch": None, "max_epochs": 4}, [2, 10]),
        ],
    )
    def test_the_first_validation_is_drawn_and_every_nth_after_it(self, tmp_path, every, options, steps):
        t = run(tmp_path, ours(every_n_epochs=every), logger=TensorBoardLogger(tmp_path), **options)
        assert [image.step for image in events(t.logger.log_dir).Images("sess/maps")] == steps

    def test_a_skipped_validation_is_made_up_for_by_the_next(self, tmp_path):
        callback = ours(sess=small_sess(lambda model, images, targets: explain(images)), every_n_epochs=2)

        def explain(images):
            if t.current_epoch == 2 and not t.sanity_checking:
                raise RuntimeError("planted")
            return images.mean(1)

        t = trainer(tmp_path, callback, max_epochs=5, logger=TensorBoardLogger(tmp_path))
        with pytest.warns(UserWarning, match="skips this validation"):
            t.fit(Module(), loader(), loader())
        assert [image.step for image in events(t.logger.log_dir).Images("sess/maps")] == [3, 12]


def test_a_capture_that_failed_is_made_up_for_by_the_next_validation(tmp_path):
    """Where failures warn already: each stage must prove itself, here it is taken as proven."""
    bad = iter([False] * 3 + [True])  # three batches of `validate`, then the first of the fit

    def reading(batch):
        if next(bad, False):
            raise OSError("planted")
        return batch_to_samples(batch)

    counted = []

    class Count(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            counted.append(float(trainer.callback_metrics.get("sess/num_samples", 0)))

        def on_train_start(self, trainer, pl_module):
            callback._exchange.proven = True

    callback = ours(batch_to_samples=reading)
    t = trainer(tmp_path, callback, Count(), max_epochs=3, num_sanity_val_steps=0)
    t.validate(Module(), loader(), verbose=False)
    expected = [image.clone() for image in callback.last_result.images]
    with pytest.warns(UserWarning, match="skips this validation"):
        t.fit(Module(), loader(), loader())
    assert counted == [3, 0, 3, 3]
    assert all(map(torch.equal, callback.last_result.images, expected))


class TestFiles:
    def written(self, folder):
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def test_no_run_overwrites_the_files_of_another(self, tmp_path):
        folder, module = tmp_path / "kept", Module()
        before = {}
        for stage in ("fit", "validate", "test", "test", "fit"):
            t = trainer(tmp_path, ours(save_dir=str(folder)), max_epochs=1)
            if stage == "fit":
                t.fit(module, loader(), loader())
            else:
                getattr(t, stage)(module, loader(), verbose=False)
            after = self.written(folder)
            assert before.items() <= after.items()
            assert len(after) >= len(before) + 2
            before = after
        assert sorted(path.stem for path in (folder / "sess_maps").glob("*.npz")) == [
            "00000003", "00000003-v1", "test-00000000", "test-00000000-v1", "validate-00000000"
        ]  # fmt: skip

    def test_a_second_fit_is_told_from_the_first_by_every_name(self, tmp_path):
        for epochs in (1, 3):
            run(tmp_path, ours(save_dir=str(tmp_path / "kept")), max_epochs=epochs)
        assert sorted(path.stem for path in (tmp_path / "kept" / "sess_maps").glob("*.png")) == [
            "00000003", "00000003-v1", "00000006-v1", "00000009-v1"
        ]  # fmt: skip


class TestEarlierMaps:
    def test_a_sample_without_one_does_not_silence_the_others(self):
        """Four samples of one batch, of which the last validation has explained two."""
        tracker = followed({"drift": SaliencyDrift()}, count=4)
        explain(tracker, [0, 1], 1.0)
        tracker.begin()
        explain(tracker, [0, 1, 2, 3], 2.0)
        assert [one is not None for one in tracker._before("", [0, 1, 2, 3], torch.device("cpu"))] == [True] * 2 + [
            False
        ] * 2
        assert tracker._metrics[""]["drift"].drift_total == 2
        tracker.begin()
        explain(tracker, [0, 1, 2, 3], 3.0)
        assert tracker._metrics[""]["drift"].drift_total == 4

    def test_a_validation_that_broke_off_leaves_the_maps_before_it(self):
        tracker = followed({"drift": SaliencyDrift()}, count=3)
        for part, value in ([0, 1, 2], 1.0), ([0], 2.0), ([], 3.0):
            explain(tracker, part, value)
            tracker.begin()
        before = tracker._before("", [0, 1, 2], torch.device("cpu"))
        assert [float(one.max()) for one in before] == [2.0, 1.0, 1.0]

    def test_they_are_kept_only_for_metrics_that_take_them(self):
        class Peak(Metric):
            def update(self, saliency):
                pass

            def compute(self):
                return 1.0

        class Anything(Peak):
            def update(self, **given):
                pass

        for metrics, kept in ({"peak": Peak()}, False), ({"any": Anything()}, True), ({"d": SaliencyDrift()}, True):
            tracker = followed(metrics, count=2)
            explain(tracker, [0, 1], 1.0)
            tracker.begin()
            assert bool(tracker._earlier) == kept


def followed(metrics, count):
    """A tracker of so many samples of one batch."""
    tracker = LoaderTracker(SampleSelection(count, None, 0, count), metrics, compare_base=False)
    tracker.follow(batch_to_samples((seeded(0, count, 3, 8, 8), torch.arange(count))), 0, range(count))
    return tracker


def explain(tracker, numbers, value):
    count = len(numbers)
    maps = [value * torch.rand(8, 8).clamp(max=0.9) for _ in numbers]
    for one in maps:
        one[0, 0] = value
    found = Explained(
        images=[], maps=maps, labels=torch.zeros(count, dtype=torch.long), targets=torch.zeros(count, dtype=torch.long),
        predictions=torch.zeros(count, dtype=torch.long), scores=torch.ones(count), second_maps=[None] * count,
        valid=torch.ones(count, dtype=torch.bool), objects=[None] * count,
    )  # fmt: skip
    tracker.update(lambda images: images, found, torch.zeros(count, 3, 8, 8), numbers)


class TestLastResults:
    def test_writing_to_them_changes_nothing_that_is_explained(self, tmp_path):
        maps, images = [], []

        class Vandal(pl.Callback):
            def on_validation_end(self, trainer, pl_module):
                if not trainer.sanity_checking:
                    found = trainer.callbacks[0].last_result
                    maps.append(torch.stack(found.maps))
                    images.append(torch.stack(found.images))
                    for tensor in found.images + found.maps + found.base_maps + [found.targets]:
                        tensor.fill_(7)

        metrics = {"drift": SaliencyDrift()}
        t = trainer(tmp_path, ours(metrics=metrics), Vandal(), max_epochs=3)
        t.fit(Frozen(), loader(), loader())
        assert torch.equal(images[0], images[2])
        assert torch.equal(maps[0], maps[2])
        assert t.callback_metrics["sess/drift"] == pytest.approx(0, abs=1e-6)

    def test_those_of_earlier_runs_are_forgotten(self, tmp_path):
        callback = ours()
        t = trainer(tmp_path, callback, max_epochs=1)
        t.validate(Module(), [loader(), loader()], verbose=False)
        assert list(callback.last_results) == [0, 1]
        t.validate(Module(), loader(), verbose=False)
        assert list(callback.last_results) == [0]
        t.fit_loop.max_epochs = 0
        t.fit(Module(), loader(), loader())
        assert callback.last_results == {}

    def test_a_graph_may_be_built_on_them(self, tmp_path):
        """`validate` and `test` run in inference mode, whose tensors would not take part."""
        callback = ours()
        module = Module()
        for stage in ("validate", "test"):
            getattr(trainer(tmp_path, callback), stage)(module, loader(), verbose=False)
            images = torch.stack(callback.last_result.images).requires_grad_()
            module(images)[:, 0].sum().backward()
            assert images.grad.abs().sum() > 0
            assert not any(one.is_inference() for one in callback.last_result.maps)


class Frozen(Module):
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def on_train_batch_start(self, batch, batch_idx):
        self.eval()  # batch norm's statistics stay, too


class Seen(Metric):
    """As users write them: states changed in place."""

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("peaks", [], dist_reduce_fx="cat")

    def update(self, saliency, targets):
        self.total += len(targets)
        self.peaks += [one.max() for one in saliency]

    def compute(self):
        self.total += 0
        return self.total


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_users_metric_works_in_inference_mode(tmp_path, stage):
    t = trainer(tmp_path, ours(metrics={"seen": Seen()}))
    for _ in range(2):  # the second resets what the first has made
        (values,) = getattr(t, stage)(Module(), loader(), verbose=False)
        assert values["sess/seen"] == values["sess/base_seen"] == 3


class Gives(Metric):
    """A metric whose value is what it is made with."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def update(self, saliency):
        pass

    def compute(self):
        return self.value


class TestValues:
    @pytest.mark.parametrize("value", [0.25, 3, True, np.float32(0.5), torch.tensor([0.75]), torch.tensor(2)])
    def test_numbers_of_every_kind_are_logged(self, tmp_path, value):
        t = run(tmp_path, ours(metrics={"mine": Gives(value)}), max_epochs=1)
        assert t.callback_metrics["sess/mine"] == float(value)

    @pytest.mark.parametrize(("value", "described"), [(torch.rand(3), r"Tensor \(3,\)"), ("good", "str"), (None, "")])
    def test_what_is_no_number_is_named(self, tmp_path, value, described):
        with pytest.warns(UserWarning, match=f"does not log metric 'mine', whose value is no number but.*{described}"):
            t = run(tmp_path, ours(metrics={"mine": Gives(value), "other": Gives(1.0)}), max_epochs=1)
        assert "sess/mine" not in t.callback_metrics
        assert t.callback_metrics["sess/other"] == 1

    @pytest.mark.parametrize("name", ["seconds", "num_samples", "valid_fraction", "overall", "base_seconds"])
    def test_names_of_our_own_are_refused(self, name):
        with pytest.raises(ValueError, match=f"'{name}' is the key of a number that SESSCallback logs"):
            SESSCallback(metrics={name: Gives(1.0)})

    @pytest.mark.parametrize("names", [("insertion", "insertion_auc"), ("mine", "base_mine")])
    def test_two_metrics_under_one_key_are_refused(self, names):
        with pytest.raises(ValueError, match=f"both '{names[0]}' and '{names[1]}'"):
            SESSCallback(metrics={name: Gives(1.0) for name in names})

    def test_a_dict_of_values_may_not_hold_them_either(self, tmp_path):
        with pytest.raises(ValueError, match="'num_samples' is the key of a number"):
            run(tmp_path, ours(metrics={"mine": Gives({"num_samples": 1.0})}), max_epochs=1)


@pytest.mark.parametrize("first", ["stopping", "checkpoint"])
def test_the_warning_of_one_monitor_is_not_lost_beside_another(tmp_path, first):
    stopping = EarlyStopping("sess/overall", strict=False, check_on_train_epoch_end=True)
    checkpoint = ModelCheckpoint(tmp_path, monitor="sess/overall")
    callbacks = [stopping, checkpoint] if first == "stopping" else [checkpoint, stopping]
    t = trainer(tmp_path, ours(), *callbacks, max_epochs=1, check_val_every_n_epoch=3, enable_checkpointing=True)
    with pytest.warns(UserWarning, match="EarlyStopping checks 'sess/overall' at the end of every epoch"):
        t.fit(Module(), loader(), loader())


class Sizes(Dataset):
    """Every second image is smaller than the others."""

    def __len__(self):
        return 8

    def __getitem__(self, i):
        return seeded(i, 3, *((24, 40) if i % 2 else (32, 32))), i % 4


def in_lists(items):
    return [image for image, _ in items], torch.tensor([label for _, label in items])


@pytest.mark.parametrize("sanity", [0, 2])
def test_images_of_several_sizes_are_each_their_own_window(tmp_path, sanity):
    """Whatever the sanity check has seen; the maps are those of SESS itself, one image at a time."""
    callback = SESSCallback(small_sess(), num_samples=8, num_images=3)
    module = Module()
    t = trainer(tmp_path, callback, max_epochs=2, num_sanity_val_steps=sanity, logger=TensorBoardLogger(tmp_path))
    t.fit(module, loader(), DataLoader(Sizes(), batch_size=4, collate_fn=in_lists))
    found = callback.last_result
    assert t.callback_metrics["sess/num_samples"] == 8
    for image, target, saliency in zip(found.images, found.targets, found.maps, strict=True):
        expected = small_sess()(module.eval(), image[None], target[None]).maps[0]
        torch.testing.assert_close(saliency, expected, rtol=0, atol=1e-5)


def test_images_in_the_file_are_explained_bit_for_bit(tmp_path, monkeypatch):
    """Two fits, one of which keeps nothing in memory."""
    found = []
    for limit in (2**30, 0):
        monkeypatch.setattr(tensor_store, "IN_MEMORY", limit)
        callback = SESSCallback(small_sess(), num_samples=9, num_images=2, metrics={"drift": SaliencyDrift()})
        pl.seed_everything(0)
        t = run(tmp_path, callback, max_epochs=3)
        found.append((callback.last_result, t.callback_metrics["sess/drift"]))
    (memory, drift), (file, same_drift) = found
    for name in ("images", "maps", "base_maps"):
        assert all(map(torch.equal, getattr(memory, name), getattr(file, name)))
    assert drift == same_drift


def test_the_normalisation_is_judged_by_a_bounded_number_of_images_once(tmp_path, monkeypatch):
    counts = []
    judge = validation.normalization_misfit
    monkeypatch.setattr(
        validation, "normalization_misfit", lambda images, *rest: counts.append(len(images)) or judge(images, *rest)
    )
    t = trainer(tmp_path, SESSCallback(small_sess(), num_samples=40, num_images=0), max_epochs=3,
                num_sanity_val_steps=0)  # fmt: skip
    t.fit(Module(), loader(), DataLoader(Pictures(count=40), batch_size=4))
    assert counts == [16]


def test_work_for_a_batch_does_not_grow_with_the_samples_before_it():
    """`due`, `follow` and the results of 20,000 samples, one a batch: quadratic work would take minutes."""
    begin = time.process_time()
    selection = SampleSelection(20_000, None, 0, 20_000)
    tracker = LoaderTracker(selection, {}, compare_base=False)
    for batch in range(20_000):
        tracker.follow(batch_to_samples((torch.zeros(1, 3, 1, 1), torch.tensor([0]))), batch, [0])
        assert tracker.due(batch, False) == [batch]
        assert selection.share(8) == 8
    tracker.begin()
    assert [tracker.due(batch, False) for batch in (0, 10, 10)] == [[0], list(range(1, 11)), []]
    assert tracker.due(11, True) == list(range(11, 20_000))
    assert time.process_time() - begin < 20


def test_the_final_table_has_a_part_for_each_loader(tmp_path):
    t = trainer(tmp_path, ours(metrics=["insertion"]), max_epochs=1)
    t.fit(Module(), loader(), [loader(), loader(seed=1)])
    lines = [line.split() for line in cli.summary(t).splitlines() if line]
    rows = ["base", "SESS", "SESS", "95", "to"]  # the last three are the gain and its interval
    assert [line[0] for line in lines] == ["sess/dataloader_idx_0", *rows, "sess/dataloader_idx_1", *rows]
    value = t.callback_metrics["sess/base_insertion_auc/dataloader_idx_1"]
    assert lines[7] == ["base", f"{float(value):.3f}"]
