"""Whatever is typed and whatever the files hold, `benchmark` ends in one line that names the argument."""

import json
import random

import pytest
import torch

import sess_lightning.cli as cli
from sess_lightning.networks import load_network
from sess_lightning.networks.small_cnn import small_cnn
from tests.helpers.photo_folder import write_photos

LONG = "x" * 5000
WORDS = ["", "-1", "x", LONG]


def raises_key_error(model, images, targets):
    raise KeyError("of the user's own")


OWN = "tests.cli.test_benchmark_fuzz.raises_key_error"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Photos and weights, good and bad."""
    folder = tmp_path_factory.mktemp("place")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(small_cnn(3).state_dict(), folder / "w.pth")
        torch.save(small_cnn(2).state_dict(), folder / "two.pth")
    (folder / "cut.pth").write_bytes((folder / "w.pth").read_bytes()[:700])
    write_photos(folder / "photos", 3)
    for name, change in {
        "no_objects": {"annotations": []},
        "no_photos": {"images": [], "annotations": []},
        "no_names": {"categories": []},
    }.items():
        write_photos(folder / name, 2)
        content = json.loads((folder / name / "annotations.json").read_text())
        (folder / name / "annotations.json").write_text(json.dumps({**content, **change}))
    write_photos(folder / "unreadable", -1)
    write_photos(folder / "no_json", 1)
    (folder / "no_json" / "annotations.json").write_text("{")
    (folder / "empty").mkdir()
    return folder


def run(place, tmp_path, capsys, name, *words, **options):
    given = {"out": tmp_path / "out"}
    if name != "runtime":
        given |= {"data": place / "photos", "model": "small_cnn", "weights": place / "w.pth", "window": 32}
        given |= {"accelerator": "cpu", "num_scales": 1}
    given |= {key: str(value).format(place=place) for key, value in options.items()}
    try:
        code = cli.main(["benchmark", name, *(f"--{key}={value}" for key, value in given.items()), *words])
    except SystemExit as stop:  # of the parser's help
        code = stop.code
    printed = capsys.readouterr()
    assert "Traceback" not in printed.out + printed.err
    return code, [line for line in printed.err.splitlines() if "error: " in line]


FOLDERS = ("empty", "no_json", "no_photos", "unreadable")
PHOTOS = {
    "data": ["", "nowhere", *(f"{{place}}/{name}" for name in FOLDERS), LONG, "voc07"],
    "weights": ["", "{place}/cut.pth", "{place}/photos", "{place}/no.pth", "a.pth,b.pth,c.pth", LONG + ".pth"],
    "model": ["", "resnet999", "small_cnn,", LONG],
    "limit": ["0", *WORDS],
    "seed": ["x", str(2**70), str(-(2**70))],
    "window": ["0", "3000000000", *WORDS],
    "batch_size": ["0", *WORDS],
    "devices": ["0", *WORDS],
    "accelerator": ["xpu", "", LONG],
    "precision": ["16", "", LONG],
    "out": ["{place}/w.pth", "{place}/w.pth/out", LONG],
    "num_scales": ["0", *WORDS],
}
METHODS = ["os.path.join", "os.path", "torch.nn.Linear", "nowhere", "...", "", "gradcam,", LONG, OWN]
WRONG = {
    "insertion-deletion": {
        **PHOTOS,
        "methods": METHODS,
        "scales": ["", "0", "64,", "31", *WORDS],
        "ratio": ["1", "nan", *WORDS],
    },
    "pointing": {
        "methods": METHODS,
        "data": [*PHOTOS["data"], "imagenet", "{place}/no_objects"],
        "tolerance": ["nan", *WORDS],
        "activation": ["relu", ""],
    },
    "ablation": {
        "method": METHODS,
        "data": ["nowhere", "{place}/unreadable"],
        "model": ["small_cnn,small_cnn"],
        "weights": ["a.pth,b.pth"],
        "num_scales": ["0", *WORDS],
    },
    "sanity": {
        "methods": METHODS,
        "data": ["nowhere", "{place}/unreadable"],
        "draws": ["0", *WORDS],
        "ratio": ["1", "nan", *WORDS],
    },
    "runtime": {
        "model": ["", "nowhere", LONG],
        "methods": METHODS,
        "alone": ["os.path.join", "nowhere", LONG],
        "scales": ["0", *WORDS],
        "ratios": ["1", "nan", *WORDS],
        "images": ["0", *WORDS],
        "image_size": ["224", "1x2x3", "0x5", *WORDS],
        "metric_images": WORDS,
        "batch_size": ["0", *WORDS],
        "repeats": ["0", *WORDS],
        "accelerator": ["xpu", "cuda:99", "meta", "", LONG],
        "precision": ["16", ""],
        "out": ["{place}/w.pth", LONG],
    },
}
# How the package calls what the command line calls otherwise.
CALLED = {"methods": "method", "alone": "method", "ratios": "ratio"}


@pytest.mark.filterwarnings("ignore:.*left out", "ignore:.*could not be read")
@pytest.mark.parametrize(("name", "option"), [(name, option) for name, options in WRONG.items() for option in options])
def test_a_wrong_value_names_its_argument_in_one_line(place, tmp_path, capsys, name, option):
    for value in WRONG[name][option]:
        code, said = run(place, tmp_path, capsys, name, **{option: value})
        assert code == 2, value[:80]
        assert len(said) == 1, said
        assert said[0].startswith("sess-lightning benchmark: error: "), said
        assert option in said[0] or CALLED.get(option, option) in said[0], (value[:80], said)


@pytest.mark.parametrize(
    "words", ["", "nothing", "pointing", "pointing --nothing=1", "--config=no.yaml", "runtime --config=/"]
)
def test_wrong_words(capsys, words):
    assert cli.main(["benchmark", *words.split()]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("sess-lightning benchmark: error: ")


def test_a_network_with_too_few_classes_for_the_boxes(place, tmp_path, capsys):
    code, (line,) = run(place, tmp_path, capsys, "pointing", weights="{place}/two.pth", methods="gradcam")
    assert code == 2
    assert "0..1" in line


def damaged(content, choose):
    """The content cut short, or with some bytes changed."""
    if choose.random() < 0.3:
        return content[: choose.randrange(len(content))]
    found = bytearray(content)
    for _ in range(choose.choice([1, 3, 20])):
        # mostly the pickle at the beginning and the directory at the end
        ends = min(900, len(found))
        place = choose.choice([choose.randrange(len(found)), choose.randrange(ends), -1 - choose.randrange(ends)])
        found[place] = choose.randrange(256)
    return bytes(found)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("suffix", ["pth", "pt", "ckpt", "safetensors", "old.pth"])
def test_damaged_weights_are_refused_in_words(tmp_path, suffix):
    """Seeded: bytes are changed or cut off."""
    state = torch.nn.Sequential(torch.nn.Linear(2, 2)).state_dict()
    whole = tmp_path / f"whole.{suffix}"
    if suffix == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, whole)
    else:
        torch.save({"state_dict": state}, whole, _use_new_zipfile_serialization=suffix != "old.pth")
    content, choose = whole.read_bytes(), random.Random(suffix)
    file = tmp_path / f"damaged.{suffix}"
    for _ in range(60):  # what can still be read does not fit this network
        file.write_bytes(damaged(content, choose))
        with pytest.raises(ValueError, match=rf"(?s)weights.*damaged\.{suffix}"):
            load_network("small_cnn", str(file))
