"""The record that a run writes, held against docs/record.md, the callback's results and independent maps."""

import errno
import json
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as TF

from sess_lightning import SESSCallback
from sess_lightning.callback import recording
from sess_lightning.intervals import Interval
from sess_lightning.metrics.drift import saliency_drift
from sess_lightning.viewer import files
from sess_lightning.viewer import record as writing
from tests.helpers.nets import seeded
from tests.helpers.processes import run_in_two, started
from tests.helpers.record_checks import check, read, whole_lines
from tests.helpers.training import Module, Pictures, collate_targets, loader, small_sess, trainer


def ours(folder, **options):
    return SESSCallback(
        options.pop("sess", None) or small_sess(),
        **{"num_samples": 5, "num_images": 2, "save_dir": str(folder), **options},
    )


def fit(folder, callback, validation=None, ckpt_path=None, module=None, **options):
    torch.manual_seed(3)
    t = trainer(folder, *(callback if isinstance(callback, list) else [callback]), **options)
    t.fit(module or Module(), loader(), loader("targets") if validation is None else validation, ckpt_path=ckpt_path)
    return t


def independent(saliency, longest):
    """A tile by torchvision, as floats."""
    scale = min(1.0, longest / max(saliency.shape))
    size = [round(side * scale) for side in saliency.shape]
    return TF.resize(saliency[None], size, antialias=True)[0].clamp(0, 1).numpy() * 255


class Keeping(SESSCallback):
    """Keeps what every validation found and logged."""

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            kept = self.__dict__.setdefault("kept", [])
            logged = {k.removeprefix("sess/"): float(v) for k, v in trainer.callback_metrics.items() if "sess/" in k}
            kept.append((self.last_result, logged, self.last_intervals[0]))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit")
    callback = Keeping(small_sess(), num_samples=5, num_images=2, save_dir=str(folder), every_n_epochs=2,
                       class_names=["<b>a</b>", "b\u2028", "c", "d"])  # fmt: skip
    fit(folder, callback, max_epochs=3)
    return check(folder / "sess_record"), callback.kept, folder


class TestFit:
    def test_every_validation_has_a_line_with_what_was_logged(self, kept):
        (_, lines, _), found, _ = kept
        assert [(line["number"], line["epoch"], line["step"]) for line in lines] == [(0, 0, 3), (1, 1, 6), (2, 2, 9)]
        for line, (_, logged, intervals) in zip(lines, found, strict=True):
            assert line["values"] == pytest.approx(logged, rel=1e-5)
            assert {name: Interval(*one) for name, one in line["intervals"].items()} == intervals

    def test_samples_are_those_of_the_callback_in_its_order(self, kept):
        (record, lines, _), found, _ = kept
        result = found[0][0]
        assert lines[0]["samples"]["sample"] == [0, 1, 2, 3, 4]
        assert [one["label"] for one in record["samples"]] == result.labels.tolist()
        names = [f"batch {batch}, number {position}" for _, batch, position in result.places]
        assert [one["name"] for one in record["samples"]] == names
        assert record["class_names"]["0"] == "<b>a</b>"
        boxes = [[label, 2, 3, 30, 29] for label in result.labels.tolist()]
        assert [one["boxes"] for one in record["samples"]] == [[box] for box in boxes]
        assert {one["annotated"] for one in record["samples"]} == {True}
        for sample, windows in zip(record["samples"], result.windows, strict=True):
            assert record["windows"][sample["windows"]] == windows.tolist()

    def test_columns_are_the_results(self, kept):
        (_, lines, _), found, _ = kept
        for line, (result, logged, _) in zip(lines, found, strict=True):
            columns = line["samples"]
            for name, values in (("target", result.targets), ("prediction", result.predictions),
                                 ("valid", result.valid), ("base_valid", result.base_valid)):  # fmt: skip
                assert columns[name] == values.tolist()
            assert columns["score"] == pytest.approx(result.scores.tolist(), abs=1e-4)
            assert columns["hit"] == result.hits
            assert columns["base_hit"] == result.base_hits
            for name in ("insertion_auc", "base_deletion_auc"):
                assert np.mean(columns[name]) == pytest.approx(logged[name], abs=1e-4)
            for name, maps in (("peak", result.maps), ("base_peak", result.base_maps)):
                peaks = [np.unravel_index(int(np.argmax(one)), one.shape) for one in maps]
                assert columns[name] == [[x, y] for y, x in peaks]

    def test_tiles_are_the_maps(self, kept):
        (_, _, maps), found, _ = kept
        for tiles, (result, _, _) in zip(maps, found, strict=True):
            for kind, values in (("sess", result.maps), ("base", result.base_maps), ("second", result.second_maps)):
                for tile, saliency in zip(tiles[kind], values, strict=True):
                    assert (tile is None) == (saliency is None)
                    if tile is not None:
                        assert np.abs(tile - independent(saliency, 96)).max() <= 0.51

    def test_second_maps_are_there_where_they_are_drawn(self, kept):
        (_, lines, _), found, _ = kept
        assert lines[1]["samples"]["second"] == [None] * 5  # every second validation is drawn
        for line, (result, _, _) in zip(lines[::2], found[::2], strict=True):
            wrong = result.predictions != result.labels
            expected = [int(one) if is_wrong else None for one, is_wrong in zip(result.predictions, wrong, strict=True)]
            assert line["samples"]["second"] == [*expected[:2], None, None, None]

    def test_drift_is_that_of_the_maps_before(self, kept):
        (_, lines, _), found, _ = kept
        assert lines[0]["samples"]["drift"] == [None] * 5
        for number in (1, 2):
            expected = saliency_drift(found[number][0].maps, found[number - 1][0].maps).tolist()
            assert lines[number]["samples"]["drift"] == pytest.approx(expected, abs=2e-3)

    def test_a_hit_has_its_peak_in_reach_of_a_box(self, kept):
        (record, lines, _), _, _ = kept
        for line in lines:
            for number, (x, y), hit in zip(*(line["samples"][name] for name in ("sample", "peak", "hit")), strict=True):
                _, x1, y1, x2, y2 = record["samples"][number]["boxes"][0]
                away = np.hypot(max(x1 - x, 0, x - x2 + 1), max(y1 - y, 0, y - y2 + 1))
                assert hit == (away < record["tolerance"])

    def test_scores_are_those_of_the_windows(self, kept):
        (_, lines, _), found, folder = kept
        for line, (result, _, _) in zip(lines, found, strict=True):
            scores = json.loads((folder / "sess_record" / line["scores"]).read_text())["scores"]
            for row, expected in zip(scores, result.patch_scores, strict=True):
                assert row == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize("options", [{"record": False}, {"num_images": 0}, {"save_dir": None}])
def test_nothing_is_written_where_nothing_is_reported(tmp_path, options):
    fit(tmp_path, ours(tmp_path, **options), max_epochs=1)
    assert not list(tmp_path.rglob("*record*"))


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {"limit_train_batches": 0, "num_sanity_val_steps": 2}])
def test_rehearsals_leave_nothing(tmp_path, options):
    fit(tmp_path, ours(tmp_path), **options)
    assert not list(tmp_path.rglob("*record*"))


def test_the_folder_of_a_logger(tmp_path):
    t = fit(tmp_path, ours(tmp_path, save_dir=None), max_epochs=1, logger=CSVLogger(tmp_path))
    check(Path(t.logger.log_dir) / "sess_record")


class TestRuns:
    def test_a_resumed_run_appends(self, tmp_path):
        saving = ModelCheckpoint(tmp_path / "saved", "{epoch}", save_top_k=-1)
        fit(tmp_path, [ours(tmp_path), saving], max_epochs=3, enable_checkpointing=True)
        folder = tmp_path / "sess_record"
        before, (about, _, maps) = whole_lines(folder), read(folder)
        with open(folder / "validations.jsonl", "ab") as file:
            file.write(b'{"number":3,"epo')  # a process that was killed in it
        callback = Keeping(small_sess(), num_samples=5, num_images=2, save_dir=str(tmp_path))
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
        callback = Later(small_sess(), num_samples=5, num_images=2, save_dir=str(tmp_path))
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


class TestImages:
    @pytest.mark.parametrize(("channels", "bands"), [(1, None), (12, (3, 2, 1)), (12, None)])
    def test_other_than_three_channels(self, tmp_path, channels, bands):
        data = list(zip(seeded(0, 6, channels, 32, 32), torch.arange(6) % 4, strict=True))

        class Wide(Module):
            def training_step(self, batch, batch_idx):
                return self.net.parameters().__next__().sum()

        options = {} if channels == 1 else {"mean": (0.5,), "std": (0.5,)}
        callback = ours(tmp_path, bands=bands, **{"mean": (0.5,), "std": (0.5,), **options})
        torch.manual_seed(0)
        t = trainer(tmp_path, callback, max_epochs=1)
        t.fit(Wide(channels=channels), DataLoader(data, batch_size=3), DataLoader(data, batch_size=3))
        check(tmp_path / "sess_record")

    def test_maps_without_information(self, tmp_path):
        def flat(model, images, targets):
            return torch.full_like(images[:, 0], float("nan"))

        with pytest.warns(UserWarning, match="only constant"):
            fit(tmp_path, ours(tmp_path, sess=small_sess(flat)), max_epochs=2)
        _, lines, maps = check(tmp_path / "sess_record")
        for line in lines:
            columns = line["samples"]
            assert columns["valid"] == columns["base_valid"] == [False] * 5
            assert columns["peak"] == columns["drift"] == [None] * 5
            assert columns["hit"] == [False] * 5
        assert not any(tile.any() for tile in maps[1]["sess"])

    def test_more_samples_than_are_recorded(self, tmp_path):
        callback = ours(tmp_path, num_samples=70, metrics=["pointing"])
        fit(tmp_path, callback, loader("targets", count=80), max_epochs=1)
        record, lines, _ = check(tmp_path / "sess_record")
        assert len(record["samples"]) == len(lines[0]["samples"]["sample"]) == 64
        assert lines[0]["values"]["num_samples"] == 70
        assert lines[0]["samples"]["hit"] == callback.last_result.hits[:64]

    def test_an_image_that_comes_twice(self, tmp_path):
        pictures = Pictures("targets")
        twice = [pictures[i] for i in (0, 1, 0, 0)]
        fit(tmp_path, ours(tmp_path, num_samples=4), DataLoader(twice, 2, collate_fn=collate_targets), max_epochs=1)
        ids = [one["id"] for one in check(tmp_path / "sess_record")[0]["samples"]]
        assert ids == [ids[0], ids[1], f"{ids[0]}-2", f"{ids[0]}-3"]

    def test_masks_become_outlines(self, tmp_path):
        y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
        disc = (x - 30) ** 2 + (y - 34) ** 2 < 400
        target = {"masks": torch.stack([disc, torch.rand(64, 64) > 0.5]), "labels": torch.tensor([1, 2])}
        data = [(image, target) for image in seeded(0, 4, 3, 32, 32)]
        fit(tmp_path, ours(tmp_path), DataLoader(data, 2, collate_fn=collate_targets), max_epochs=1)
        sample = check(tmp_path / "sess_record")[0]["samples"][0]
        assert sample["boxes"] == []
        assert 2 <= len(sample["outlines"]) <= 9
        label, points = sample["outlines"][0]
        away = np.hypot(np.array(points[::2]) * 2 - 30.5, np.array(points[1::2]) * 2 - 34.5)
        assert label == 1
        assert np.abs(away - 20).max() < 2.5


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
