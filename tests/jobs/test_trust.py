"""Nothing of the user's is lost or taken for something else: killed commands, copied folders, odd names and labels."""

import io
import json
import pickle
import tarfile
import time

import pytest
import torch
from PIL import Image

from sess_lightning.cli import main
from sess_lightning.data import SavedMaps
from sess_lightning.jobs.photos import JobPhotos
from sess_lightning.jobs.walk import Walk
from sess_lightning.networks import load_network
from tests.helpers.data_trees import write_imagenet
from tests.helpers.nets import seeded
from tests.helpers.photo_folder import write_photos
from tests.helpers.processes import started


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", 4)


def lines(folder):
    return [line for path in sorted(folder.glob("maps-*.jsonl")) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("command", ["maps", "pointing"])
def test_a_photo_without_a_result_is_said(words, benchmark_words, photos, tmp_path, monkeypatch, capsys, command):
    """As where a process of an earlier command, which outlived it, stores results while this one deals."""
    left = Walk.left
    monkeypatch.setattr(Walk, "left", lambda walk: left(walk)[:3])
    given = words(photos) if command == "maps" else benchmark_words("pointing", photos, tmp_path / "p", num_scales=1)
    assert main(given) == 2
    assert "1 have none, e.g. images/3.png" in capsys.readouterr().err
    assert not (tmp_path / "maps" / "maps.index.jsonl").exists()
    monkeypatch.undo()
    assert main(given) == 0


@pytest.mark.parametrize(
    "left_out", [["settings.json"], ["settings.json", "maps-0.index.jsonl"], ["maps-0.index.jsonl"]]
)
def test_a_folder_that_was_copied_in_part_is_not_written_to(words, photos, tmp_path, capsys, left_out):
    assert main(words(photos)) == 0
    for name in left_out:
        (tmp_path / "maps" / name).unlink()
    before = (tmp_path / "maps" / "maps-0.tar").read_bytes()
    assert main(words(photos)) == 2
    assert "`out`" in capsys.readouterr().err
    assert (tmp_path / "maps" / "maps-0.tar").read_bytes() == before
    assert len(SavedMaps(tmp_path / "maps")) == 4


@pytest.mark.parametrize("content", ["[1]", "no json", "3"])
def test_settings_of_something_else(words, photos, tmp_path, capsys, content):
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "settings.json").write_text(content)
    assert main(words(photos)) == 2
    assert "`out`" in capsys.readouterr().err
    assert (tmp_path / "maps" / "settings.json").read_text() == content


def test_what_a_killed_process_left_is_cut_off(words, photos, tmp_path):
    """Also where nothing is left for this process to do: other programs read its file to the end."""
    assert main(words(photos)) == 0
    tar = tmp_path / "maps" / "maps-0.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-1024] + b"half a photo" * 50)
    assert main(words(photos)) == 0
    assert tar.read_bytes() == whole


def test_sigterm_ends_after_the_photo_that_it_is_at(words, tmp_path):
    given = words(write_photos(tmp_path / "many", 60))
    process = started(main, given)
    for _ in range(60_000):
        if not process.is_alive() or lines(tmp_path / "maps"):
            break
        time.sleep(0.001)
    process.terminate()
    process.join(60)
    assert process.exitcode == 143
    assert 0 < len(lines(tmp_path / "maps")) < 60


def test_photos_of_similar_names_stay_apart(words, tmp_path):
    """With the same content: WebDataset's names have no dots, and a digest of the content would be the same."""
    picture = Image.fromarray((seeded(0, 60, 80, 3).sigmoid() * 255).byte().numpy())
    names = ["a_1.png", "a 1.png", "a.1.png", "b/a_1.png", "é.png", "x" * 240 + ".png"]
    (tmp_path / "plain" / "b").mkdir(parents=True)
    for name in names:
        picture.save(tmp_path / "plain" / name)
    assert main(words(tmp_path / "plain")) == 0
    with tarfile.open(tmp_path / "maps" / "maps-0.tar") as tar:
        members = tar.getnames()
    assert len(set(members)) == len(members) == 2 * len(names)
    assert all(len(part.encode()) <= 255 for member in members for part in member.split("/"))
    saved = SavedMaps(tmp_path / "maps")
    assert sorted(saved.photos) == sorted(names)
    assert all(one.maps.equal(saved[0].maps) for one in saved)


@pytest.mark.filterwarnings("ignore:.*left out")
def test_neighbours_of_a_photo_that_cannot_be_read_are_explained_once(words, tmp_path):
    given = words(write_photos(tmp_path / "broken", -4), at_once=4)
    for _ in range(3):
        assert main(given) == 0
        assert len(lines(tmp_path / "maps")) == 3


def test_a_label_that_is_no_class_of_the_network(words, photos, tmp_path, capsys):
    content = json.loads((photos / "annotations.json").read_text())
    content["annotations"][-1]["category_id"] = 7
    (photos / "annotations.json").write_text(json.dumps(content))
    assert main(words(photos)) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert "`data`" in said
    assert "0..2, but images/3.png has 7" in said
    assert lines(tmp_path / "maps") == []
    assert main(words(photos, target="top1")) == 0  # labels are not asked for


def test_groups_of_photos_with_one_label(words, tmp_path):
    """ImageNet's labels count class folders; a group of the last of three is group 0, the others have none."""
    root = write_imagenet(tmp_path / "imagenet", {f"n{i:08d}": 1 for i in range(3)})
    (tmp_path / "groups.json").write_text(json.dumps({"n00000002": [1, 2], "other": [0]}))
    with pytest.warns(UserWarning, match="3 of ImageNet's 1000"):
        assert main(words("imagenet", root=root, groups=tmp_path / "groups.json")) == 0
    assert [(one.classes, one.names) for one in SavedMaps(tmp_path / "maps")] == [
        ([], []),
        ([], []),
        ([0], ["n00000002"]),
    ]


class _NoTensors(pickle.Pickler):
    def reducer_override(self, obj):
        assert not isinstance(obj, torch.Tensor)
        return NotImplemented


def test_photos_go_to_other_processes_without_tensors(photos, small_weights):
    """Each tensor would be a file that the processes share, and there are limits to the number of open files."""
    network = load_network("small_cnn", str(small_weights))
    found = JobPhotos(str(photos), None, None, 0, network)
    content = io.BytesIO()
    _NoTensors(content).dump(found)
    again = pickle.loads(content.getvalue())
    for index in range(4):
        one, same = found[index], again[index]
        assert (one.key, one.file) == (same.key, same.file)
        assert (one.picture == same.picture).all()
        assert {name: value.tolist() for name, value in one.target.items()} == {
            name: value.tolist() for name, value in same.target.items()
        }
    assert isinstance(found[0].target["boxes"].sum().item(), float)  # pickling has changed nothing here
