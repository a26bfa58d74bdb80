"""What TensorBoard is told beside the numbers: pictures, charts, text, read back from the event files."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from torch.utils.data import DataLoader

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.explainer import Explained
from sess_lightning.callback.sample_rows import DisplayOptions, map_rows
from sess_lightning.metrics import PointingGame, SaliencyDrift, perturbation_curve
from sess_lightning.render import charts, map_grid
from sess_lightning.render.page import BoardLayout
from tests.helpers.boards import METRICS, callback, events, fit, layout, pictures, scenes, text
from tests.helpers.figures import record_figures, words
from tests.helpers.training import Module, loader, trainer

DRAWN = ["sess/maps", "sess/curves", "sess/pointing_per_class"]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A fit of three epochs: callback, events, folder of the logs."""
    ours = callback()
    t = fit(tmp_path_factory.mktemp("watched"), ours)
    return ours, events(t.logger.log_dir), t.logger.log_dir


def test_one_tag_each_and_one_picture_an_epoch(watched):
    _, board, _ = watched
    assert sorted(board.Tags()["images"]) == sorted([*DRAWN, "sess/evolution"])
    for tag in DRAWN:
        assert [image.step for image in board.Images(tag)] == [3, 6, 9]
    assert [image.step for image in board.Images("sess/evolution")] == [9]


def test_the_column_of_the_prediction_is_there_when_a_drawn_sample_is_wrong(watched):
    ours, board, _ = watched
    found = ours.last_result.part(0, 4)
    wrong = (found.predictions != found.labels).tolist()
    assert [saliency is not None for saliency in found.second_maps] == wrong
    assert all(saliency is None for saliency in ours.last_result.second_maps[4:])
    assert any(wrong)
    page = BoardLayout(224, 224, 4)
    assert pictures(board, "sess/maps")[9].shape[1] == page.column(4)


@pytest.mark.parametrize(("target", "shown"), [("label", "predictions"), ("predicted", "labels")])
def test_the_second_map_is_that_of_the_other_class(tmp_path, target, shown):
    """SESS itself, asked for that class, gives the same."""
    ours, module = callback(target=target), Module(num_classes=3)
    t = trainer(tmp_path, ours, logger=TensorBoardLogger(tmp_path))
    t.validate(module, datamodule=scenes(), verbose=False)
    found = ours.last_result
    number = next(i for i, saliency in enumerate(found.second_maps) if saliency is not None)
    image = found.images[number][None]
    expected = ours.sess(module, image, getattr(found, shown)[number][None]).maps[0]
    torch.testing.assert_close(found.second_maps[number], expected, rtol=0, atol=1e-6)
    assert not torch.equal(found.second_maps[number], found.maps[number])


def test_second_maps_change_no_number(tmp_path):
    values = []
    for num_images in (0, 4):
        t = trainer(tmp_path, callback(num_images=num_images), logger=TensorBoardLogger(tmp_path))
        values.append(t.validate(Module(num_classes=3), datamodule=scenes(), verbose=False)[0])
    assert values[0].keys() == values[1].keys()
    for key in values[0].keys() - {"sess/seconds"}:
        assert values[0][key] == values[1][key], key


@pytest.mark.parametrize("tolerance", [0, 6])
def test_verdicts_drawn_are_those_counted(tmp_path, tolerance):
    """The share of hits in the pictures' rows is the metric, and the circle is the tolerance."""
    ours = callback(metrics={"pointing": PointingGame(tolerance=tolerance)}, num_images=6)
    t = trainer(tmp_path, ours, logger=TensorBoardLogger(tmp_path))
    t.validate(Module(num_classes=3), datamodule=scenes(), verbose=False)
    found = ours.last_result
    assert t.callback_metrics["sess/pointing_acc"] == pytest.approx(np.mean(found.hits))
    assert t.callback_metrics["sess/base_pointing_acc"] == pytest.approx(np.mean(found.base_hits))
    rows = map_rows(found, ours.reporter.display)
    assert [row.hit for row in rows] == found.hits
    assert {row.tolerance for row in rows} == {tolerance}


def test_the_curves_are_those_behind_the_areas(tmp_path, monkeypatch):
    """Against the function itself on the same maps; the line begins and ends where the curve does."""
    figures = record_figures(monkeypatch)
    ours, module = callback(sess=SESS(num_scales=2, window_size=None)), Module(num_classes=3)
    t = trainer(tmp_path, ours, logger=TensorBoardLogger(tmp_path))
    t.validate(module, datamodule=scenes(), verbose=False)
    found = ours.last_result
    images, maps = torch.stack(found.images), torch.stack(found.maps)
    with torch.no_grad():
        expected = perturbation_curve(module.eval(), images, maps, found.targets, "insertion", steps=7).mean(0)
    curve, area = ours._trackers[0].curves(t.strategy)["insertion"]["SESS"]
    torch.testing.assert_close(curve, expected)
    assert area == pytest.approx(float(t.callback_metrics["sess/insertion_auc"]))

    (figure,) = [figure for figure in figures if any("insertion" in text for text in words(figure))]
    drawn = figure.axes[0].lines[0]
    torch.testing.assert_close(torch.tensor(drawn.get_ydata()).float(), expected)
    box, plot = figure.axes[0].get_window_extent(), pictures(events(t.logger.log_dir), "sess/curves")[0]
    assert plot.shape[:2] == (figure.bbox.height, figure.bbox.width)
    rows = slice(round(figure.bbox.height - box.y1), round(figure.bbox.height - box.y0))
    green = (plot[rows, round(box.x0) : round(box.x1)] == charts._COLOURS[0]).all(-1)
    for column, value in ((4, expected[0]), (-5, expected[-1])):
        assert abs(green[:, column].nonzero()[0].mean() - (1 - float(value)) * 199) < 3


def test_nothing_without_images(tmp_path):
    t = fit(tmp_path, callback(num_images=0), epochs=1)
    board = events(t.logger.log_dir)
    assert board.Tags()["images"] == []
    assert not [tag for tag in board.Tags()["tensors"] if "sess" in tag or "custom" in tag]
    assert not list(tmp_path.rglob("sess_*"))
    assert "sess/insertion_auc" in board.Tags()["scalars"]


def test_no_pointing_no_picture_of_it(tmp_path):
    t = fit(tmp_path, callback(metrics=["insertion"]), epochs=1)
    board = events(t.logger.log_dir)
    assert sorted(board.Tags()["images"]) == ["sess/curves", "sess/evolution", "sess/maps"]


def test_several_loaders(tmp_path):
    ours = SESSCallback(SESS(num_scales=2, window_size=None), num_samples=3, num_images=2)
    t = trainer(tmp_path, ours, max_epochs=1, logger=TensorBoardLogger(tmp_path))
    t.fit(Module(), loader(), [loader(), loader("targets", seed=1)])
    board = events(t.logger.log_dir)
    for name in ("maps", "curves", "evolution"):
        assert {f"sess/{name}/dataloader_idx_{i}" for i in (0, 1)} <= set(board.Tags()["images"])
    assert {f"sess/run/dataloader_idx_{i}/text_summary" for i in (0, 1)} <= set(board.Tags()["tensors"])
    assert list(layout(board)) == ["sess/dataloader_idx_0", "sess/dataloader_idx_1"]
    names = {path.name for path in tmp_path.rglob("sess_evolution*")}
    assert names == {f"sess_evolution_dataloader_idx_{i}.{kind}" for i in (0, 1) for kind in ("png", "gif")}


class TestLayout:
    def matching(self, board):
        """The tags that each chart would show: the plugin matches patterns from the beginning on."""
        tags = board.Tags()["scalars"]
        return {
            title: [[tag for tag in tags if re.match(pattern, tag)] for pattern in patterns]
            for title, patterns in next(iter(layout(board).values())).items()
        }

    def test_every_chart_overlays_what_was_logged(self, watched):
        charts = self.matching(watched[1])
        assert charts["pointing_acc, SESS and base"] == [["sess/pointing_acc"], ["sess/base_pointing_acc"]]
        assert charts["overall, SESS and base"] == [["sess/overall"], ["sess/base_overall"]]
        (pair,) = [patterns for title, patterns in charts.items() if "against" in title]
        assert pair == [["sess/insertion_auc"], ["sess/deletion_auc"]]
        assert len(charts) == 7

    def test_it_is_written_again_for_drift_alone(self, watched):
        """Which has no value in the first validation."""
        assert len(watched[1].Tensors("custom_scalars__config__")) == 2

    def test_the_prefix_of_the_logger(self, tmp_path):
        """And signs that patterns give a meaning of their own."""
        logger = TensorBoardLogger(tmp_path, prefix="my.(run)")
        t = fit(tmp_path, callback(prefix="a+b"), epochs=1, logger=logger)
        charts = self.matching(events(t.logger.log_dir))
        assert charts["overall, SESS and base"] == [["my.(run)-a+b/overall"], ["my.(run)-a+b/base_overall"]]

    def test_two_callbacks_share_one_layout(self, tmp_path):
        t = fit(tmp_path, callback(), callback(prefix="two", compare_base=False), epochs=1)
        read = layout(events(t.logger.log_dir))
        assert list(read) == ["sess", "two"]
        assert read["two"]["overall"] == ["^two/overall$"]

    def test_metrics_that_come_later_are_added(self, tmp_path):
        """Nothing to compare with in the first epoch: no metric yet."""
        t = trainer(tmp_path, callback(metrics={"drift": SaliencyDrift()}, compare_base=False), max_epochs=2,
                    logger=TensorBoardLogger(tmp_path))  # fmt: skip
        t.fit(Module(num_classes=3), datamodule=scenes())
        board = events(t.logger.log_dir)
        assert len(board.Tensors("custom_scalars__config__")) == 2
        assert "drift" in layout(board)["sess"]


class TestText:
    def test_settings_and_samples(self, watched):
        written = text(watched[1])
        assert "| method | GradCAM(target\\_layer=None, reshape=None) |" in written
        assert "| layer explained | net.4 |" in written
        assert "| window used | 32 x 32 |" in written
        assert "| num\\_scales | 2 |" in written
        assert "PointingGame(num\\_classes=None, tolerance=0, " in written
        assert "| every\\_n\\_epochs | 1 |" in written
        assert "Samples explained in the first validation: 6. They were chosen by seed 0." in written

    def test_positions_lead_back_to_the_samples(self, watched):
        ours, board, _ = watched
        rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\w+) \|$", text(board), flags=re.MULTILINE)
        assert len(rows) == 6
        batches = list(scenes().val_dataloader())
        names = scenes().class_names
        for number, batch, position, label in rows:
            images, targets = batches[int(batch)]
            assert torch.equal(images[int(position)], ours.last_result.images[int(number)])
            assert names[int(targets[int(position)]["label"])] == label

    def test_once_for_every_validate_too(self, tmp_path):
        ours = callback(indices=[2, 0])
        t = trainer(tmp_path, ours, logger=TensorBoardLogger(tmp_path))
        t.validate(Module(num_classes=3), datamodule=scenes(), verbose=False)
        board = events(t.logger.log_dir)
        assert "They were given by `indices`." in text(board)
        assert sorted(board.Tags()["images"]) == sorted(DRAWN)
        assert not list(tmp_path.rglob("sess_evolution*"))

    def test_names_that_markdown_would_take_apart(self, tmp_path):
        data = scenes()
        data.class_names = ["a|b", "<b>bold</b>", "*c*"]
        t = fit(tmp_path, callback(), epochs=1, data=data)
        written = text(events(t.logger.log_dir))
        assert "a\\|b |" in written
        assert "| &lt;b&gt;bold&lt;/b&gt; |" in written
        assert "| \\*c\\* |" in written

    @pytest.mark.parametrize("names", [lambda: ["crane", "star", "heart"], 5], ids=["a method", "no names"])
    def test_class_names_that_are_a_method_or_no_names(self, tmp_path, names):
        data = scenes()
        data.class_names = names
        ours = callback(on_error="raise")
        written = text(events(fit(tmp_path, ours, epochs=1, data=data).logger.log_dir))
        assert ("| crane |" in written) == callable(names)


class TestEvolution:
    def test_png_and_gif_beside_the_logs(self, watched):
        _, board, folder = watched
        with Image.open(f"{folder}/sess_evolution.png") as strip:
            np.testing.assert_array_equal(np.array(strip), pictures(board, "sess/evolution")[9])
        with Image.open(f"{folder}/sess_evolution.gif") as film:
            assert film.n_frames == 3
            assert film.info["loop"] == 0  # it repeats without end

    def test_an_image_and_a_column_for_each_epoch(self, watched):
        strip = pictures(watched[1], "sess/evolution")[9]
        side = BoardLayout(112, 112, 4)
        assert strip.shape[1] >= side.column(4)
        assert strip.shape[0] > 4 * 112

    def test_save_dir_gets_them_instead(self, tmp_path):
        fit(tmp_path, callback(save_dir=str(tmp_path / "kept")), epochs=1)
        assert {path.name for path in (tmp_path / "kept").iterdir()} == {
            "sess_maps", "sess_evolution.png", "sess_evolution.gif", "sess_record", "sess_report.html"
        }  # fmt: skip
        assert not list((tmp_path / "board").rglob("*.gif"))

    def test_a_second_fit_leaves_the_first_film(self, tmp_path):
        t = fit(tmp_path, callback(), epochs=1)
        folder = Path(t.logger.log_dir)
        first = {kind: (folder / f"sess_evolution.{kind}").read_bytes() for kind in ("png", "gif")}
        for epochs in (3, 6):
            t.fit_loop.max_epochs = epochs
            t.fit(Module(num_classes=3), datamodule=scenes())
        assert {kind: (folder / f"sess_evolution.{kind}").read_bytes() for kind in first} == first
        frames = {}
        for path in folder.glob("*.gif"):
            with Image.open(path) as film:
                frames[path.stem] = film.n_frames
        assert frames == {"sess_evolution": 1, "sess_evolution-v1": 2, "sess_evolution-v2": 3}
        assert len(list(folder.glob("*.png"))) == 3

    def test_a_logger_without_pictures_gets_the_files(self, tmp_path):
        with pytest.warns(UserWarning, match="cannot show images in CSVLogger"):
            fit(tmp_path, callback(), epochs=1, logger=CSVLogger(tmp_path))
        assert len(list(tmp_path.rglob("sess_evolution.*"))) == 2

    @pytest.mark.parametrize("exception", [KeyboardInterrupt, ValueError])
    def test_what_there_is_when_the_fit_breaks_off(self, tmp_path, exception):
        class Breaking(Module):
            def training_step(self, batch, batch_idx):
                if self.current_epoch == 2:
                    raise exception("planted")
                return super().training_step(batch, batch_idx)

        t = trainer(tmp_path, callback(), max_epochs=5, logger=TensorBoardLogger(tmp_path))
        with pytest.raises(SystemExit if exception is KeyboardInterrupt else exception):
            t.fit(Breaking(num_classes=3), datamodule=scenes())
        with Image.open(f"{t.logger.log_dir}/sess_evolution.gif") as film:
            assert film.n_frames == 2
        assert [image.step for image in events(t.logger.log_dir).Images("sess/evolution")] == [6]

    def test_a_resumed_fit_shows_what_it_saw(self, tmp_path):
        t = fit(tmp_path, callback(), epochs=2)
        t.save_checkpoint(tmp_path / "two.ckpt")
        logger = TensorBoardLogger(tmp_path, name="resumed")
        t = trainer(tmp_path, callback(), max_epochs=4, logger=logger, num_sanity_val_steps=0)
        t.fit(Module(num_classes=3), datamodule=scenes(), ckpt_path=tmp_path / "two.ckpt")
        with Image.open(f"{logger.log_dir}/sess_evolution.gif") as film:
            assert film.n_frames == 2
        assert "those of the training that is resumed" in text(events(logger.log_dir))


def test_every_n_epochs_holds_for_all_pictures(tmp_path):
    t = fit(tmp_path, callback(every_n_epochs=2), epochs=3)
    board = events(t.logger.log_dir)
    for tag in DRAWN:
        assert [image.step for image in board.Images(tag)] == [3, 9]
    assert len(board.Scalars("sess/overall")) == 3


def test_unlabelled_samples_have_no_second_map_and_no_verdict(tmp_path):
    ours = SESSCallback(SESS(num_scales=2, window_size=None), num_samples=3, num_images=2)
    t = trainer(tmp_path, ours, max_epochs=1, logger=TensorBoardLogger(tmp_path))
    t.fit(Module(), loader(), loader("images"))
    assert ours.last_result.second_maps == ours.last_result.hits == [None] * 3
    board = events(t.logger.log_dir)
    assert sorted(board.Tags()["images"]) == ["sess/curves", "sess/evolution", "sess/maps"]
    assert "| unknown |" in text(board)


def test_masks_of_another_size_scale_the_tolerance():
    masks = torch.zeros(1, 40, 40, dtype=torch.bool)
    found = Explained(
        images=[torch.zeros(3, 80, 80)], maps=[torch.zeros(80, 80)], targets=torch.tensor([1]),
        labels=torch.tensor([1]), predictions=torch.tensor([1]), scores=torch.tensor([0.5]), hits=[None],
        second_maps=[None], objects=[{"masks": masks, "labels": torch.tensor([1])}],
    )  # fmt: skip
    (row,) = map_rows(found, DisplayOptions((0, 0, 0), (1, 1, 1), tolerance=5))
    assert row.tolerance == 10
    assert map_grid([row], "t").dtype == torch.uint8


def test_samples_of_two_classes_with_one_name_stay_apart(tmp_path):
    data = scenes()
    data.class_names = ["crane", "crane", "star"]
    t = fit(tmp_path, callback(metrics=METRICS), epochs=1, data=data)
    assert "sess/pointing_per_class" in events(t.logger.log_dir).Tags()["images"]


def test_a_loader_without_length_says_how_samples_were_chosen(tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from (scenes().val_scenes[i] for i in range(6))

    data = scenes()
    t = trainer(tmp_path, callback(), logger=TensorBoardLogger(tmp_path))
    stream = DataLoader(Stream(), batch_size=3, collate_fn=data._collate_targets)
    t.validate(Module(num_classes=3), stream, verbose=False)
    assert "They are the first ones, as the loader does not say how many it has." in text(events(t.logger.log_dir))
