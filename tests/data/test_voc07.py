"""VOC07 from trees in VOC's format that the tests write: boxes, difficult flags, download, and what is missing."""

import hashlib
import json
import re
import tarfile
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from torchvision.datasets import voc

from sess_lightning.data import VOC07
from sess_lightning.data.voc07 import VOC_CLASSES
from sess_lightning.metrics import PointingGame
from sess_lightning.metrics.objects import boxes_to_mask
from tests.helpers.data_trees import break_photo, voc_object, write_voc

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics" / "pointing_voc.npz"
HEAD = {"name": "head", "bndbox": {"xmin": 3, "ymin": 3, "xmax": 4, "ymax": 4}}
PHOTOS = {
    "000001": (60, 80, [voc_object("dog", (11, 21, 30, 40)), voc_object("person", (1, 1, 80, 60), 1, part=[HEAD])]),
    "000002": (50, 40, [voc_object("train", (5, 6, 7, 8))]),
    "000003": (30, 30, []),
}


def ready(root, **options):
    data = VOC07(str(root), **options)
    data.prepare_data()
    data.setup()
    return data


def golden_cases():
    """TorchRay's outcome for maps and annotations, the latter as torchvision reads VOC's files."""
    arrays = np.load(GOLDEN)
    fields = ("name", "label", "resized", "class_id", "tol", "difficult", "hit", "mask")
    for i in range(int(arrays["n"])):
        case = {field: arrays[f"{field}_{i}"] for field in fields if f"{field}_{i}" in arrays.files}
        if case["tol"] > 0:  # TorchRay's 0 never hits
            yield case


@contextmanager
def serving(folder):
    """The address of a server that has the files of a folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_objects(tmp_path):
    data = ready(write_voc(tmp_path, PHOTOS), batch_size=3)
    ((images, targets),) = data.val_dataloader()
    assert [tuple(image.shape) for image in images] == [(3, 60, 80), (3, 50, 40), (3, 30, 30)]
    assert targets[0]["boxes"].tolist() == [[10, 20, 30, 40], [0, 0, 80, 60]]
    assert targets[0]["labels"].tolist() == [11, 14]
    assert targets[0]["difficult"].tolist() == [0, 1]
    assert (targets[1]["boxes"].tolist(), targets[1]["labels"].tolist()) == ([[4, 5, 7, 8]], [18])
    assert targets[2]["boxes"].shape == (0, 4)
    assert data.class_names == dict(enumerate(VOC_CLASSES))
    assert list(VOC_CLASSES) == sorted(VOC_CLASSES)


def test_the_pointing_game_as_torchray_plays_it(tmp_path):
    cases = list(golden_cases())
    photos = {}
    for number, case in enumerate(cases):
        objects = json.loads(str(case["label"]))["annotation"]["object"]
        photos[f"{number:06d}"] = (*case["resized"].shape, objects if isinstance(objects, list) else [objects])
    ((_, targets),) = ready(write_voc(tmp_path, photos), batch_size=len(cases)).val_dataloader()
    assert len(targets) == 26
    for case, target in zip(cases, targets, strict=True):
        label = int(case["class_id"])
        metric = PointingGame(20, int(case["tol"]), subset="difficult" if case["difficult"] else "all")
        metric.update(torch.from_numpy(case["resized"])[None], torch.tensor([label]), [target])
        outcome = 0 if metric.skipped else 1 if metric.compute() == 1 else -1
        assert outcome == int(case["hit"]), case["name"]
        if "mask" in case:
            found = boxes_to_mask(target["boxes"][target["labels"] == label], case["mask"].shape)
            assert np.array_equal(found, case["mask"]), case["name"]


def test_a_batch_may_be_changed(tmp_path):
    loader = ready(write_voc(tmp_path, PHOTOS), batch_size=3).val_dataloader()
    for _ in range(2):
        ((_, targets),) = loader
        assert targets[0].pop("labels").tolist() == [11, 14]
        assert targets[0]["boxes"].mul_(0).sum() == 0


def test_some_photos_by_a_seed(tmp_path):
    write_voc(tmp_path, {f"{i:06d}": (8, 8 + i, []) for i in range(20)})
    widths = []
    for seed in (0, 0, 1):
        ((images, _),) = ready(tmp_path, limit=5, seed=seed, batch_size=5).test_dataloader()
        widths.append([image.shape[2] for image in images])
    assert widths[0] == widths[1] != widths[2]
    assert all(found == sorted(set(found)) and len(found) == 5 for found in widths)


@pytest.mark.parametrize("missing", ["ImageSets/Main/test.txt", "Annotations", "JPEGImages"])
def test_what_is_missing_is_named(tmp_path, missing):
    path = write_voc(tmp_path, PHOTOS) / "VOCdevkit" / "VOC2007" / missing
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(ValueError, match=rf"Found no .*{missing}.*VOCdevkit/VOC2007/.*download=True"):
        ready(tmp_path)


@pytest.mark.parametrize(
    ("missing", "kind"), [("Annotations/000002.xml", "annotations"), ("JPEGImages/000003.jpg", "photos")]
)
def test_a_missing_file_is_named(tmp_path, missing, kind):
    (write_voc(tmp_path, PHOTOS) / "VOCdevkit" / "VOC2007" / missing).unlink()
    with pytest.raises(ValueError, match=rf"test\.txt lists 1 {kind} that are not in .*, e\.g\. {Path(missing).name}"):
        ready(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<name>train</name>", "<name>zebra</name>", "zebra"),
        ("<xmin>5</xmin>", "", "xmin"),
        ("<xmin>5</xmin>", "<xmin>five</xmin>", "five"),
        ("</annotation>", "", "ParseError"),
    ],
)
def test_a_broken_annotation_is_named(tmp_path, old, new, said):
    file = write_voc(tmp_path, PHOTOS) / "VOCdevkit" / "VOC2007" / "Annotations" / "000002.xml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(ValueError, match=rf"(?s)Could not read the annotation .*000002\.xml: .*{said}"):
        ready(tmp_path)


def test_a_broken_photo_is_named(tmp_path):
    break_photo(write_voc(tmp_path, PHOTOS) / "VOCdevkit" / "VOC2007" / "JPEGImages" / "000002.jpg")
    with pytest.raises(ValueError, match=r"Could not read the photo .*000002\.jpg"):
        list(ready(tmp_path).val_dataloader())


def test_no_root():
    with pytest.raises(ValueError, match=r"--data\.root PHOTOS.*VOCdevkit/VOC2007"):
        VOC07().setup()


def test_download(tmp_path, monkeypatch):
    """torchvision's own download, from a server of this machine; it happens once."""
    archive = tmp_path / "served" / "VOCtest_06-Nov-2007.tar"
    tree = write_voc(tmp_path / "served", PHOTOS)
    with tarfile.open(archive, "w") as tar:
        tar.add(tree / "VOCdevkit", "VOCdevkit")
    official = voc.DATASET_YEAR_DICT["2007-test"]
    assert official["filename"] == archive.name
    md5 = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    with serving(archive.parent) as address:
        served = {**official, "url": f"{address}/{archive.name}", "md5": md5}
        monkeypatch.setitem(voc.DATASET_YEAR_DICT, "2007-test", served)
        assert len(ready(tmp_path / "new", download=True).val_dataloader().dataset) == 3
    assert len(ready(tmp_path / "new", download=True).val_dataloader().dataset) == 3
    with pytest.raises(ValueError, match=r"Could not download VOC07 to .*other.*VOCtest_06-Nov-2007\.tar"):
        ready(tmp_path / "other", download=True)


def test_a_size_that_is_no_number_is_named_with_its_file(tmp_path):
    write_voc(tmp_path, PHOTOS)
    file = next(tmp_path.rglob("000001.xml"))
    file.write_text(re.sub("<width>.*?</width>", "<width>wide</width>", file.read_text()))
    assert "wide" in file.read_text()
    with pytest.raises(ValueError, match=r"000001\.xml.*wide.*size in whole pixels"):
        ready(tmp_path)
