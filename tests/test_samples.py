"""The forms of a batch that are understood, and what is said about the others."""

from collections import OrderedDict

import pytest
import torch

from sess_lightning.samples import UNKNOWN, Samples, batch_to_samples
from tests.helpers.nets import seeded

IMAGES = seeded(0, 3, 3, 8, 9)
SIZES = [seeded(1, 3, 8, 9), seeded(2, 3, 5, 5), seeded(3, 3, 12, 4)]
LABELS = torch.tensor([2, 0, 1])


def target(boxes, labels, **more):
    return {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels, dtype=torch.long), **more}


TARGETS = [
    target([[0, 0, 4, 4], [1, 1, 8, 8]], [5, 2]),  # the larger object is of class 2
    target([[0, 0, 2, 2]], [7], label=torch.tensor(0)),  # its own label goes before
    target([[0, 0, 1, 1], [0, 0, 1, 1]], [1, 3]),  # equally large: the first
]


def test_an_entry_of_a_target_that_is_none_is_not_there():
    masks = torch.ones(1, 8, 9, dtype=torch.bool)
    samples = batch_to_samples((IMAGES, [{"boxes": None, "masks": masks, "labels": torch.tensor([1])}] * 3))
    assert samples.objects[0].keys() == {"masks", "labels"}


@pytest.mark.parametrize(
    "images", [IMAGES, SIZES, tuple(SIZES), list(IMAGES)], ids=["tensor", "list", "tuple", "same size"]
)
@pytest.mark.parametrize(
    "form",
    [
        lambda images: (images,),
        lambda images: [images],
        lambda images: {"image": images},
        lambda images: {"pixel_values": images, "id": torch.arange(3), "label": None},
    ],
)
def test_batches_without_labels(images, form):
    samples = batch_to_samples(form(images))
    assert len(samples) == 3
    assert samples.labels is None
    assert samples.objects is None
    assert all(torch.equal(image, given) for image, given in zip(samples.images, images, strict=True))


def test_a_bare_tensor_of_images():
    samples = batch_to_samples(IMAGES)
    assert samples.images is IMAGES
    assert (samples.labels, samples.objects) == (None, None)


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LABELS.int(),
        LABELS.to(torch.uint8),
        LABELS[:, None],
        LABELS.double(),
        [2, 0, 1],
        torch.nn.functional.one_hot(LABELS, 4),
        torch.nn.functional.one_hot(LABELS, 4).bool(),
        torch.tensor([[0.1, 0.2, 0.7], [0.4, 0.3, 0.3], [0.0, 1.0, 0.0]]),
        torch.tensor([[0, 0, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1]]),
    ],
    ids=["long", "int", "uint8", "column", "whole floats", "list", "one-hot", "bool", "soft", "multi-hot"],
)
@pytest.mark.parametrize("form", [tuple, list, lambda pair: {"x": pair[0], "y": pair[1]}])
def test_labels_of_every_kind(labels, form):
    samples = batch_to_samples(form((IMAGES, labels)))
    assert samples.labels.dtype == torch.long
    assert samples.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("image_key", ["image", "images", "pixel_values", "img", "x", "inputs"])
@pytest.mark.parametrize("label_key", ["label", "labels", "target", "targets", "y", "class"])
def test_the_usual_keys(image_key, label_key):
    for kind in (dict, OrderedDict):
        samples = batch_to_samples(kind({"id": torch.arange(3), label_key: LABELS, image_key: IMAGES}))
        assert samples.images is IMAGES
        assert torch.equal(samples.labels, LABELS)


@pytest.mark.parametrize("images", [IMAGES, SIZES], ids=["tensor", "list"])
@pytest.mark.parametrize(
    "form", [lambda i, t: (i, t), lambda i, t: (i, tuple(t)), lambda i, t: {"image": i, "target": t}]
)
def test_detection_targets(images, form):
    samples = batch_to_samples(form(images, TARGETS))
    assert samples.labels.tolist() == [2, 0, 1]
    for found, given in zip(samples.objects, TARGETS, strict=True):
        assert torch.equal(found["boxes"], given["boxes"])
        assert torch.equal(found["labels"], given["labels"])


def test_targets_with_masks():
    masks = torch.zeros(2, 8, 9, dtype=torch.bool)
    masks[0, 0, 0] = masks[1, 2:5, 2:5] = True
    samples = batch_to_samples((IMAGES[:1], [{"masks": masks, "labels": torch.tensor([4, 6])}]))
    assert samples.labels.tolist() == [6]
    assert torch.equal(samples.objects[0]["masks"], masks)


@pytest.mark.parametrize("shape", [(0,), (0, 4)])
def test_no_objects_means_the_class_is_unknown(shape):
    empty = {"boxes": torch.zeros(shape), "labels": torch.zeros(0, dtype=torch.long)}
    samples = batch_to_samples((IMAGES[:2], [empty, TARGETS[0]]))
    assert samples.labels.tolist() == [UNKNOWN, 2] == [-1, 2]
    assert samples.objects[0]["boxes"].shape == (0, 4)


def test_boxes_beside_labels():
    boxes = [torch.tensor([[0.0, 0, 2, 2], [1, 1, 3, 3]]), torch.zeros(0), torch.tensor([[0.0, 0, 5, 5]])]
    samples = batch_to_samples({"image": IMAGES, "label": LABELS, "boxes": boxes})
    assert [found["labels"].tolist() for found in samples.objects] == [[2, 2], [], [1]]
    assert [tuple(found["boxes"].shape) for found in samples.objects] == [(2, 4), (0, 4), (1, 4)]


def test_objects_beside_labels():
    samples = batch_to_samples({"image": IMAGES, "label": LABELS, "objects": [TARGETS[0], None, TARGETS[2]]})
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.objects[1] is None


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        (torch.zeros(4, 10), ValueError, r"shape \(4, 10\).*image classifiers only"),
        ((torch.zeros(4, 7, dtype=torch.long), torch.zeros(4)), ValueError, r"shape \(4, 7\).*image classifiers only"),
        (torch.zeros(3, 8, 8), ValueError, r"\(B, C, H, W\).*\(3, 8, 8\)"),
        ((torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2)), TypeError, r"floating point.*uint8"),
        (
            (IMAGES, LABELS, IMAGES),
            TypeError,
            r"several parts.*of 3: Tensor \(3, 3, 8, 9\) float32, Tensor",
        ),
        ({"picture": IMAGES, "label": LABELS}, TypeError, r"picture: Tensor \(3, 3, 8, 9\) float32, label: Tensor"),
        ("text", TypeError, "str"),
        ((["a.jpg", "b.jpg"], LABELS), TypeError, "list of 2 str"),
        ((IMAGES, LABELS[:2]), ValueError, "2 for 3 images"),
        ((IMAGES, TARGETS[:1]), ValueError, "1 for 3 images"),
        ((IMAGES, ["cat", "dog", "cat"]), TypeError, "list of 3 str"),
        ((IMAGES, torch.zeros(3, 8, 9)), TypeError, r"Tensor \(3, 8, 9\)"),
        ((IMAGES, torch.tensor([0.2, 1.5, 3.0])), ValueError, r"whole numbers.*0\.2"),
        (([], []), TypeError, "list of 0"),
        (([IMAGES[0], IMAGES[1].numpy(), IMAGES[2]], LABELS), TypeError, "ToTensorV2"),
    ],
)
def test_what_is_not_understood_is_described_with_the_way_out(batch, error, says):
    with pytest.raises(error, match=rf"(?s){says}.*batch_to_samples="):
        batch_to_samples(batch)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="`labels` as images, but got 2 for 3"):
        Samples(IMAGES, LABELS[:2])
    with pytest.raises(ValueError, match="`objects` as images, but got 1 for 3"):
        Samples(IMAGES, LABELS, [None])


@pytest.mark.parametrize("indices", [[2, 0], [1], []])
def test_select_copies_to_the_cpu(indices):
    images, labels = [image.clone() for image in SIZES], LABELS.clone()
    targets = [{key: value.clone() for key, value in one.items()} for one in TARGETS]
    chosen = batch_to_samples((images, targets)).select(indices)
    for tensor in (*images, labels, *(one["boxes"] for one in targets)):
        tensor.mul_(0).sub_(9)
    assert len(chosen) == len(indices)
    assert chosen.labels.tolist() == [LABELS[i] for i in indices]
    assert all(torch.equal(image, SIZES[i]) for image, i in zip(chosen.images, indices, strict=True))
    assert all(torch.equal(o["boxes"], TARGETS[i]["boxes"]) for o, i in zip(chosen.objects, indices, strict=True))


def test_select_under_inference_mode_gives_normal_tensors():
    with torch.inference_mode():
        chosen = batch_to_samples((IMAGES * 2, [{k: v * 1 for k, v in one.items()} for one in TARGETS])).select([0, 1])
    assert not chosen.images[0].is_inference()
    assert not chosen.labels.is_inference()
    assert not chosen.objects[0]["boxes"].is_inference()


def test_samples_without_labels_or_objects_can_be_added():
    both = Samples(IMAGES, LABELS) + Samples(SIZES[:1])
    assert len(both) == 4
    assert both.labels.tolist() == [2, 0, 1, UNKNOWN]
    assert both.objects == [None] * 4
