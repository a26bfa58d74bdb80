"""Which record a run writes: resumed, killed, second, several loaders and processes, failures."""

import errno
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from sess_lightning.callback import recording
from sess_lightning.metrics import PointingGame
from sess_lightning.metrics.drift import saliency_drift
from sess_lightning.viewer import files
from sess_lightning.viewer import record as writing
from tests.helpers.nets import seeded
from tests.helpers.processes import run_in_two, started
from tests.helpers.record_checks import check, read, whole_lines
from tests.helpers.recording import Keeping, fit, ours
from tests.helpers.training import Module, loader, small_sess, trainer


class TestRuns:
    def test_a_resumed_run_appends(self, tmp_path):
        saving = ModelCheckpoint(tmp_path / "saved", "{epoch}", save_top_k=-1)
        fit(tmp_path, [ours(tmp_path), saving], max_epochs=3, enable_checkpointing=True)
        folder = tmp_path / "sess_record"
        before, (about, _, maps) = whole_lines(folder), read(folder)
        with open(folder / "validations.jsonl", "ab") as file:
            file.write(b'{"number":3,"epo')  # a process that was killed in it
        callback = ours(tmp_path, Keeping)
        fit(tmp_path, callback, max_epochs=4, ckpt_path=tmp_path / "saved" / "epoch=1.ckpt")
        again, lines, _ = check(folder)
        assert again == about
        assert lines[:3] == before
        assert [(line["number"], line["step"]) for line in lines[3:]] == [(3, 9), (4, 12)]
        earlier = [torch.from_numpy(one.astype(np.float32)) / 255 for one in maps[1]["sess"]]  # step 6, not step 9
        expected = saliency_drift(callback.kept[0][0].maps, earlier).tolist()
        assert lines[3]["samples"]["drift"] == pytest.approx(expected, abs=2e-3)
        assert not (tmp_path / "sess_record-v1").exists()

    @pytest.mark.parametrize("options", [{"seed": 1}, {"sess": small_sess(step_size=8)}])
    def test_a_resumed_run_of_other_samples_or_windows_has_its_own(self, tmp_path, options):
        saving = ModelCheckpoint(tmp_path / "saved", "{epoch}")
        fit(tmp_path, [ours(tmp_path), saving], max_epochs=1, enable_checkpointing=True)
        first = (tmp_path / "sess_record" / "validations.jsonl").read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that samples are chosen anew
            fit(tmp_path, ours(tmp_path, **options), max_epochs=2, ckpt_path=saving.best_model_path)
        assert len(check(tmp_path / "sess_record-v1")[1]) == 1
        assert (tmp_path / "sess_record" / "validations.jsonl").read_bytes() == first

    def test_what_chance_scores_is_counted_from_the_boxes(self, tmp_path):
        """In NumPy: pixels nearer than the tolerance to a pixel of a box of the label."""
        fit(tmp_path, ours(tmp_path, metrics={"pointing": PointingGame(tolerance=3)}), max_epochs=1)
        about, _, _ = check(tmp_path / "sess_record")
        shares = []
        for sample in about["samples"]:
            y, x = np.mgrid[: sample["height"], : sample["width"]]
            near = np.zeros(y.shape, dtype=bool)
            for label, x1, y1, x2, y2 in sample["boxes"]:
                if label == sample["label"]:
                    dx = np.maximum(0, np.maximum(np.floor(x1) - x, x - (np.ceil(x2) - 1)))
                    dy = np.maximum(0, np.maximum(np.floor(y1) - y, y - (np.ceil(y2) - 1)))
                    near |= dx**2 + dy**2 < 9
            shares.append(near.mean())
        assert about["no_skill"] == {"pointing_acc": pytest.approx(np.mean(shares), abs=1e-5)}
        assert 0 < np.mean(shares) < 1

    def test_without_boxes_chance_is_not_known(self, tmp_path):
        fit(tmp_path, ours(tmp_path), validation=loader("labels"), max_epochs=1)
        assert check(tmp_path / "sess_record")[0]["no_skill"] == {}

    def test_a_second_fit_has_its_own(self, tmp_path):
        t = fit(tmp_path, ours(tmp_path), max_epochs=1)
        first = {path: path.read_bytes() for path in (tmp_path / "sess_record").rglob("*") if path.is_file()}
        t.fit_loop.max_epochs = 3
        t.fit(Module(), loader(), loader("targets"))
        assert {path: path.read_bytes() for path in first} == first
        assert [line["epoch"] for line in check(tmp_path / "sess_record-v1")[1]] == [1, 2]
        fit(tmp_path, ours(tmp_path), max_epochs=1)
        check(tmp_path / "sess_record-v2")

    def test_validate_and_test_have_their_own(self, tmp_path):
        t = trainer(tmp_path, ours(tmp_path))
        for _ in range(2):
            t.validate(Module(), loader("targets"), verbose=False)
        t.test(Module(), loader("labels"), verbose=False)
        assert {path.name for path in tmp_path.glob("*record*")} == {
            "sess_validate_record", "sess_validate_record-v1", "sess_test_record"
        }  # fmt: skip
        for stage in ("validate", "test"):
            record, lines, _ = check(tmp_path / f"sess_{stage}_record")
            assert record["stage"] == stage
            assert len(lines) == 1
        assert {one["annotated"] for one in record["samples"]} == {False}
        assert lines[0]["samples"]["hit"] == [None] * 5

    def test_two_callbacks_and_several_loaders(self, tmp_path):
        callbacks = [ours(tmp_path), ours(tmp_path, prefix="a/b", compare_base=False, dataloaders=[1], metrics=[])]
        fit(tmp_path, callbacks, [loader("targets"), loader("labels", seed=1)], max_epochs=2)
        folders = {"sess_dataloader_idx_0_record", "sess_dataloader_idx_1_record", "a_b_dataloader_idx_1_record"}
        assert {path.name for path in tmp_path.glob("*record*")} == folders
        records = {name: check(tmp_path / name) for name in folders}
        parts = {name: (record["prefix"], record["part"]) for name, (record, _, _) in records.items()}
        assert parts["a_b_dataloader_idx_1_record"] == ("a/b", "dataloader_idx_1")
        ids = {name: {one["id"] for one in record["samples"]} for name, (record, _, _) in records.items()}
        assert ids["sess_dataloader_idx_1_record"] == ids["a_b_dataloader_idx_1_record"]
        assert not ids["sess_dataloader_idx_0_record"] & ids["sess_dataloader_idx_1_record"]
        _, lines, maps = records["a_b_dataloader_idx_1_record"]
        assert maps[0]["base"] == [None] * 5
        assert not [name for name in lines[0]["samples"] if "base" in name or "auc" in name]

    def test_photos_beside_batches(self, tmp_path):
        photos = [(image, label) for image, label in zip(seeded(5, 3, 3, 40, 32), range(3), strict=True)]
        fit(tmp_path, ours(tmp_path, photos=photos, dataloaders=[0]), max_epochs=1)
        record, _, _ = check(tmp_path / "sess_photos_record")
        assert [(one["name"], one["width"], one["height"]) for one in record["samples"]] == [
            (str(number), 32, 40) for number in range(3)
        ]
        check(tmp_path / "sess_record")


def killed(folder):
    torch.set_num_threads(1)
    fit(Path(folder), ours(folder), max_epochs=10_000)


def test_a_run_that_is_killed_can_be_read(tmp_path):
    process = started(killed, str(tmp_path))
    deadline = time.monotonic() + 120
    while len(whole_lines(tmp_path / "sess_record")) < 4:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    record, lines, _ = read(tmp_path / "sess_record")
    assert [line["number"] for line in lines] == list(range(len(lines)))
    assert len(record["samples"]) == 5


def both(rank, folder):
    torch.set_num_threads(1)
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", WORLD_SIZE="2")
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    fit(Path(folder), ours(folder, num_samples=7), loader("targets", count=24), max_epochs=2, strategy="ddp", devices=2)
    if rank == 1:  # what fails on another process is told on rank 0
        recording.jpeg = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(
            Path(folder) / "fails",
            ours(Path(folder) / "fails"),
            loader("targets"),
            max_epochs=2,
            strategy="ddp",
            devices=2,
        )
    torch.save([str(one.message) for one in caught], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes(tmp_path):
    run_in_two(both, str(tmp_path))
    record, lines, _ = check(tmp_path / "sess_record")
    assert len(lines) == 2
    assert [one["name"][: len("process 0")] for one in record["samples"]] == [f"process {i % 2}" for i in range(7)]
    assert lines[1]["samples"]["sample"] == list(range(7))
    assert all(one is not None for one in lines[1]["samples"]["drift"])
    told = [one for one in torch.load(tmp_path / "0.pt") if "could not write its record" in one]
    assert len(told) == 1
    assert "NoneType" in told[0]
    assert not list((tmp_path / "fails").glob("*record*"))


class TestFailures:
    @pytest.mark.parametrize("where", ["replace", "mkdir", "append"])
    def test_a_full_disk_warns_once_and_costs_the_lines(self, tmp_path, monkeypatch, where):
        def full(*arguments, **options):
            if full.on:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(*arguments, **options)

        class Later(Keeping):
            def on_validation_start(self, trainer, pl_module):
                full.on = trainer.current_epoch in (0, 1, 3)
                super().on_validation_start(trainer, pl_module)

        def full_for_records(path, *arguments, **options):
            return (full if "record" in str(path) else real)(path, *arguments, **options)

        owner, name, broken = {
            "replace": (files.os, "replace", full),
            "mkdir": (Path, "mkdir", full_for_records),
            "append": (writing, "append_line", full),
        }[where]
        real, full.on = getattr(owner, name), False
        monkeypatch.setattr(owner, name, broken)
        callback = ours(tmp_path, Later)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            t = fit(tmp_path, callback, max_epochs=5)
        assert t.current_epoch == 5
        assert len(callback.kept) == 5
        told = [str(one.message) for one in caught if "No space left" in str(one.message)]
        assert len(told) == 1
        assert "SESSCallback could not write its record" in told[0]
        assert [line["epoch"] for line in check(tmp_path / "sess_record")[1]] == [2, 4]

    def test_it_raises_where_drawing_does(self, tmp_path, monkeypatch):
        monkeypatch.setattr(recording, "tile", None)
        with pytest.raises(RuntimeError, match="NoneType"):
            fit(tmp_path, ours(tmp_path, on_error="raise"), max_epochs=1)
        with pytest.warns(UserWarning, match="could not write its record"):
            fit(tmp_path, ours(tmp_path), max_epochs=1)

    def test_a_page_that_fails(self, tmp_path, monkeypatch):
        calls = []

        def write_report(folders, out, **options):
            calls.append(([folder.name for folder in folders], out))
            assert all(whole_lines(folder) for folder in folders)
            if len(calls) > 1:
                raise OSError("planted")

        monkeypatch.setattr("sess_lightning.callback.recording.write_report", write_report)
        for version in ("", "-v1"):
            with pytest.warns(UserWarning, match="could not write the page of its record") as told:
                fit(tmp_path, ours(tmp_path, on_error="raise"), [loader("targets"), loader("labels")], max_epochs=4)
            assert len([one for one in told if "could not write" in str(one.message)]) == 1
            folders = [f"sess_dataloader_idx_{number}_record{version}" for number in range(2)]
            assert calls == [(folders, tmp_path / f"sess_report{version}.html")] * 4
            calls.clear()

    def test_a_damaged_record_is_left_alone(self, tmp_path):
        saving = ModelCheckpoint(tmp_path / "saved", "{epoch}")
        fit(tmp_path, [ours(tmp_path), saving], max_epochs=1, enable_checkpointing=True)
        (tmp_path / "sess_record" / "record.json").write_text("[1")
        fit(tmp_path, ours(tmp_path), max_epochs=2, ckpt_path=saving.best_model_path)
        check(tmp_path / "sess_record-v1")


class TestLoggersThatShowPages:
    def test_at_the_end_of_each_stage(self, tmp_path, monkeypatch):
        sent = []

        def log_report(loggers, tag, file, step):
            sent.append((tag, file.name, step, len(whole_lines(file.parent / "sess_record"))))

        monkeypatch.setattr("sess_lightning.callback.recording.log_report", log_report)
        mine = ours(tmp_path)
        t = fit(tmp_path, mine, max_epochs=2)
        assert sent == [("sess/report", "sess_report.html", t.global_step, 2)]
        t.validate(t.lightning_module, loader("targets"), verbose=False)
        assert [(tag, name) for tag, name, *_ in sent[1:]] == [("sess/report", "sess_validate_report.html")]

    def test_after_a_failure_too_and_never_instead_of_it(self, tmp_path, monkeypatch):
        class Breaks(Callback):
            def on_train_epoch_end(self, trainer, pl_module):
                raise KeyError("planted")

        def log_report(loggers, tag, file, step):
            raise OSError("no network")

        monkeypatch.setattr("sess_lightning.callback.recording.log_report", log_report)
        with pytest.raises(KeyError, match="planted"), pytest.warns(UserWarning, match="to a logger.*no network"):
            fit(tmp_path, [ours(tmp_path), Breaks()], max_epochs=2)
