"""`sess-lightning maps` writes what SESS says, and `SavedMaps` reads it."""

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as TF

from sess_lightning import SESS
from sess_lightning.cli import main
from sess_lightning.data import SavedMaps
from sess_lightning.jobs.maps import _Explain
from sess_lightning.networks import load_network
from tests.helpers.nets import seeded
from tests.helpers.photo_folder import write_photos


@pytest.fixture
def plain(tmp_path):
    """A folder of photos of noise, without annotations."""
    for name, size in (
        ("a.png", (60, 80)),
        ("cats/b.one.png", (90, 64)),
        ("cats/a.png", (64, 64)),
        (".x/h.png", (9, 9)),
    ):
        file = tmp_path / "plain" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((seeded(len(name), *size, 3).sigmoid() * 255).byte().numpy()).save(file)
    (tmp_path / "plain" / "notes.txt").write_text("no photo")
    return tmp_path / "plain"


def expected(small_weights, path, classes, **options):
    """SESS by hand: the maps `(K, H, W)` of a photo."""
    network = load_network("small_cnn", str(small_weights))
    pixels = TF.to_dtype(TF.pil_to_tensor(Image.open(path)), torch.float32, scale=True)
    image = TF.normalize(pixels, list(network.mean), list(network.std))
    sess = SESS("gradcam", num_scales=2, window_size=64, **options)
    return sess(network.module.eval(), [image] * len(classes), torch.tensor(classes)).maps


@pytest.mark.parametrize(("dtype", "step"), [("uint8", 0.5 / 255), ("float16", 2**-12)])
def test_maps_of_annotated_classes(words, small_weights, tmp_path, capsys, dtype, step):
    photos = write_photos(tmp_path / "photos", 3)
    assert main(words(photos, dtype=dtype)) == 0
    assert "5 maps of 3 photos" in capsys.readouterr().out
    saved = SavedMaps(tmp_path / "maps")
    assert saved.photos == [f"images/{i}.png" for i in range(3)]
    assert [one.classes for one in saved] == [[0, 1], [1], [0, 2]]
    for one in saved:
        maps = expected(small_weights, photos / one.photo, one.classes)
        assert one.names == [f"class {label}" for label in one.classes]
        assert one.size == tuple(maps.shape[1:]) == (80, 100)
        assert one.valid == [True] * len(one.classes)
        torch.testing.assert_close(one.maps, maps, atol=step * 1.001, rtol=0)
    assert saved.of("images/1.png").maps.equal(saved[1].maps)


@pytest.mark.parametrize(("target", "count"), [(None, 1), ("top1", 1), ("top3", 3), ("top9", 3)])
def test_maps_of_predicted_classes(words, small_weights, plain, tmp_path, target, count):
    """Of any folder: with its subfolders, without what is hidden or no photo. The network has three classes."""
    given = {} if target is None else {"target": target}
    assert main(words(plain, **given)) == 0
    saved = SavedMaps(tmp_path / "maps")
    assert saved.photos == ["a.png", "cats/a.png", "cats/b.one.png"]
    network = load_network("small_cnn", str(small_weights))
    for one in saved:
        pixels = TF.to_dtype(TF.pil_to_tensor(Image.open(plain / one.photo)), torch.float32, scale=True)
        image = TF.normalize(pixels, list(network.mean), list(network.std))
        squashed = TF.resize(image, [64, 64], antialias=True)
        logits = network.module.eval()(squashed[None])[0]
        assert one.classes == logits.argsort(descending=True)[:count].tolist()
        torch.testing.assert_close(
            one.maps, expected(small_weights, plain / one.photo, one.classes), atol=0.51 / 255, rtol=0
        )


def test_names_are_those_of_the_data_or_else_of_the_network(words, plain, tmp_path, monkeypatch):
    def named(*given):
        return load_network(*given)._replace(class_names={0: "x", 1: "y", 2: "z"})

    monkeypatch.setattr("sess_lightning.jobs.networks.load_network", named)
    assert main(words(plain, target="top3")) == 0
    assert all(sorted(one.names) == ["x", "y", "z"] for one in SavedMaps(tmp_path / "maps"))
    assert main(words(write_photos(tmp_path / "photos", 1), "named", target="top3")) == 0
    assert sorted(SavedMaps(tmp_path / "named")[0].names) == ["class 0", "class 1", "class 2"]


def test_large_photos_are_scaled_down(words, plain, tmp_path):
    assert main(words(plain, max_side=50)) == 0
    sizes = {"a.png": (37, 50), "cats/a.png": (50, 50), "cats/b.one.png": (50, 35)}
    assert {one.photo: tuple(one.maps.shape[1:]) for one in SavedMaps(tmp_path / "maps")} == sizes
    resized = SavedMaps(tmp_path / "maps", resized=True)
    assert [tuple(one.maps.shape[1:]) for one in resized] == [one.size for one in resized] != list(sizes.values())
    assert main(words(plain, "whole", max_side=50, size="photo")) == 0
    for one, same in zip(SavedMaps(tmp_path / "whole"), resized, strict=True):
        assert one.size == tuple(one.maps.shape[1:])
        torch.testing.assert_close(one.maps, same.maps, atol=1.01 / 255, rtol=0)  # rounded after resizing, or before


def test_a_photo_without_objects_has_no_maps(words, tmp_path):
    photos = write_photos(tmp_path / "photos", 2)
    content = json.loads((photos / "annotations.json").read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] == 0]
    (photos / "annotations.json").write_text(json.dumps(content))
    assert main(words(photos)) == 0
    empty = SavedMaps(tmp_path / "maps", resized=True)[1]
    assert (empty.classes, tuple(empty.maps.shape), empty.valid) == ([], (0, 80, 100), [])


def test_other_programs_read_the_tar_file(words, plain, tmp_path):
    """Two members a photo, of the same name up to the first dot, as WebDataset groups them."""
    assert main(words(plain)) == 0
    with tarfile.open(tmp_path / "maps" / "maps-0.tar") as tar:
        content = {member.name: tar.extractfile(member).read() for member in tar}
    bases = [name.partition(".")[0] for name in content]
    assert bases[::2] == bases[1::2]
    assert len(set(bases)) == 3
    assert [name.partition(".")[2] for name in content] == ["json", "maps.npy"] * 3
    by_photo = {json.loads(content[f"{base}.json"])["photo"]: np.load(io.BytesIO(content[f"{base}.maps.npy"]))
                for base in bases}  # fmt: skip
    for one in SavedMaps(tmp_path / "maps"):
        assert np.array_equal(by_photo[one.photo], (one.maps * 255).round().byte().numpy())


def test_a_loader_reads_in_processes(words, plain, tmp_path):
    assert main(words(plain)) == 0
    saved = SavedMaps(tmp_path / "maps")
    loader = DataLoader(saved, batch_size=None, num_workers=2)
    assert [one.photo for one in loader] == saved.photos


@pytest.mark.parametrize("cut", [1030, 5000])
def test_a_tar_file_that_was_cut_short_is_written_on(words, plain, tmp_path, cut):
    """However much is missing, what the index names and the file lacks is explained again."""
    assert main(words(plain)) == 0
    tar = tmp_path / "maps" / "maps-0.tar"
    before = tar.read_bytes()
    tar.write_bytes(before[:-cut])
    assert main(words(plain)) == 0
    assert tar.read_bytes() == before
    assert len(SavedMaps(tmp_path / "maps")) == 3


@pytest.mark.parametrize("cut", [1, 700])
def test_the_end_of_a_tar_file_may_be_missing(words, plain, tmp_path, cut):
    """All maps are there, so nothing is written; the next photo makes it whole."""
    assert main(words(plain)) == 0
    tar = tmp_path / "maps" / "maps-0.tar"
    tar.write_bytes(tar.read_bytes()[:-cut])
    assert main(words(plain)) == 0
    assert len([one.maps for one in SavedMaps(tmp_path / "maps")]) == 3
    (plain / "d.png").write_bytes((plain / "a.png").read_bytes())
    assert main(words(plain)) == 0
    assert tar.stat().st_size % 512 == 0
    with tarfile.open(tar) as whole:
        assert len(whole.getnames()) == 8


def test_a_photo_that_was_replaced_has_new_maps(words, plain, tmp_path):
    assert main(words(plain)) == 0
    old = SavedMaps(tmp_path / "maps")
    (plain / "a.png").write_bytes((plain / "cats" / "a.png").read_bytes())
    assert main(words(plain)) == 0
    new = SavedMaps(tmp_path / "maps")
    assert new.of("a.png").maps.equal(new.of("cats/a.png").maps)
    assert new.of("cats/b.one.png").maps.equal(old.of("cats/b.one.png").maps)
    assert len(new) == 3


def test_two_commands_do_not_write_to_one_file(words, plain, tmp_path, capsys):
    fcntl = pytest.importorskip("fcntl")
    assert main(words(plain)) == 0
    (tmp_path / "maps" / "maps-0.index.jsonl").write_text("")
    with (tmp_path / "maps" / "maps-0.tar").open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert main(words(plain)) == 2
    assert "no other command writes to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value"),
    [("target", "best"), ("target", "top0"), ("dtype", "int8"), ("size", "half"), ("max_side", 0), ("max_side", 1),
     ("at_once", 0), ("workers", -1), ("model", "a,b"), ("num_nodes", 0), ("num_nodes", 2), ("devices", "many"),
     ("strategy", "none")],
)  # fmt: skip
def test_a_wrong_value_names_its_argument(words, plain, capsys, option, value):
    assert main(words(plain, **{option: value})) == 2
    assert option in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("target", "labels", "count"),
    [(None, [4, 1, 4], 2), ("labels", [4, 1, 7], 3), (None, [-1], 0), ("top1", [4, 1], 1), ("top5", [4, 1], 5),
     (None, None, 1), ("top2", None, 2)],
)  # fmt: skip
def test_a_photo_costs_its_patches_for_each_class_to_explain(target, labels, count):
    """By these costs photos are dealt to processes, so that all end at about the same time."""
    sess = SESS("gradcam", scales=[64, 128], window_size=64)
    annotated = {} if labels is None else {"labels": torch.tensor(labels)}
    patches = len(sess.windows_for((64, 96), (64, 64)))
    assert patches > 1
    assert _Explain(sess, target, {}).cost((64, 96), annotated) == 1 + count * patches


def test_labels_of_photos_that_have_none(words, plain, capsys):
    assert main(words(plain, target="labels")) == 2
    assert "`target`" in capsys.readouterr().err.splitlines()[-1]


def test_other_settings_are_refused(words, plain, capsys):
    assert main(words(plain)) == 0
    assert main(words(plain, dtype="float16")) == 2
    assert "`dtype` was 'uint8' and is 'float16'" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["maps.index.jsonl", "maps-0.tar"])
def test_a_folder_that_is_not_whole(words, plain, tmp_path, missing):
    assert main(words(plain)) == 0
    (tmp_path / "maps" / missing).unlink()
    with pytest.raises(ValueError, match=missing):
        SavedMaps(tmp_path / "maps")


def test_a_tar_file_shorter_than_its_index_says(words, plain, tmp_path):
    assert main(words(plain)) == 0
    tar = tmp_path / "maps" / "maps-0.tar"
    tar.write_bytes(tar.read_bytes()[:600])
    with pytest.raises(ValueError, match="cut short"):
        SavedMaps(tmp_path / "maps")[2]
