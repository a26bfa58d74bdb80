"""Boxes by their format, in batches and metrics, and which of them have a pixel in the picture."""

import pytest
import torch
from torchvision import tv_tensors

from sess_lightning.boxes import holds_pixels, xyxy_boxes
from sess_lightning.metrics import EnergyPointingGame, MaxBoxAccuracy, PointingGame, best_box_ious, boxes_to_mask
from sess_lightning.samples import Samples, batch_to_samples

CORNERS = torch.tensor([[2.0, 4, 8, 10], [1, 1, 2, 5]])
BY_FORMAT = {
    "XYXY": [[2, 4, 8, 10], [1, 1, 2, 5]],
    "XYWH": [[2, 4, 6, 6], [1, 1, 1, 4]],
    "CXCYWH": [[5, 7, 6, 6], [1.5, 3, 1, 4]],
}
IMAGES = torch.zeros(1, 3, 12, 16)


def boxes(form, canvas=(12, 16)):
    return tv_tensors.BoundingBoxes(torch.tensor(BY_FORMAT[form]).float(), format=form, canvas_size=canvas)


def peak(x, y):
    saliency = torch.zeros(1, 12, 16)
    saliency[0, y, x] = 1
    return saliency


@pytest.mark.parametrize("form", BY_FORMAT)
class TestFormats:
    def test_corners(self, form):
        found = xyxy_boxes(boxes(form))
        assert type(found) is torch.Tensor
        assert torch.equal(found, CORNERS)

    @pytest.mark.parametrize(
        "batch",
        [
            lambda b: (IMAGES, [{"boxes": b, "labels": torch.tensor([3, 5])}]),
            lambda b: {"image": IMAGES, "label": torch.tensor([3]), "boxes": [b]},
            lambda b: {"image": IMAGES, "labels": [torch.tensor([3, 5])], "boxes": [b]},
            lambda b: {"image": IMAGES, "label": torch.tensor([3]), "objects": [{"boxes": b, "labels": [3, 5]}]},
        ],
        ids=["targets", "boxes beside labels", "a label for each box", "objects"],
    )
    def test_batches(self, form, batch):
        samples = batch_to_samples(batch(boxes(form)))
        assert type(samples.objects[0]["boxes"]) is torch.Tensor
        assert torch.equal(samples.objects[0]["boxes"], CORNERS)
        assert samples.labels.tolist() == [3]  # the larger one
        assert not samples.notes

    def test_samples_of_the_user(self, form):
        samples = Samples(IMAGES, objects=[{"boxes": boxes(form), "labels": torch.tensor([3, 5])}])
        assert torch.equal((samples + samples).objects[1]["boxes"], CORNERS)

    @pytest.mark.parametrize(("point", "expected"), [((7, 9), 1.0), ((8, 9), 0.0), ((1, 4), 0.0), ((9, 4), 0.0)])
    def test_metrics(self, form, point, expected):
        objects = [{"boxes": boxes(form), "labels": torch.tensor([3, 5])}]
        for metric in (PointingGame(tolerance=0), EnergyPointingGame()):
            metric.update(peak(*point), torch.tensor([3]), objects)
            assert metric.compute() == expected

    def test_functions_and_boxes_cut_out(self, form):
        mask = torch.zeros(12, 16, dtype=torch.bool)
        mask[4:10, 2:8] = mask[1:5, 1:2] = True
        assert torch.equal(boxes_to_mask(boxes(form), (12, 16)), mask)
        saliency = torch.zeros(1, 12, 16)
        saliency[0, 4:10, 2:8] = 1
        assert best_box_ious(saliency, [boxes(form)], [0.5]).item() == 1
        metric = MaxBoxAccuracy(thresholds=[0.5])
        metric.update(saliency, torch.tensor([3]), [{"boxes": boxes(form), "labels": torch.tensor([3, 5])}])
        assert metric.compute() == 1


@pytest.mark.parametrize(("form", "numbers"), [("XYWHR", 5), ("CXCYWHR", 5), ("XYXYXYXY", 8)])
def test_rotated_boxes_are_refused_by_name(form, numbers):
    if not hasattr(tv_tensors.BoundingBoxFormat, form):
        pytest.skip("this torchvision has no rotated boxes")
    rotated = tv_tensors.BoundingBoxes(torch.ones(1, numbers), format=form, canvas_size=(9, 9))
    target = {"boxes": rotated, "labels": torch.tensor([1])}
    with pytest.raises(ValueError, match=rf"upright.*XYXY, XYWH, CXCYWH.*format {form}.*batch_to_samples="):
        batch_to_samples((IMAGES, [target]))
    with pytest.raises(ValueError, match=rf"sample 0 .*format {form}"):
        PointingGame().update(peak(1, 1), torch.tensor([1]), [target])


def test_boxes_of_another_picture_size_are_noted():
    samples = batch_to_samples((IMAGES, [{"boxes": boxes("XYWH", (480, 640)), "labels": torch.tensor([3, 5])}]))
    assert list(samples.notes) == ["canvas"]
    assert "480 x 640" in samples.notes["canvas"]
    assert "12 x 16" in samples.notes["canvas"]


@pytest.mark.parametrize("seed", range(5))
def test_which_boxes_hold_pixels(seed):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(-8, 24, (200, 2), generator=generator) / 2
    found = torch.cat([corner, corner + torch.randint(0, 9, (200, 2), generator=generator) / 2], 1)
    expected = [bool(boxes_to_mask(box[None], (9, 7)).any()) for box in found]
    assert holds_pixels(found, (9, 7)).tolist() == expected
    assert 20 < sum(expected) < 180


class TestObjectsWithoutPixels:
    """They are no objects: nobody could hit them."""

    @pytest.mark.parametrize("box", [[3, 3, 3, 9], [16, 0, 20, 9], [-9, -9, 0, 5], [0, 12, 5, 30]])
    @pytest.mark.parametrize("metric", [PointingGame(), EnergyPointingGame(), MaxBoxAccuracy()], ids=repr)
    def test_boxes(self, metric, box):
        metric.reset()
        metric.update(peak(3, 3), torch.tensor([1]), [{"boxes": torch.tensor([box]), "labels": torch.tensor([1])}])
        assert metric.skipped == 1
        assert metric.compute().isnan()

    def test_masks(self):
        metric = PointingGame()
        masks = torch.zeros(1, 12, 16)
        metric.update(peak(3, 3), torch.tensor([1]), [{"masks": masks, "labels": torch.tensor([1])}])
        assert metric.skipped == 1

    def test_the_others_count(self):
        metric = PointingGame(tolerance=0)
        objects = {"boxes": torch.tensor([[30, 30, 40, 40], [2, 2, 5, 5]]), "labels": torch.tensor([1, 1])}
        metric.update(peak(3, 3), torch.tensor([1]), [objects])
        assert (metric.skipped, metric.compute()) == (0, 1)

    def test_one_outside_is_no_distractor(self):
        metric = PointingGame(subset="difficult")
        objects = {"boxes": torch.tensor([[2, 2, 5, 5], [30, 30, 40, 40]]), "labels": torch.tensor([1, 2])}
        metric.update(peak(3, 3), torch.tensor([1]), [objects])
        assert metric.skipped == 1
