"""`benchmark sanity` in small, against maps made by hand, and a method that does not look at the network."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from sess_lightning import SESS
from sess_lightning.benchmark.sanity import table
from sess_lightning.cli import main
from sess_lightning.data import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.metrics import entropy_rise, map_entropy, randomised, rank_correlation
from sess_lightning.networks import load_network
from tests.helpers.photo_folder import write_photos


def pixels_alone(model, images, targets):
    """A base method by its path that shows the photo."""
    return images.mean(1)


def constant(model, images, targets):
    return torch.ones(len(images), 4, 4)


def rows_of(out):
    with (out / "sanity.csv").open() as opened:
        return list(csv.DictReader(opened))


def test_rows_are_what_the_functions_say(benchmark_words, small_weights, tmp_path, capsys):
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    options = {"methods": "gradient", "ratio": 0.5, "num_scales": 2, "draws": 2}
    assert main(benchmark_words("sanity", photos, out, **options)) == 0
    rows = rows_of(out)
    assert [(r["photo"], r["method"], r["sess"]) for r in rows] == [
        (photo, "gradient", sess) for photo in "01" for sess in ("False", "True")
    ]
    model = load_network("small_cnn", str(small_weights)).module.eval()
    image = TF.pil_to_tensor(Image.open(photos / "images" / "1.png")).float() / 255
    crop = TF.center_crop(TF.resize(TF.normalize(image, IMAGENET_MEAN, IMAGENET_STD), [73], antialias=True), [64, 64])
    target = model(crop[None]).argmax(1)
    sess = SESS("gradient", 2, window_size=64, prefilter_ratio=0.5, smooth=False)
    before = sess(model, crop[None], target).maps
    after = [sess(randomised(model, seed), crop[None], target).maps for seed in range(2)]
    assert int(rows[3]["class"]) == int(target)
    assert float(rows[3]["entropy"]) == pytest.approx(float(map_entropy(before)), abs=1e-6)
    for name, function in (("rise", entropy_rise), ("correlation", rank_correlation)):
        expected = np.mean([float(function(before, maps)) for maps in after])
        assert float(rows[3][name]) == pytest.approx(expected, abs=1e-6)
    shown = capsys.readouterr().out
    assert "2 networks with random weights" in shown
    assert (out / "sanity.md").read_text() in shown
    assert (out / "sanity.png").stat().st_size


def test_the_short_form_is_the_same_command_and_resumes(benchmark_words, tmp_path, capsys):
    photos = write_photos(tmp_path / "photos", 2)
    options = {"methods": "gradcam", "num_scales": 1, "draws": 1}
    assert main(benchmark_words("sanity", photos, tmp_path / "out", **options)[1:]) == 0
    before = rows_of(tmp_path / "out")
    parts = tmp_path / "out" / "sanity.parts" / "0.jsonl"
    parts.write_bytes(parts.read_bytes().splitlines(keepends=True)[0])
    assert main(benchmark_words("sanity", photos, tmp_path / "out", **options)) == 0
    assert rows_of(tmp_path / "out") == before
    assert main(benchmark_words("sanity", photos, tmp_path / "out", **{**options, "draws": 2})) == 2
    assert "`draws` was 1 and is 2" in capsys.readouterr().err


def test_a_method_that_looks_at_the_pixels_alone_is_found_out(benchmark_words, tmp_path):
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    path = f"{__name__}.pixels_alone"
    assert main(benchmark_words("sanity", photos, out, methods=path, num_scales=1, draws=2)) == 0
    alone = [row for row in rows_of(out) if row["sess"] == "False"]
    assert [(float(row["rise"]), float(row["correlation"])) for row in alone] == [(0, 1), (0, 1)]


def test_constant_maps_have_no_figure(benchmark_words, tmp_path):
    photos, out = write_photos(tmp_path / "photos", 1), tmp_path / "out"
    assert main(benchmark_words("sanity", photos, out, methods=f"{__name__}.constant", num_scales=1, draws=1)) == 0
    assert {row["rise"] + row["correlation"] + row["entropy"] for row in rows_of(out)} == {""}
    assert "| 0 | - | - | - |" in (out / "sanity.md").read_text()


def test_the_table_holds_means_and_paired_differences():
    row = {"model": "m", "method": "g", "class": 0, "entropy": 4.0, "correlation": 0.5}
    base = [{**row, "photo": str(i), "sess": False, "rise": rise} for i, rise in enumerate((0.1, 0.2, 0.9))]
    sess = [{**row, "photo": str(i), "sess": True, "rise": rise} for i, rise in enumerate((0.2, 0.3, None))]
    lines = table(base + sess).splitlines()
    assert lines[2].startswith("| g | m | no | 3 | 4.00 [4.00, 4.00] | 0.400 [0.1")
    assert lines[3].startswith("| g | m | yes | 2 |")
    assert lines[3].endswith("| 0.100 [0.100, 0.100] |")  # of the two photos that have both
