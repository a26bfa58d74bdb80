"""The record that a run writes, held against docs/record.md, the callback's results and independent maps."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as TF

from sess_lightning.intervals import Interval
from sess_lightning.metrics.drift import saliency_drift
from tests.helpers.nets import seeded
from tests.helpers.record_checks import check
from tests.helpers.recording import Keeping, fit, ours
from tests.helpers.training import Module, Pictures, collate_targets, loader, small_sess, trainer


def independent(saliency, longest):
    """A tile by torchvision, as floats."""
    scale = min(1.0, longest / max(saliency.shape))
    size = [round(side * scale) for side in saliency.shape]
    return TF.resize(saliency[None], size, antialias=True)[0].clamp(0, 1).numpy() * 255


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
        target = {"masks": torch.stack([disc, torch.rand(64, 64) > 0.5]), "labels": torch.tensor([0, 2])}
        data = [(image, target) for image in seeded(0, 4, 3, 32, 32)]
        fit(tmp_path, ours(tmp_path), DataLoader(data, 2, collate_fn=collate_targets), max_epochs=1)
        sample = check(tmp_path / "sess_record")[0]["samples"][0]
        assert sample["boxes"] == []
        assert 2 <= len(sample["outlines"]) <= 9
        label, points = sample["outlines"][0]
        away = np.hypot(np.array(points[::2]) * 2 - 30.5, np.array(points[1::2]) * 2 - 34.5)
        assert label == 0
        assert np.abs(away - 20).max() < 2.5
