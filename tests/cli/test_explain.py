"""`sess-lightning explain`: what it writes, prints and returns, in small, with random weights."""

import os
import re

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image

import sess_lightning.cli as cli
from sess_lightning import SESS
from sess_lightning.classifier import LitClassifier
from sess_lightning.data import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.networks.small_cnn import small_cnn
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import seeded


def brightness(model, images, targets):
    """A base method for the dotted path."""
    return images.mean(1)


def picture(path, size=(90, 70), **options):
    """A photo of blocks of colour, `size` width x height."""
    blocks = (seeded(len(path.name), 7, 9, 3).sigmoid() * 255).byte().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(path, **options)
    return path


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    network = small_cnn(6)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    return tmp_path / "weights.pth", network.eval()


@pytest.fixture
def run(tmp_path, weights, capsys):
    """Runs the command and gives exit code, stdout and stderr."""

    def command(*words, out=tmp_path / "out"):
        scales = [] if any(str(word).startswith("--scales") for word in words) else ["--num-scales=2"]
        options = ["--model=small_cnn", f"--weights={weights[0]}", f"--out={out}", *scales]
        code = cli.main(["explain", *options, *map(str, words)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return command


def normalised(path):
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1) / 255
    return (pixels - torch.tensor(IMAGENET_MEAN).view(3, 1, 1)) / torch.tensor(IMAGENET_STD).view(3, 1, 1)


def squashed_probabilities(network, path):
    whole = torch.nn.functional.interpolate(normalised(path)[None], (64, 64), mode="bilinear", antialias=True)
    with torch.no_grad():
        return network(whole).softmax(1)[0]


def test_figure_map_and_top_classes_of_a_photo(tmp_path, weights, run):
    photo = picture(tmp_path / "photo.png")
    code, out, _ = run(photo)
    assert code == 0
    scores = squashed_probabilities(weights[1], photo)
    best = scores.argsort(descending=True)[:5]
    lines = [line.split() for line in out.splitlines() if "%" in line]
    assert [int(line[1]) for line in lines] == best.tolist()
    assert [float(line[0].rstrip("%")) for line in lines] == pytest.approx((100 * scores[best]).tolist(), abs=0.06)
    saved = np.load(tmp_path / "out" / "photo.npy")
    assert saved.shape == (70, 90)
    assert saved.dtype == np.float32
    expected = SESS(num_scales=2, window_size=64)(weights[1], [normalised(photo)], best[:1])
    assert saved == pytest.approx(expected.maps[0].numpy(), abs=1e-5)
    with Image.open(tmp_path / "out" / "photo.png") as figure:
        assert figure.width > 3 * 320


@pytest.mark.parametrize(
    ("target", "explained"),
    [("top1", [0]), ("top3", [0, 1, 2]), ("4", None), ("Wombat", None)],
)
def test_the_target(tmp_path, weights, run, target, explained):
    photo = picture(tmp_path / "photo.png")
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nemu\nfox\nwombat\nyak\n")
    code, out, _ = run(photo, f"--target={target}", f"--classes={names}")
    assert code == 0
    ranked = squashed_probabilities(weights[1], photo).argsort(descending=True).tolist()
    classes = [4] if explained is None else [ranked[i] for i in explained]
    marked = [line for line in out.splitlines() if "<- explained" in line]
    assert [line.split("(")[1].split(")")[0] for line in marked] == [str(c) for c in classes]
    saved = np.load(tmp_path / "out" / "photo.npy")
    assert saved.shape == ((70, 90) if len(classes) == 1 else (3, 70, 90))
    expected = SESS(num_scales=2, window_size=64)(weights[1], [normalised(photo)], torch.tensor(classes[-1:]))
    assert saved.reshape(-1, 70, 90)[-1] == pytest.approx(expected.maps[0].numpy(), abs=1e-5)


def test_options_reach_the_algorithm(tmp_path, weights, run):
    photo = picture(tmp_path / "photo.png")
    options = [
        "--scales=48,80",
        "--window=48",
        "--ratio=0.5",
        "--method=tests.cli.test_explain.brightness",
        "--target=2",
    ]
    assert run(photo, *options)[0] == 0
    sess = SESS(brightness, scales=[48, 80], window_size=48, prefilter_ratio=0.5)
    expected = sess(weights[1], [normalised(photo)], torch.tensor([2])).maps[0]
    assert np.load(tmp_path / "out" / "photo.npy") == pytest.approx(expected.numpy(), abs=1e-5)


def test_the_layer_can_be_chosen_and_is_printed(tmp_path, weights, run):
    photo = picture(tmp_path / "photo.png")
    code, out, _ = run(photo, "--target-layer=features.3", "--target=2", out=tmp_path / "chosen")
    assert code == 0
    assert "Layer explained: features.3 (Sequential)" in out
    expected = SESS(GradCAM("features.3"), num_scales=2, window_size=64)(
        weights[1], [normalised(photo)], torch.tensor([2])
    )
    assert np.load(tmp_path / "chosen" / "photo.npy") == pytest.approx(expected.maps[0].numpy(), abs=1e-5)


def test_without_sess_the_map_is_that_of_the_base_method(tmp_path, run):
    """Of brightness that is the photo's own grey, squashed to 64 x 64 and back."""
    photo = picture(tmp_path / "photo.png", size=(64, 64))
    assert run(photo, "--sess=false", "--method=tests.cli.test_explain.brightness")[0] == 0
    grey = normalised(photo).mean(0)
    expected = (grey - grey.min()) / (grey.max() - grey.min())
    assert np.load(tmp_path / "out" / "photo.npy") == pytest.approx(expected.numpy(), abs=1e-5)


def test_bad_files_are_named_and_skipped(tmp_path, run):
    folder = tmp_path / "photos"
    picture(folder / "good.png")
    (folder / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    whole = picture(tmp_path / "whole.jpg", size=(300, 200)).read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    picture(folder / "strip.png", size=(340, 20))
    code, out, err = run(folder, tmp_path / "missing.png", tmp_path / "text.jpg")
    assert code == 1
    skipped = {line.split(": skipped")[0].strip() for line in err.splitlines() if ": skipped" in line}
    bad = {"text.jpg", "empty.jpg", "broken.jpg", "strip.png", "missing.png"}
    assert {os.path.basename(name) for name in skipped} == bad
    assert "1 of 6 photos explained" in out
    assert [file.name for file in (tmp_path / "out").rglob("*.npy")] == ["good.npy"]


def test_what_is_no_photo_in_a_folder_is_no_failure(tmp_path, run):
    """Neither by its suffix nor by its content."""
    picture(tmp_path / "photos" / "good.png")
    for name in ("text.jpg", "film.mpg", "table.h5", "page.pdf", "drawing.eps", "notes.txt"):
        (tmp_path / "photos" / name).write_text("no picture", encoding="utf-8")
    code, out, err = run(tmp_path / "photos")
    assert code == 0
    assert "1 of 1 photos explained" in out
    assert "text.jpg: left out, this is no picture" in err
    assert "skipped" not in err
    (tmp_path / "photos" / "good.png").unlink()
    code, out, _ = run(tmp_path / "photos")
    assert code == 1
    assert "0 of 0 photos explained" in out


def test_a_single_pixel_has_a_result(tmp_path, run):
    code, _, _ = run(picture(tmp_path / "pixel.png", size=(1, 1)))
    assert code == 0
    assert np.load(tmp_path / "out" / "pixel.npy").tolist() == [[0]]


def test_a_large_photo_is_scaled_down_and_says_so(tmp_path, run):
    code, out, _ = run(picture(tmp_path / "large.jpg", size=(900, 600)), "--max-side=120")
    assert code == 0
    assert "900 x 600 scaled down to 120 x 80" in out
    assert np.load(tmp_path / "out" / "large.npy").shape == (80, 120)


def test_photos_of_one_name_in_different_folders(tmp_path, run):
    photos = [picture(tmp_path / "a" / "x.png"), picture(tmp_path / "b" / "x.png"), picture(tmp_path / "b" / "x.jpg")]
    assert run(*photos)[0] == 0
    found = sorted(str(file.relative_to(tmp_path / "out")) for file in (tmp_path / "out").rglob("*.npy"))
    assert found == ["a/x.npy", "b/x.jpg.npy", "b/x.png.npy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target=9"], r"`target` to be in 0\.\.5"),
        (["--target=top7"], r"top1\.\.top6"),
        (["--target=dog"], "the classes have no names"),
        (["--method=gradcan"], "`method`"),
        (["--window=0"], "`window_size`"),
        (["--scales=48,x"], "`scales`"),
        (["--ratio=1"], "`prefilter_ratio`"),
        (["--classes=nowhere.txt"], "`classes`"),
        (["--model=resnet18"], "do not fit 'resnet18'"),
        (["--device=gpu"], "`device`"),
        (["--max-side=0"], "`max_side`"),
        (["--target-layer=features.99"], r"`target_layer`.*Nearest names"),
        (["--target-layer=features.0", "--method=rise"], "reads no layer"),
    ],
)
def test_wrong_arguments_are_told_before_work_starts(tmp_path, run, words, message):
    code, out, err = run(picture(tmp_path / "photo.png"), *words)
    assert code == 2
    assert out == ""
    assert err.startswith("sess-lightning explain: error: ")
    assert re.search(message, err)
    assert not (tmp_path / "out").exists()


def test_photos_are_not_overwritten(tmp_path, run):
    photo = picture(tmp_path / "photos" / "x.png")
    before = photo.read_bytes()
    code, _, err = run(photo, out=tmp_path / "photos")
    assert code == 2
    assert "overwritten" in err
    assert photo.read_bytes() == before


def test_a_checkpoint_of_lit_classifier(tmp_path, run):
    """Network, number of classes and input size come from the checkpoint."""
    torch.manual_seed(1)
    classifier = LitClassifier("small_cnn", num_classes=3, input_size=48)
    trainer = Trainer(max_epochs=0, logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.strategy.connect(classifier)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    photo = picture(tmp_path / "photo.png")
    code, out, err = run(photo, f"--weights={tmp_path / 'last.ckpt'}")
    assert code == 0, err
    assert sum("%" in line for line in out.splitlines()) == 3
    target = int(out.split("<- explained")[0].split("%")[-1])
    expected = SESS(num_scales=2, window_size=48)(classifier.model, [normalised(photo)], torch.tensor([target])).maps[0]
    assert np.load(tmp_path / "out" / "photo.npy") == pytest.approx(expected.numpy(), abs=1e-5)


@pytest.mark.slow
def test_real_photos_with_real_weights(real, tmp_path, capsys):
    """Kangaroos are wallabies to ImageNet."""
    pattern = real / "kangaroo" / "images" / "0005*.jpg"
    words = [str(pattern), "--model=mobilenet_v2", f"--weights={real / 'mobilenet_v2.pth'}", f"--out={tmp_path}"]
    assert cli.main(["explain", *words, "--num-scales=3"]) == 0
    out = capsys.readouterr().out
    assert "wallaby (104) <- explained" in out
