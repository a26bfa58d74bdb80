"""Whatever is typed and whatever the files hold, `explain` ends in words and a code of its own."""

import itertools
import random

import pytest
import torch
from PIL import Image

import sess_lightning.cli as cli
from sess_lightning.networks.small_cnn import small_cnn


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A good photo and bad ones, good weights and bad ones, a folder with nothing in it."""
    folder = tmp_path_factory.mktemp("place")
    torch.save(small_cnn(3).state_dict(), folder / "w.pth")
    whole = (folder / "w.pth").read_bytes()
    (folder / "cut.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pth").touch()
    (folder / "text.pth").write_text("no weights", encoding="utf-8")
    torch.save({"epoch": 3}, folder / "none.pth")
    torch.save(
        small_cnn(4).conv.state_dict() if hasattr(small_cnn(4), "conv") else {"x": torch.ones(1)}, folder / "x.pt"
    )
    Image.new("RGB", (20, 16), (90, 9, 99)).save(folder / "good.png")
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no photo", encoding="utf-8")
    (folder / "two\nlines.png").write_bytes((folder / "good.png").read_bytes()[:60])
    (folder / "nothing").mkdir()
    return folder


def raises_key_error(model, images, targets):
    raise KeyError("of the user's own")


def gives_text(model, images, targets):
    return "no maps"


def explained(place, tmp_path, capsys, *words):
    defaults = {"--model": "small_cnn", "--weights": f"{place}/w.pth", "--out": tmp_path / "out", "--num_scales": 1}
    given = {word.partition("=")[0] for word in words}
    options = [f"{name}={value}" for name, value in defaults.items() if name not in given]
    try:
        code = cli.main(["explain", *words, *options])
    except SystemExit as stop:  # of the parser
        code = stop.code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return code, printed.err


LONG = "x" * 5000
OWN = [f"tests.cli.test_explain_fuzz.{name}" for name in ("raises_key_error", "gives_text", "LONG")]
FILES = [
    "",
    "nothing",
    "cut.pth",
    "empty.pth",
    "text.pth",
    "none.pth",
    "x.pt",
    "good.png",
    "missing.pth",
    LONG + ".pth",
]
WRONG = {
    "device": ["xpu", "cuda:99", "meta", "tpu", "", "cpu:x", LONG],
    "method": ["os.path.join", "os.path", "os.nothing", "nowhere.at_all", "...", "", "torch.nn.Linear", LONG, *OWN],
    "weights": [*(f"{{place}}/{name}" for name in FILES), "", LONG, "DEFAULT"],
    "out": ["{place}/good.png", "{place}/good.png/out", LONG],
    "classes": ["{place}", "{place}/good.png", "{place}/missing.txt", "{place}/w.pth", LONG],
    "target": ["9", "top9", "top0", "-1", "cat", "9" * 5000, LONG],
    "model": ["resnet999", "", "timm:", LONG],
    "scales": ["", "0", "64,", "a", "-64", "63"],
    "window": ["0", "-1", "x"],
    "ratio": ["1", "nan", "-0.1", "x"],
    "activation": ["relu", ""],
    "num_classes": ["0", "-3", "7", "x"],
    "max_side": ["0", "-1", "x"],
    "batch_size": ["0", "-1", "x"],
    "num_scales": ["0", "-1", "x"],
    "sess": ["perhaps"],
}


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_value_names_its_argument_in_one_line(place, tmp_path, capsys, option):
    for value in WRONG[option]:
        word = f"--{option}={value.format(place=place)}"
        code, err = explained(place, tmp_path, capsys, f"{place}/good.png", word)
        assert code == 2, word
        assert err.startswith("sess-lightning explain: error: "), err
        assert len(err.strip().splitlines()) == 1, err
        assert option in err, (word[:80], err)  # window_size and prefilter_ratio where SESS checks them


@pytest.mark.parametrize("word", ["empty.png", "text.png", "two\nlines.png", LONG, "missing.png"])
def test_a_wrong_photo_is_skipped_in_one_line(place, tmp_path, capsys, word):
    code, err = explained(place, tmp_path, capsys, f"{place}/{word}")
    assert code == 1
    (line,) = [line for line in err.splitlines() if "skipped, " in line]
    assert repr(word)[1:-1] in line


def test_any_mixture_ends_in_a_code(place, tmp_path, capsys):
    """Seeded: up to three options of any value, right or wrong, and up to three photos."""
    choose = random.Random(7)
    right = {"window": ["32"], "max_side": ["8", "1"], "target": ["top2"], "sess": ["false"], "ratio": ["0.5"]}
    pool = [(name, value) for name, values in itertools.chain(WRONG.items(), right.items()) for value in values]
    pool = [(name, value) for name, value in pool if value != "DEFAULT"]
    photos = ["good.png", "empty.png", "two\nlines.png", "nothing", "missing.png", "*.png", LONG, ""]
    for _ in range(25):
        options = dict(choose.sample(pool, choose.randint(0, 3)))
        words = [f"--{name}={value.format(place=place)}" for name, value in options.items()]
        code, _ = explained(place, tmp_path, capsys, *(f"{place}/{p}" for p in choose.sample(photos, 2)), *words)
        assert code in (0, 1, 2)
