"""The pointing game against TorchRay's (row 39), run on tests/golden/metrics: boxes, masks of COCO, aggregation."""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sess_lightning.metrics import PointingGame, pointing_hits

FOLDER = Path(__file__).parents[1] / "golden" / "metrics"
VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
TOLERANCE_0 = {"inside_tol0", "fullres_hit_tol0"}  # never a hit in TorchRay; here the exact pixel


def cases(name):
    """One dict per case, e.g. `{"name": ..., "hit": ...}`."""
    arrays = np.load(FOLDER / f"pointing_{name}.npz")
    fields = {key.rsplit("_", 1)[0] for key in arrays.files if key != "n"}
    return [
        {field: arrays[f"{field}_{i}"] for field in fields if f"{field}_{i}" in arrays.files}
        for i in range(int(arrays["n"]))
    ]


def counted(name):
    return [pytest.param(case, id=str(case["name"])) for case in cases(name) if str(case["name"]) not in TOLERANCE_0]


def voc_objects(label):
    """torchvision's VOC annotation as boxes; 1-based inclusive pixels enter as (xmin - 1, ymin - 1, xmax, ymax)."""
    objects = json.loads(str(label))["annotation"]["object"]
    objects = [objects] if isinstance(objects, dict) else objects
    boxes = [[int(one["bndbox"][key]) for key in ("xmin", "ymin", "xmax", "ymax")] for one in objects]
    return {
        "boxes": torch.tensor(boxes).float() - torch.tensor([1, 1, 0, 0]),
        "labels": torch.tensor([VOC.index(one["name"]) for one in objects]),
        "difficult": torch.tensor([one["difficult"] == "1" for one in objects]),
    }


def outcome(metric):
    """1 for a hit, -1 for a miss, 0 for a skipped sample."""
    if metric.skipped:
        assert metric.skipped == 1
        assert torch.isnan(metric.compute())
        return 0
    return 1 if metric.compute() == 1 else -1


def test_all_cases_are_there():
    assert [len(counted(name)) for name in ("low", "voc", "coco")] == [27, 26, 8]


@pytest.mark.parametrize("case", [case for name in ("low", "coco") for case in counted(name)])
def test_pointing_hits(case):
    hits = pointing_hits(torch.from_numpy(case["point"])[None], torch.from_numpy(case["mask"])[None], int(case["tol"]))
    assert bool(hits[0]) is (int(case["hit"]) == 1)


@pytest.mark.parametrize("name", ["low", "voc"])
def test_tolerance_0_means_the_exact_pixel(name):
    case = next(case for case in cases(name) if str(case["name"]) in TOLERANCE_0)
    point, mask = torch.from_numpy(case["point"])[None], torch.from_numpy(case["mask"])[None]
    assert pointing_hits(point, mask, 0).tolist() == [True]
    assert pointing_hits(point, ~mask, 0).tolist() == [False]


@pytest.mark.parametrize("case", counted("voc"))
def test_voc_boxes(case):
    metric = PointingGame(20, int(case["tol"]), subset="difficult" if case["difficult"] else "all")
    saliency = torch.from_numpy(case["resized"])[None]
    metric.update(saliency, torch.tensor([VOC.index(str(case["cls"]))]), [voc_objects(case["label"])])
    assert outcome(metric) == int(case["hit"])


@pytest.mark.parametrize("case", [case for case in counted("voc") if int(case.values[0]["hit"])])
def test_maps_are_resized_to_masks(case):
    metric = PointingGame(tolerance=int(case["tol"]))
    objects = {"masks": torch.from_numpy(case["mask"])[None], "labels": torch.tensor([3])}
    metric.update([torch.from_numpy(case["saliency"])], torch.tensor([3]), [objects])
    assert outcome(metric) == int(case["hit"])


@pytest.mark.parametrize("case", counted("coco"))
def test_coco_masks_and_crowds(case):
    coco_api = pytest.importorskip("pycocotools.coco")
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_api.COCO(FOLDER / "coco_tiny.json")
    annotations = coco.loadAnns(coco.getAnnIds(7))
    category = {16: 18, 0: 1}  # TorchRay counts the 80 categories, COCO has gaps
    objects = {
        "masks": torch.from_numpy(np.stack([coco.annToMask(one) for one in annotations])),
        "labels": torch.tensor([one["category_id"] for one in annotations]),
        "iscrowd": torch.tensor([one["iscrowd"] for one in annotations]),
    }
    saliency = torch.zeros(1, 60, 80)
    saliency[0, case["point"][1], case["point"][0]] = 1
    metric = PointingGame(tolerance=int(case["tol"]))
    metric.update(saliency, torch.tensor([category[int(case["class_id"])]]), [objects])
    assert outcome(metric) == int(case["hit"])


def test_aggregation():
    golden = np.load(FOLDER / "pointing_aggregate.npz")
    classes = int(golden["num_classes"])
    averages = ("micro", "macro", "macro_all")
    metrics = {average: PointingGame(classes, tolerance=1, average=average) for average in averages}
    saliency = torch.zeros(1, 4, 4)
    saliency[0, 1, 1] = 1
    box = {1: [1.0, 1, 2, 2], -1: [2.0, 2, 3, 3]}
    for class_id, hit in zip(golden["class_ids"].tolist(), golden["hits_in"].tolist(), strict=True):
        label = class_id if hit else (class_id + 1) % classes
        objects = {"boxes": torch.tensor([box[hit or 1]]), "labels": torch.tensor([label])}
        for metric in metrics.values():
            metric.update(saliency, torch.tensor([class_id]), [objects])
    metric = metrics["macro_all"]
    np.testing.assert_array_equal(metric.pointing_correct, golden["hits"])
    np.testing.assert_array_equal(metric.pointing_total, golden["hits"] + golden["misses"])
    np.testing.assert_allclose(metric.compute(), golden["accuracy"])
    seen = golden["hits"] + golden["misses"] > 0
    np.testing.assert_allclose(metric.class_accuracies()[seen], golden["class_accuracies"][seen])
    assert torch.isnan(metric.class_accuracies()[~seen]).all()
    np.testing.assert_allclose(metrics["macro"].compute(), golden["class_accuracies"][seen].mean())
    np.testing.assert_allclose(metrics["micro"].compute(), golden["hits"].sum() / seen_samples(golden))
    assert metric.skipped == int((golden["hits_in"] == 0).sum())


def seen_samples(golden):
    return (golden["hits"] + golden["misses"]).sum()
