"""Batches as users' loaders give them: more parts, named parts, and forms that are refused with the way out."""

from collections import UserDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from sess_lightning.samples import Samples, batch_to_samples
from tests.helpers.nets import seeded

IMAGES = seeded(0, 3, 3, 8, 9)
LABELS = torch.tensor([2, 0, 1])
BOXES = torch.tensor([[0.0, 0, 4, 4], [1, 1, 8, 8]]).expand(3, 2, 4)

Named = namedtuple("Named", ["label", "image", "path"])
Other = namedtuple("Other", ["first", "second"])


@dataclass
class Batch:
    name: list
    img: torch.Tensor
    y: torch.Tensor


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, LABELS, ["a.png", "b.png", "c.png"]),
        (IMAGES, LABELS, torch.arange(3)),
        (IMAGES, LABELS, {"path": ["a", "b", "c"]}, torch.zeros(3, 2)),
        [IMAGES, LABELS, torch.zeros(3, 8, 9)],
        (list(IMAGES), LABELS, None),
    ],
    ids=["files", "indices", "dict and numbers", "a mask each", "list of images"],
)
def test_more_parts_are_noted(batch):
    samples = batch_to_samples(batch)
    assert samples.labels.tolist() == [2, 0, 1]
    assert torch.equal(torch.stack(list(samples.images)), IMAGES)
    assert list(samples.notes) == ["parts"]
    assert "first part" in samples.notes["parts"]
    assert "batch_to_samples=" in samples.notes["parts"]


@pytest.mark.parametrize(
    "batch",
    [
        (IMAGES, IMAGES),
        (IMAGES, IMAGES, LABELS),
        (IMAGES, LABELS, torch.zeros(3, 1, 8, 9)),
        (IMAGES, list(IMAGES), LABELS),
    ],
    ids=["pair", "pair and labels", "masks with channels", "list"],
)
def test_several_images_are_refused(batch):
    with pytest.raises(TypeError, match=r"(?s)several parts of the batch hold images.*batch_to_samples="):
        batch_to_samples(batch)


def test_views_are_refused():
    with pytest.raises(ValueError, match=r"(?s)\(3, 3, 8, 9\).*one image per sample.*batch_to_samples="):
        batch_to_samples(([IMAGES, IMAGES], LABELS, ["a", "b", "c"]))


@pytest.mark.parametrize(
    "batch",
    [
        Named(LABELS, IMAGES, ["a", "b", "c"]),
        Other(IMAGES, LABELS),
        Batch(["a", "b", "c"], IMAGES, LABELS),
        UserDict(pixel_values=IMAGES, labels=LABELS),
        {"image": IMAGES, "label": LABELS[:, None], "image_meta_dict": {}},
        {"image": ["a.png", "b.png", "c.png"], "pixel_values": IMAGES, "class": ["x", "y", "x"], "class_id": LABELS},
        (IMAGES, {"label": LABELS, "path": ["a", "b", "c"]}),
        Samples(IMAGES, LABELS),
    ],
    ids=["named tuple", "other names", "dataclass", "UserDict", "column", "texts beside", "dict second", "Samples"],
)
def test_named_parts(batch):
    samples = batch_to_samples(batch)
    assert samples.images is IMAGES
    assert samples.labels.tolist() == [2, 0, 1]
    assert not samples.notes


@pytest.mark.parametrize(
    "batch",
    [
        {"image": IMAGES, "boxes": BOXES, "labels": torch.tensor([[1, 2], [3, 4], [5, 6]])},
        {"image": IMAGES, "bbox_xyxy": list(BOXES), "label": list(torch.tensor([[1, 2], [3, 4], [5, 6]]))},
        (IMAGES, {"boxes": BOXES, "labels": torch.tensor([[1, 2], [3, 4], [5, 6]])}),
    ],
    ids=["stacked", "lists", "stacked dict second"],
)
def test_labels_of_single_boxes_are_no_rows_of_scores(batch):
    samples = batch_to_samples(batch)
    assert samples.labels.tolist() == [2, 4, 6]  # of the larger box
    assert [found["labels"].tolist() for found in samples.objects] == [[1, 2], [3, 4], [5, 6]]
    assert all(torch.equal(found["boxes"], BOXES[0]) for found in samples.objects)


def test_labels_of_images_and_of_boxes():
    batch = {"image": IMAGES, "label": LABELS, "labels": torch.tensor([[1, 2], [3, 4], [5, 6]]), "boxes": BOXES}
    samples = batch_to_samples(batch)
    assert samples.labels.tolist() == [2, 0, 1]
    assert [found["labels"].tolist() for found in samples.objects] == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("labels", "several"), [(torch.eye(3), False), (torch.tensor([[0, 1, 1], [1, 0, 0], [0, 0, 0]]), True)]
)
def test_several_classes_of_a_sample_are_marked(labels, several):
    assert batch_to_samples((IMAGES, labels)).multi_label == several


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        ((np.zeros((3, 8, 9, 3)), LABELS), TypeError, r"ndarray \(3, 8, 9, 3\).*ToTensorV2"),
        (([np.zeros((8, 9, 3))] * 3, LABELS), TypeError, r"list of 3 ndarray.*ToTensorV2"),
        ((torch.zeros(3, 3, 8, 9, dtype=torch.uint8), LABELS), TypeError, r"uint8.*ToDtype.*Normalize"),
        ((torch.zeros(3, 32, 40, 3), LABELS), ValueError, r"channels first.*\(3, 32, 40, 3\)"),
        ((torch.zeros(3, 28, 28, 1), LABELS), ValueError, r"channels first.*\(3, 28, 28, 1\)"),
        ((torch.zeros(3, 1, 16, 32, 32), LABELS), ValueError, r"\(3, 1, 16, 32, 32\)"),
        (Batch([], None, LABELS), TypeError, "a Batch of name"),
        ((IMAGES, [{"boxes": [[0, 0, 1, 1]], "labels": ["cat"]}] * 3), (TypeError, ValueError), "list of 3 dict"),
    ],
    ids=["array", "arrays", "uint8", "channels last", "grey channels last", "volumes", "no images", "words"],
)
def test_what_is_refused(batch, error, says):
    with pytest.raises(error, match=rf"(?s){says}.*batch_to_samples="):
        batch_to_samples(batch)


def test_a_signal_is_an_image_of_one_column():
    assert len(batch_to_samples((torch.zeros(2, 12, 100, 1), torch.tensor([0, 1])))) == 2


@pytest.mark.parametrize(
    ("shape", "refused"),
    [((5, 7, 3), True), ((7, 5, 4), True), ((4, 7, 3), False), ((7, 4, 3), False), ((7, 7, 5), False)],
)
def test_small_images_may_have_any_shape(shape, refused):
    """A network may take 5 x 7 pixels of 3 channels or 5 channels of 7 x 3: from 5 rows and columns on it is told."""
    batch = torch.zeros(2, *shape), torch.tensor([0, 1])
    if refused:
        with pytest.raises(ValueError, match="channels first"):
            batch_to_samples(batch)
    else:
        assert len(batch_to_samples(batch)) == 2


@pytest.mark.parametrize("canvas", [(8, 9), (9, 8), (80, 90)])
def test_boxes_of_another_canvas_are_noted(canvas):
    boxes = tv_tensors.BoundingBoxes([[1.0, 1, 4, 4]], format="XYXY", canvas_size=canvas)
    batch = torch.zeros(2, 3, 8, 9), [{"boxes": boxes, "labels": torch.tensor([1])} for _ in range(2)]
    notes = batch_to_samples(batch).notes
    assert (f"{canvas[0]} x {canvas[1]} pixels" in str(notes)) == (canvas != (8, 9))
