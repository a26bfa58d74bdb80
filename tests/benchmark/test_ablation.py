"""`benchmark ablation` in small: shared patches give the maps that each setting gives by itself."""

import csv

import pytest
import torch

from sess_lightning import SESS
from sess_lightning.benchmark.ablation import ablations, figures, shared_maps
from sess_lightning.cli import main
from sess_lightning.forwarding import memory_format
from sess_lightning.networks import load_network
from tests.helpers.nets import seeded
from tests.helpers.photo_folder import write_photos


@pytest.mark.parametrize("method", ["gradcam", "gradient"])
def test_every_setting_gives_the_map_that_it_gives_alone(small_weights, method):
    model = load_network("small_cnn", str(small_weights)).module.eval()
    image = seeded(0, 3, 64, 80)
    settings = [sess for one in ablations(5, 64).values() for sess in one.algorithms(method, 64, None).values()]
    memory_format(model, image[None, :, :64, :64])  # found out once, by forwards that are not counted
    seen = 0

    def count(module, args, output):
        nonlocal seen
        seen += len(output)

    handle = model.register_forward_hook(count)
    maps, valid = shared_maps(settings, model, image, 1)
    handle.remove()
    windows = {window for sess in settings for window in sess.windows_for((64, 80), (64, 64))}
    # Scores may need a pass of their own; the layer is looked for with two images.
    assert seen - len(windows) in (0, 2, len(windows), len(windows) + 2)
    for sess, shared in zip(settings, maps, strict=True):
        alone = sess(model, [image], torch.tensor([1]))
        torch.testing.assert_close(shared, alone.maps[0], rtol=0, atol=1e-6)
    assert all(valid)


def test_settings_are_the_papers():
    found = ablations(12, 224)
    assert found["scales"].values == tuple(range(1, 13))
    assert found["ratio"].values == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert found["step"].values == (224, 112, 56)
    sess = found["ratio"].algorithms("gradcam", 224, None)["0.9"]
    assert (sess.num_scales, sess.prefilter_ratio, sess.smooth) == (10, 0.9, False)
    assert isinstance(found["step"].algorithms("gradcam", 224, None)["56"], SESS)


def test_figures_are_means_and_paired_gains():
    row = {"setting": "scales", "insertion": 0.5, "deletion": 0.25}
    one = [{**row, "value": "1", "overall": o} for o in (0.1, 0.2)]
    two = [{**row, "value": "2", "overall": o} for o in (0.2, 0.3)]
    found = figures(one + two, "scales", ["1", "2"])
    assert [v.value for v in found["overall"]] == pytest.approx([15, 25])
    assert found["gain"][1] == pytest.approx((10, 10, 10))


def test_the_command(benchmark_words, tmp_path, capsys):
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    assert main(benchmark_words("ablation", photos, out, num_scales=2)) == 0
    with (out / "ablation.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (2 + 10 + 2 + 2 + 3)
    of_photo = [row for row in rows if row["photo"] == "0"]
    same = [r for r in of_photo if (r["setting"], r["value"]) in {("scales", "2"), ("ratio", "0.0"), ("step", "64")}]
    assert len({row["overall"] for row in same}) == 1  # one and the same setting
    assert (out / "ablation.png").stat().st_size > 10_000
    assert "## pre-filter r, 2 scales (Fig. 6)" in capsys.readouterr().out
