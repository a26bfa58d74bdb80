"""The benchmarks on VOC07, COCO14 and ImageNet, from small trees in their formats, and with the networks for them."""

import csv

import numpy as np
import pytest
import torch

from sess_lightning.cli import main
from sess_lightning.data.shapes.scenes import draw_scene
from sess_lightning.data.voc07 import VOC_CLASSES
from sess_lightning.networks.small_cnn import small_cnn
from tests.helpers.data_trees import break_photo, voc_object, write_coco, write_imagenet, write_voc
from tests.helpers.published_weights import published_resnet50

# Two classes, the dog hard to recognise once; one class twice; a class of which all is hard to recognise.
PHOTOS = {
    "000001": (80, 100, [voc_object("dog", (11, 11, 30, 30)), voc_object("person", (41, 1, 100, 80)),
                         voc_object("dog", (1, 71, 10, 80), 1)]),
    "000002": (80, 100, [voc_object("car", (1, 1, 20, 20)), voc_object("car", (61, 41, 80, 60))]),
    "000004": (80, 100, [voc_object("sofa", (1, 1, 20, 20), 1), voc_object("cat", (31, 31, 50, 50))]),
    "000006": (80, 100, [voc_object("cow", (1, 1, 20, 20))]),
}  # fmt: skip
VOC_ROOT = ("VOCdevkit", "VOC2007")


@pytest.fixture
def words(benchmark_words, tmp_path):
    """A benchmark of `small_cnn` with 20 or 80 outputs on a named data set."""

    def of(name, data, root, outputs=20, **options):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(small_cnn(outputs).state_dict(), tmp_path / "named.pth")
        given = {"root": root, "weights": tmp_path / "named.pth", "methods": "gradcam", "num_scales": 1, "ratio": 0}
        return benchmark_words(name, data, tmp_path / "out", **{**given, **options})

    return of


def rows_of(tmp_path, name="pointing", sess="True"):
    with (tmp_path / "out" / f"{name}.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["sess"] == sess]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_pointing_on_voc07(words, tmp_path, activation):
    root = write_voc(tmp_path / "voc", PHOTOS)
    break_photo(root.joinpath(*VOC_ROOT, "JPEGImages", "000006.jpg"))
    with pytest.warns(UserWarning, match="left out") as warned:
        assert main(words("pointing", "voc07", root, num_scales=2, activation=activation)) == 0
    said = [str(one.message) for one in warned if "left out" in str(one.message)]
    assert said[0].startswith(f"Photo 3 is left out: Could not read the photo {root}")
    assert "000006.jpg" in said[0]
    assert said[1] == "1 photos could not be read and are left out."
    rows = rows_of(tmp_path)
    asked = [(row["photo"], VOC_CLASSES[int(row["class"])]) for row in rows]
    assert asked == [("0", "dog"), ("0", "person"), ("1", "car"), ("2", "cat")]  # of the sofa, all is difficult
    assert [float(row["area"]) for row in rows] == pytest.approx([500 / 8000, 4800 / 8000, 800 / 8000, 400 / 8000])
    assert [row["instances"] for row in rows] == ["2", "1", "2", "1"]
    assert [row["distractor"] for row in rows] == ["True", "True", "False", "True"]
    page = (tmp_path / "out" / "pointing.md").read_text()
    head, _, base, sess = page[page.index("| method") :].splitlines()[:4]
    columns = dict(zip(head.split("|"), zip(base.split("|"), sess.split("|"), strict=True), strict=True))
    assert all(value.strip() for value in columns[" difficult (2) "])
    assert "`difficult` is empty" not in page
    assert (tmp_path / "out" / "pointing.png").read_bytes().startswith(b"\x89PNG")


def test_an_empty_difficult_column_is_said(words, tmp_path):
    root = write_voc(tmp_path / "voc", {number: PHOTOS[number] for number in ("000002", "000006")})
    main(words("pointing", "voc07", root))
    page = (tmp_path / "out" / "pointing.md").read_text()
    assert "difficult (0)" in page
    assert "`difficult` is empty" in page


def test_difficult_questions_of_drawn_scenes(words, tmp_path, capsys):
    """Less than a quarter of the image, the boxes' union, and another class present (SPEC's rule): counted by hand."""
    photos, expected = {}, set()
    for index in range(8):
        rng = np.random.default_rng(index)
        scenes = [draw_scene(rng, label, (64, 64), (12, 56)) for label in rng.permutation(8)[: 1 + index % 3]]
        objects = []
        for place, scene in enumerate(scenes):
            inside = np.zeros((64, 64 * len(scenes)), dtype=bool)
            for left, top, right, bottom in scene.boxes + np.array([64, 0, 64, 0]) * place:
                objects.append(voc_object(VOC_CLASSES[scene.label], (left + 1, top + 1, right, bottom)))
                inside[top:bottom, left:right] = True
            if inside.sum() * 4 < inside.size and len(scenes) > 1:
                expected.add((str(index), str(scene.label)))
        picture = np.concatenate([scene.image for scene in scenes], axis=1)
        photos[f"{index:06d}"] = (*picture.shape[:2], objects, picture)
    main(words("pointing", "voc07", write_voc(tmp_path / "voc", photos)))
    rows = rows_of(tmp_path)
    found = {(r["photo"], r["class"]) for r in rows if float(r["area"]) < 0.25 and r["distractor"] == "True"}
    assert found == expected
    assert 0 < len(expected) < len(rows)
    assert f"difficult ({len(expected)})" in capsys.readouterr().out


def test_pointing_on_coco14(words, tmp_path):
    """Masks, not boxes; a crowd is part of its class's region; a photo without annotations asks nothing."""
    triangle = {"segmentation": [[0, 0, 40, 0, 0, 40]], "bbox": [0, 0, 40, 40]}
    crowd = {"segmentation": {"counts": [80 * 50, 80 * 50], "size": [80, 100]}, "bbox": [50, 0, 50, 80]}
    common = {"image_id": 3, "category_id": 90}
    annotations = [
        {"id": 1, "iscrowd": 0, **common, **triangle},
        {"id": 2, "iscrowd": 1, **common, **crowd},
        {"id": 3, "iscrowd": 0, "image_id": 3, "category_id": 1, **triangle},
    ]
    main(words("pointing", "coco14", write_coco(tmp_path / "coco", {3: (80, 100), 4: (80, 100)}, annotations), 80))
    rows = rows_of(tmp_path)
    assert [(row["photo"], row["class"], row["instances"]) for row in rows] == [("0", "0", "1"), ("0", "79", "2")]
    assert [float(row["area"]) for row in rows] == pytest.approx([0.1, 0.6], abs=0.01)


@pytest.mark.filterwarnings("ignore:.*of ImageNet's 1000 classes")
@pytest.mark.parametrize("seed", [0, 1])
def test_insertion_and_deletion_on_some_photos_of_imagenet(words, tmp_path, seed):
    root = write_imagenet(tmp_path / "imagenet", {"n01440764": 6, "n02119789": 6})
    assert main(words("insertion-deletion", "imagenet", root, limit=3, seed=seed)) == 0
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))[:3].sort().values.tolist()
    assert [row["photo"] for row in rows_of(tmp_path, "insertion-deletion")] == [f"{number:02d}" for number in order]


def test_pointing_needs_objects(words, tmp_path, capsys):
    assert main(words("pointing", "imagenet", tmp_path)) == 2
    assert "objects" in capsys.readouterr().err


@pytest.mark.parametrize("data", ["voc07", "coco14", "imagenet"])
def test_data_that_are_not_there(words, tmp_path, capsys, data):
    assert main(words("insertion-deletion", data, tmp_path / "nowhere")) == 2
    assert "Expected a folder with" in capsys.readouterr().err
    assert main([word for word in words("insertion-deletion", data, "") if "--root" not in word]) == 2
    assert "--root PHOTOS" in capsys.readouterr().err


def test_a_missing_annotation(words, tmp_path, capsys):
    root = write_voc(tmp_path / "voc", PHOTOS)
    root.joinpath(*VOC_ROOT, "Annotations", "000004.xml").unlink()
    assert main(words("pointing", "voc07", root)) == 2
    assert "test.txt lists 1 annotations" in capsys.readouterr().err
    assert not (tmp_path / "out" / "pointing.csv").exists()


def test_table_3_in_small(words, root, tmp_path):
    """The config as it is, with a file of weights in the published layout; windows of 64 for the time."""
    torch.save(published_resnet50(20), tmp_path / "resnet50_voc.pth")
    tree = write_voc(tmp_path / "voc", PHOTOS)
    options = {"model": "pointing_resnet50", "weights": tmp_path / "resnet50_voc.pth", "limit": 2}
    given = words("pointing", "voc07", tree, **options)
    main([*given[:2], f"--config={root / 'configs' / 'paper_table3.yaml'}", *given[2:]])
    assert {row["model"] for row in rows_of(tmp_path)} == {"pointing_resnet50"}
    assert all(float(row["distance"]) >= 0 for row in rows_of(tmp_path))
