"""`benchmark insertion-deletion` in small, against the metric and the algorithm called by hand."""

import csv

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF

from sess_lightning import SESS
from sess_lightning.benchmark.compared_maps import Map
from sess_lightning.benchmark.insertion_deletion import centre_crop, control_maps, control_table, table
from sess_lightning.cli import main
from sess_lightning.data import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.metrics import DeletionAUC, InsertionAUC, SymmetricRelevanceGain, centre_map
from sess_lightning.networks import load_network
from tests.helpers.photo_folder import write_photos


def read(file):
    with file.open() as opened:
        return list(csv.DictReader(opened))


def test_rows_are_what_the_metrics_say(benchmark_words, small_weights, tmp_path, capsys):
    photos, out = write_photos(tmp_path / "photos", 3), tmp_path / "out"
    main(benchmark_words("insertion-deletion", photos, out, methods="gradcam,gradient", ratio=0.5, **{"num-scales": 3}))
    rows = read(out / "insertion-deletion.csv")
    assert [(r["photo"], r["method"], r["sess"]) for r in rows] == [
        (photo, method, sess) for photo in "012" for method in ("gradcam", "gradient") for sess in ("False", "True")
    ]
    model = load_network("small_cnn", str(small_weights)).module.eval()
    image = TF.pil_to_tensor(Image.open(photos / "images" / "1.png")).float() / 255
    crop = TF.center_crop(TF.resize(TF.normalize(image, IMAGENET_MEAN, IMAGENET_STD), [73], antialias=True), [64, 64])
    target = model(crop[None]).argmax(1)
    saliency = SESS("gradient", 3, window_size=64, prefilter_ratio=0.5, smooth=False)(model, crop[None], target).maps
    row = rows[4 + 3]
    assert int(row["class"]) == int(target)
    for name, metric in (("insertion", InsertionAUC()), ("deletion", DeletionAUC())):
        metric.update(model, crop[None], saliency, target)
        assert float(row[name]) == pytest.approx(float(metric.compute()), abs=1e-6)
    assert float(row["overall"]) == pytest.approx(float(row["insertion"]) - float(row["deletion"]))
    assert (out / "insertion-deletion.md").read_text() in capsys.readouterr().out
    with Image.open(out / "insertion-deletion.png") as plot:
        assert plot.width > plot.height


def test_the_table_holds_means_and_paired_differences():
    row = {"model": "m", "method": "g", "class": 0, "insertion": 0.5, "deletion": 0.25}
    base = [{**row, "photo": str(i), "sess": False, "overall": o} for i, o in enumerate((0.2, 0.4, 0.9))]
    sess = [{**row, "photo": str(i), "sess": True, "overall": o} for i, o in enumerate((0.3, 0.5, None))]
    lines = table(base + sess).splitlines()
    assert lines[2].startswith("| g | m | no | 3 | 50.0 [50.0, 50.0] | 25.0 [25.0, 25.0] | 50.0 [")
    assert lines[3].startswith("| g | m | yes | 2 |")
    assert lines[3].endswith("| 10.0 [10.0, 10.0] |")  # of the two photos that have both


def test_controls_are_what_the_metrics_say(benchmark_words, small_weights, tmp_path):
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    options = {"methods": "gradient", "num_scales": 1, "ratio": 0, "controls": "true"}
    assert main(benchmark_words("insertion-deletion", photos, out, **options)) == 0
    names = ["gradient", "gradient", "gradient, blurred", "the centre", "random order"]
    rows = read(out / "insertion-deletion.csv")
    assert [(row["photo"], row["method"]) for row in rows] == [(photo, name) for photo in "01" for name in names]
    assert [row["control"] for row in rows[:5]] == ["False", "False", "True", "True", "True"]
    model = load_network("small_cnn", str(small_weights)).module.eval()
    image = TF.pil_to_tensor(Image.open(photos / "images" / "0.png")).float() / 255
    crop = centre_crop(TF.normalize(image, IMAGENET_MEAN, IMAGENET_STD), 64)
    target = model(crop[None]).argmax(1)
    base = SESS("gradient", 1, window_size=64, smooth=False)(model, crop[None], target).maps  # one window: the crop
    maps = [base, base, SESS("gradient", 1, window_size=64)(model, crop[None], target).maps, centre_map((64, 64))[None]]
    for row, saliency in zip(rows, maps, strict=False):
        for name, metric in (("deletion", DeletionAUC()), ("srg", SymmetricRelevanceGain())):
            metric.update(model, crop[None], saliency, target)
            assert float(row[name]) == pytest.approx(float(metric.compute()), abs=1e-5)
    text = (out / "insertion-deletion.md").read_text()
    assert [line.split(" | ")[0] for line in text.splitlines()[-5:]] == [
        "| gradient", "| gradient, SESS", "| gradient, blurred", "| the centre", "| random order"
    ]  # fmt: skip
    assert "| random order |" not in "\n".join(text.splitlines()[:-6])  # the table of the paper is as it was


def test_a_photos_random_order_is_its_own(tmp_path):
    """It follows the pixels, not the position, and is the same whatever the maps are."""
    first, second = torch.rand(3, 8, 8), torch.rand(3, 8, 8)
    maps = [Map("g", False, torch.rand(8, 8), True), Map("g", True, torch.rand(8, 8), True)]
    orders = [
        control_maps(some, crop)[-1].saliency for some, crop in ((maps, first), (maps[:1], first), (maps, second))
    ]
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_the_table_of_controls_is_paired_with_the_base():
    def rows(method, sess, overall, control):
        values = {"class": 0, "insertion": 0.5, "deletion": 0.25, "srg": overall}
        row = {"model": "m", "method": method, "sess": sess, "control": control, **values}
        return [{**row, "photo": str(i), "overall": one} for i, one in enumerate(overall_of(overall))]

    def overall_of(first):
        return (first, first + 0.2)

    found = control_table(
        rows("g", False, 0.2, False) + rows("g", True, 0.3, False) + rows("g, blurred", False, 0.15, True)
        + rows("random order", False, 0.0, True)
    ).splitlines()  # fmt: skip
    assert found[0].endswith("| overall, - base | srg, - base |")
    assert found[2].endswith("|  |  |")
    assert found[3].startswith("| g, SESS | m | 2 |")
    assert "| 10.0 [10.0, 10.0] | 10.0 [10.0, 10.0] |" in found[3]
    assert "| -5.0 [-5.0, -5.0] | -5.0 [-5.0, -5.0] |" in found[4]
    assert found[5].endswith("|  |  |")


def test_centre_crop():
    """A photo of 128 x 256 whose halves differ: short side 64 * 8/7 = 73, of which the 64 in the middle."""
    image = torch.zeros(1, 128, 256)
    image[..., 128:] = 1
    crop = centre_crop(image, 64)
    assert crop.shape == (1, 64, 64)
    assert crop[..., :30].abs().max() < 1e-6
    assert (crop[..., 34:] - 1).abs().max() < 1e-6


def test_two_networks_in_one_pass(benchmark_words, small_weights, tmp_path):
    photos, out = write_photos(tmp_path / "photos", 2), tmp_path / "out"
    other = small_weights.with_name("other.pth")
    torch.save({name: 2 * value for name, value in torch.load(small_weights, weights_only=True).items()}, other)
    options = {
        "model": "small_cnn,small_cnn",
        "weights": f"{small_weights},{other}",
        "methods": "gradcam",
        "num_scales": 1,
    }
    main(benchmark_words("insertion-deletion", photos, out, **options))
    rows = read(out / "insertion-deletion.csv")
    names = ["small_cnn (weights)", "small_cnn (other)"]
    assert [r["model"] for r in rows] == 2 * [names[0], names[0], names[1], names[1]]
    assert rows[0]["insertion"] != rows[2]["insertion"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": "gradcamm"}, "Expected argument `method` to be one of"),
        ({"data": "nowhere"}, "Expected argument `data` to be a folder of photos in COCO format, or one of"),
        ({"model": "small_cnn,small_cnn,small_cnn", "weights": "a.pth,b.pth"}, "to name weights for each of 3 models"),
        ({"model": "small_cnn,small_cnn"}, "to name each network with its weights once"),
        ({"limit": 0}, "Expected argument `limit` to be a positive int"),
        ({"ratio": 1}, "Expected argument `prefilter_ratio`"),
    ],
)
def test_wrong_arguments_end_in_a_message(benchmark_words, tmp_path, capsys, options, message):
    photos = write_photos(tmp_path / "photos", 1)
    assert main(benchmark_words("insertion-deletion", photos, tmp_path / "out", **options)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "insertion-deletion.csv").exists()
