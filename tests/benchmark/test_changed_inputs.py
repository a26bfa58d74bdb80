"""A second run into the same folder: rows count for the photos, annotations and weights that they were measured on."""

import csv
import json
import shutil

import pytest
import torch
from PIL import Image

import sess_lightning
from sess_lightning.cli import main
from sess_lightning.networks import load_network
from sess_lightning.networks.weights import weights_digest
from tests.helpers.photo_folder import write_photos

OPTIONS = {"methods": "gradient", "num_scales": 1, "ratio": 0}


@pytest.fixture
def run(benchmark_words, tmp_path):
    """Measures a folder of photos and returns the rows, without the photos' positions, and how many were measured."""

    def of(photos, out="out", name="insertion-deletion", code=0, **options):
        assert main(benchmark_words(name, photos, tmp_path / out, **{**OPTIONS, **options})) == code
        if code:
            return None
        with (tmp_path / out / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        stored = (tmp_path / out / f"{name}.parts" / "0.jsonl").read_bytes().count(b"\n")
        return rows, stored

    return of


def annotations(photos, change):
    file = photos / "annotations.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def add_in_front(photos, count):
    """Photos that sort before all others."""
    for number in range(-count, 0):
        shutil.copy(photos / "images" / "0.png", photos / "images" / f"new{number}.png")
    annotations(photos, lambda content: content.update(images=[
        {"id": number, "file_name": f"new{number}.png"} for number in range(-count, 0)
    ] + content["images"]))  # fmt: skip


def test_photos_added_in_front_are_the_only_ones_measured(run, tmp_path):
    photos = write_photos(tmp_path / "photos", 9)
    before, _ = run(photos)
    add_in_front(photos, 3)
    after, stored = run(photos)
    whole, _ = run(photos, "anew")
    assert after == whole
    assert stored == 12
    assert [row["photo"] for row in after[::2]] == [f"{number:02d}" for number in range(12)]
    assert [{**row, "photo": ""} for row in after[6:]] == [{**row, "photo": ""} for row in before]


def test_rows_outside_the_selection_do_not_count(run, tmp_path):
    photos = write_photos(tmp_path / "photos", 6)
    everything, _ = run(photos)
    some, stored = run(photos, limit=2, seed=3)
    assert stored == 6
    assert len(some) == 4
    assert all(row in everything for row in some)
    text = (tmp_path / "out" / "insertion-deletion.md").read_text()
    assert "| 2 |" in text  # photos


def test_a_photo_of_the_same_name_that_is_another_is_measured(run, tmp_path):
    photos = write_photos(tmp_path / "photos", 3)
    before, _ = run(photos)
    file = photos / "images" / "1.png"
    with Image.open(file) as picture:
        turned = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    turned.save(file)
    after, stored = run(photos)
    assert stored == 4
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, True, False, False, True, True]


def test_other_boxes_are_another_question(run, tmp_path):
    photos = write_photos(tmp_path / "photos", 2)
    before, _ = run(photos, name="pointing")
    annotations(photos, lambda content: content["annotations"][0].update(bbox=[60, 50, 30, 30]))
    after, _ = run(photos, name="pointing")
    assert after == run(photos, "anew", name="pointing")[0]
    assert after != before


def test_weights_replaced_under_the_same_name_are_refused(run, small_weights, tmp_path, capsys):
    photos = write_photos(tmp_path / "photos", 2)
    run(photos)
    moved = small_weights.rename(tmp_path / "moved.pth")
    run(photos, weights=moved)  # the same weights elsewhere are the same
    state = torch.load(moved, weights_only=True)
    state[next(iter(state))].view(-1)[0] += 1e-6
    torch.save(state, small_weights)
    run(photos, code=2)
    said = capsys.readouterr().err
    assert "`weights` was" in said
    assert "Pass another --out" in said


def test_rows_of_another_version_are_refused(run, tmp_path, capsys, monkeypatch):
    photos = write_photos(tmp_path / "photos", 1)
    run(photos)
    monkeypatch.setattr(sess_lightning, "__version__", "99.1")
    run(photos, code=2)
    assert "`version` was" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*left out")
def test_a_photo_that_could_not_be_read_is_tried_again(run, tmp_path):
    photos = write_photos(tmp_path / "photos", -3)
    before, stored = run(photos)
    assert (len(before), stored) == (4, 2)
    whole = write_photos(tmp_path / "whole", 3)
    shutil.copy(whole / "images" / "2.png", photos / "images" / "2.png")
    after, stored = run(photos)
    assert (len(after), stored) == (6, 3)
    (photos / "images" / "0.png").write_bytes(b"broken by now")
    assert [row["photo"] for row in run(photos)[0]] == ["1", "1", "2", "2"]


def test_digests_tell_bits_names_and_types_apart(small_weights):
    network = load_network("small_cnn", str(small_weights)).module
    first = weights_digest(network)
    assert weights_digest(load_network("small_cnn", str(small_weights)).module) == first
    assert weights_digest(network.double()) != first
    assert weights_digest(network.float()) == first
    assert weights_digest(torch.nn.Sequential(network)) != first
    next(network.buffers()).add_(1)
    assert weights_digest(network) != first
