"""`follow=`: what is shown of the worst and the newly wrong samples; numbers and training stay as they are."""

import warnings
import weakref

import jsonargparse
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from sess_lightning import SESSCallback
from sess_lightning.callback.recording import MOST_NOTABLE
from tests.helpers.boards import events
from tests.helpers.following import (
    ALL,
    CALLS,
    CallingModule,
    Keeping,
    Reference,
    assert_as_the_plain_loop,
    data,
    finding,
    fit,
    numbers,
    ours,
)
from tests.helpers.nets import seeded
from tests.helpers.record_checks import check
from tests.helpers.training import loader, small_sess, trainer


class TestNothingElseChanges:
    @pytest.mark.parametrize("name", ["self(x)", "self.net(x)", "two calls, the plain one first"])
    def test_numbers_and_forwards_are_the_same(self, tmp_path, name):
        runs = []
        for follow in ("random", ALL):
            callback = finding(tmp_path / str(len(runs)), follow, intervals=True)
            t, module, _ = fit(tmp_path, callback, CALLS[name])
            logged = {key: value for key, value in t.callback_metrics.items() if key != "sess/seconds"}
            _, lines, maps = check(tmp_path / str(len(runs)) / "sess_record")
            runs.append((logged, module.forwards, module.state_dict(), callback.state_dict(), lines, maps))
        (logged, forwards, weights, state, lines, maps), (others, *more, other_lines, other_maps) = runs
        assert {k: float(v) for k, v in logged.items()} == {k: float(v) for k, v in others.items()}
        assert forwards == more[0]
        assert all(torch.equal(one, more[1][key]) for key, one in weights.items())
        assert state == more[2]
        for line, other, tiles, other_tiles in zip(lines, other_lines, maps, other_maps, strict=True):
            for column, values in line["samples"].items():
                assert other["samples"][column][:5] == values
            assert line["intervals"] == other["intervals"]
            assert all((one == two).all() for one, two in zip(tiles["sess"], other_tiles["sess"][:5], strict=True))

    def test_the_networks_forwards(self, tmp_path):
        """Before anything is explained only those of the steps, and one of one image that finds the logits."""
        counts = []
        for follow in ("random", ALL):
            module = CallingModule()
            listened = []
            module.net.register_forward_pre_hook(lambda net, args, kept=listened: kept.append(len(args[0])))
            explain, seen = Keeping._explain, []

            def before(self, *arguments, listened=listened, seen=seen, explain=explain):
                seen.append(list(listened))
                explain(self, *arguments)
                listened.clear()

            callback = finding(tmp_path, follow, num_samples=1, indices=[0])
            callback._explain = before.__get__(callback)
            images, labels = data()
            trainer(tmp_path, callback).validate(
                module, DataLoader(TensorDataset(images, labels), batch_size=4), verbose=False
            )
            counts.append(seen)
        plain, followed = counts
        assert plain == [[4]] * 5 + [[2]]
        assert followed == [[1, 4], *[[4]] * 4, [2]]

    def test_no_hook_and_no_image_stays(self, tmp_path):
        kept = []

        class Watch(Callback):
            def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
                kept.append(weakref.ref(batch[0]))

            def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
                assert hooks(pl_module) == 0  # this one comes behind ours

        def hooks(module):
            return sum(len(one._forward_hooks) + len(one._forward_pre_hooks) for one in module.modules())

        callback, module = finding(tmp_path), CallingModule()
        images, labels = data()
        t = trainer(tmp_path, callback, Watch())
        t.fit(module, loader(count=16), DataLoader(TensorDataset(images, labels), batch_size=4))
        assert hooks(module) == 0
        assert not any(one() is not None for one in kept[:-1])

    def test_no_hook_stays_after_a_step_that_fails(self, tmp_path):
        def call(module, x):
            module(x)
            raise RuntimeError("planted")

        callback, module = finding(tmp_path), CallingModule(call)
        with pytest.raises(RuntimeError, match="planted"):
            trainer(tmp_path, callback).validate(module, loader(), verbose=False)
        assert not any(one._forward_hooks or one._forward_pre_hooks for one in module.modules())

    def test_another_callback_that_explains_is_not_listened_to(self, tmp_path):
        """It explains while the hooks of the first are still there."""
        second = finding(tmp_path / "b", prefix="b", sess=small_sess(step_size=8))
        first = finding(tmp_path / "a")
        images, labels = data()
        reference = Reference(images, labels)
        call = CALLS["self.net(x)"]
        torch.manual_seed(3)
        t = trainer(tmp_path, reference, second, first)
        t.fit(CallingModule(call), loader(count=16), DataLoader(TensorDataset(images, labels), batch_size=4))
        assert_as_the_plain_loop(first, reference)
        assert_as_the_plain_loop(second, reference)


class TestWhatIsShown:
    def test_pictures_and_the_record(self, tmp_path):
        callback = ours(tmp_path, num_images=6)
        t, _, reference = fit(tmp_path, callback, max_epochs=6, logger=TensorBoardLogger(tmp_path, name="board"))
        board = events(t.logger.log_dir)
        assert len(board.Images("sess/worst")) == 6
        changed = [number for number in range(6) if reference.new_errors(number, 6)]
        assert len(board.Images("sess/new_errors")) == len(changed) > 0
        record, lines, _ = check(tmp_path / "sess_record")
        followed = {record["samples"][number]["id"] for number in range(5)}
        for number, line in enumerate(lines):
            kinds = dict(zip(line["samples"]["sample"], line["samples"]["kind"], strict=True))
            assert [kinds[i].split()[0] for i in range(5)] == ["random"] * 5
            for word, wanted in (("worst", reference.worst), ("new_error", reference.new_errors)):
                expected = wanted(number, MOST_NOTABLE)
                shown = [i for i, kind in kinds.items() if word in kind.split()]
                names = {record["samples"][i]["name"] for i in shown}
                assert names == {f"batch {i // 4}, number {i % 4}" for i in expected}
        assert len({one["id"] for one in record["samples"]}) == len(record["samples"])
        assert len(followed) == 5

    def test_without_follow_there_is_no_column(self, tmp_path):
        fit(tmp_path, finding(tmp_path, "random"))
        _, lines, _ = check(tmp_path / "sess_record")
        assert not any("kind" in line["samples"] for line in lines)

    def test_a_resumed_run_appends(self, tmp_path):
        saving = ModelCheckpoint(tmp_path / "saved", "{epoch}", save_top_k=-1)
        images, labels = data()
        validation = DataLoader(TensorDataset(images, labels), batch_size=4)
        torch.manual_seed(3)
        t = trainer(tmp_path, finding(tmp_path), saving, enable_checkpointing=True, max_epochs=2)
        t.fit(CallingModule(), loader(count=16), validation)
        t = trainer(tmp_path, finding(tmp_path), max_epochs=4)
        t.fit(CallingModule(), loader(count=16), validation, ckpt_path=tmp_path / "saved" / "epoch=1.ckpt")
        assert [line["number"] for line in check(tmp_path / "sess_record")[1]] == [0, 1, 2, 3]

    def test_pictures_where_they_are_due_only(self, tmp_path):
        callback = ours(tmp_path, every_n_epochs=2, record=False)
        t, _, reference = fit(tmp_path, callback, max_epochs=5, logger=TensorBoardLogger(tmp_path, name="board"))
        board = events(t.logger.log_dir)
        assert [event.step for event in board.Images("sess/worst")] == [4, 12, 20]
        # What was right is known of every validation, also of those that show nothing.
        for number in (0, 2, 4):
            found = callback.kept[number].found["new_errors"]
            assert numbers(found, reference.images) == reference.new_errors(number, 3)

    def test_no_time_is_left(self, tmp_path):
        callback = ours(tmp_path, max_seconds=1e-6)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is time for one sample
            t, _, _ = fit(tmp_path, callback, max_epochs=1)
        assert t.callback_metrics["sess/num_samples"] == 1
        assert not len(callback.kept[0].found["worst"])

    def test_a_failure_skips_the_validation_and_warns(self, tmp_path):
        class Fails(Keeping):
            def _explain_run(self, *arguments):
                if hasattr(self, "kept"):
                    raise OSError("planted")
                super()._explain_run(*arguments)

        callback = Fails(small_sess(), num_samples=3, num_images=2, save_dir=str(tmp_path), follow=ALL)
        with pytest.warns(UserWarning, match="skips this validation"):
            t, _, _ = fit(tmp_path, callback)
        assert t.current_epoch == 3
        assert len(callback.kept) == 1


class TestTheArgument:
    @pytest.mark.parametrize("follow", ["worst", ("worst",), (), ["random", "best"], 3, {"random"}, ("random", None)])
    def test_what_is_refused(self, follow):
        with pytest.raises(ValueError, match=r"Expected argument `follow`.*'random', 'worst', 'new_errors'"):
            SESSCallback(follow=follow)

    @pytest.mark.parametrize("follow", ["random", ["random", "worst", "worst"], ("new_errors", "random")])
    def test_what_is_taken(self, follow):
        kinds = (follow,) if isinstance(follow, str) else tuple(dict.fromkeys(follow))
        assert SESSCallback(follow=follow).follow == kinds

    def test_in_yaml(self, tmp_path):
        parser = jsonargparse.ArgumentParser()
        parser.add_argument("--config", action="config")
        parser.add_class_arguments(SESSCallback, "watch")
        (tmp_path / "config.yaml").write_text("watch:\n  follow: [random, worst]\n")
        arguments = parser.parse_args([f"--config={tmp_path / 'config.yaml'}"])
        assert parser.instantiate_classes(arguments).watch.follow == ("random", "worst")

    def test_photos_alone_have_no_batches(self):
        with pytest.raises(ValueError, match=r"`follow`.*photos alone.*dataloaders="):
            SESSCallback(follow=ALL, photos=[(seeded(0, 3, 8, 8), 0)])

    def test_nothing_is_listened_to_without_pictures(self, tmp_path):
        callback = ours(tmp_path, num_images=0)
        fit(tmp_path, callback)
        assert callback._notable == {}
        assert callback.kept == [None] * 3
