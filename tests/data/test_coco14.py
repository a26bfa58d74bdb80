"""COCO14 from trees in COCO's format that the tests write: masks, crowds, class indices, and what is missing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sess_lightning.data import COCO14, coco14
from sess_lightning.metrics import PointingGame
from tests.helpers.data_trees import COCO_CATEGORIES, break_photo, write_coco

GOLDEN = Path(__file__).parents[1] / "golden" / "metrics"
ANNOTATIONS = json.loads((GOLDEN / "coco_tiny.json").read_text())["annotations"]  # two dogs and a crowd, 60 x 80
TEDDY = {
    "id": 9, "image_id": 5, "category_id": 88, "iscrowd": 0, "bbox": [2, 3, 5.5, 4],
    "segmentation": [[2, 3, 7.5, 3, 7.5, 7, 2, 7], [0, 0, 1, 0, 1, 1, 0, 1]],
}  # fmt: skip


def ready(root, **options):
    data = COCO14(str(root), **options)
    data.setup()
    return data


@pytest.fixture
def tree(tmp_path):
    return write_coco(tmp_path, {7: (60, 80), 5: (20, 10), 6: (9, 12)}, [*ANNOTATIONS, TEDDY])


def test_objects(tree):
    data = ready(tree, batch_size=3)
    ((images, targets),) = data.val_dataloader()
    assert [tuple(image.shape) for image in images] == [(3, 20, 10), (3, 9, 12), (3, 60, 80)]
    assert [target["image_id"].item() for target in targets] == [5, 6, 7]
    assert [target["labels"].tolist() for target in targets] == [[77], [], [16, 16, 0]]
    assert [target["iscrowd"].tolist() for target in targets] == [[0], [], [0, 0, 1]]
    assert targets[0]["boxes"].tolist() == [[2, 3, 7.5, 7]]
    assert targets[1]["masks"].shape == (0, 9, 12)
    assert targets[1]["boxes"].shape == (0, 4)
    assert targets[2]["masks"].shape == (3, 60, 80)
    assert targets[2]["masks"].dtype == torch.bool
    assert data.class_names == {i: f"category {number}" for i, number in enumerate(COCO_CATEGORIES)}
    assert len(data.class_names) == 80


def test_several_polygons_are_one_mask(tree):
    (mask,) = ready(tree).val_dataloader().dataset[0][1]["masks"]
    expected = torch.zeros(20, 10, dtype=torch.bool)
    expected[3:7, 2:7] = True
    expected[0, 0] = True
    assert torch.equal(mask[:, :7], expected[:, :7])
    assert not mask[:, 8:].any()  # column 7 is half covered: pycocotools decides


def test_the_pointing_game_as_torchray_plays_it(tree):
    arrays = np.load(GOLDEN / "pointing_coco.npz")
    target = ready(tree).val_dataloader().dataset[2][1]
    for i in range(int(arrays["n"])):
        label, (u, v) = int(arrays[f"class_id_{i}"]), arrays[f"point_{i}"].astype(int)
        region = target["masks"][target["labels"] == label].any(0)
        assert np.array_equal(region, arrays[f"mask_{i}"])
        saliency = torch.zeros(1, 60, 80)
        saliency[0, v, u] = 1
        metric = PointingGame(80, tolerance=int(arrays[f"tol_{i}"]))
        metric.update(saliency, torch.tensor([label]), [target])
        assert (metric.compute() == 1) == (arrays[f"hit_{i}"] == 1)


def test_masks_are_drawn_when_they_are_asked_for(tree, monkeypatch):
    from pycocotools.coco import COCO

    drawn = []
    draw = COCO.annToMask
    monkeypatch.setattr(COCO, "annToMask", lambda self, one: drawn.append(one["id"]) or draw(self, one))
    photos = ready(tree).val_dataloader().dataset
    assert drawn == []
    assert len(photos[2][1]["masks"]) == 3
    assert drawn == [1, 2, 3]


def test_nothing_is_printed(tree, capsys):
    ready(tree)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("missing", ["val2014", "annotations/instances_val2014.json"])
def test_what_is_missing_is_named(tree, missing):
    (tree / missing).rename(tree / "elsewhere")
    with pytest.raises(ValueError, match=rf"Found no .*{missing}\. Expected .*val2014/\*\.jpg and annotations/"):
        ready(tree)


def test_a_missing_photo_is_named(tree):
    (tree / "val2014" / "COCO_val2014_000000000006.jpg").unlink()
    with pytest.raises(ValueError, match=r"json lists 1 photos that are not in .*val2014, e\.g\. COCO_.*06\.jpg"):
        ready(tree)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "JSONDecodeError"),
        ("[]", "list"),
        ("{}", "images or categories"),
        ('{"images": [{}]}', "id"),
    ],
)
def test_annotations_that_cannot_be_read(tree, content, said):
    (tree / "annotations" / "instances_val2014.json").write_text(content)
    with pytest.raises(ValueError, match=rf"Could not read .*instances_val2014\.json: .*{said}"):
        ready(tree)


def test_an_annotation_without_a_mask_is_named(tmp_path):
    bare = {key: value for key, value in TEDDY.items() if key != "segmentation"}
    with pytest.raises(ValueError, match=r"Annotation 9 in .*instances_val2014\.json has no segmentation"):
        ready(write_coco(tmp_path, {5: (20, 10)}, [bare]))


def test_a_broken_photo_is_named(tree):
    break_photo(tree / "val2014" / "COCO_val2014_000000000006.jpg")
    with pytest.raises(ValueError, match=r"Could not read the photo .*COCO_val2014_000000000006\.jpg"):
        list(ready(tree).val_dataloader())


def test_without_pycocotools(tree, monkeypatch):
    monkeypatch.setattr(coco14, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'sess-lightning\[benchmark\]'"):
        ready(tree)
