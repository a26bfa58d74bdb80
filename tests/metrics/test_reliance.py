"""Reliance on objects and on the background, against networks whose answer is known in closed form."""

import pytest
import torch

from sess_lightning.metrics import BackgroundReliance, ObjectReliance, without_background, without_objects
from tests.helpers.nets import seeded

BOX = {"boxes": torch.tensor([[2.0, 1.0, 6.0, 5.0]]), "labels": torch.tensor([1])}
TARGETS = torch.tensor([1])


def reads(rows, columns):
    """Two logits: the class is as certain as one part of the image is bright."""

    def predict(images):
        value = images[:, :, rows, columns].mean((1, 2, 3))
        return torch.stack([torch.zeros_like(value), value], 1)

    return predict


def image(inside=5.0, outside=-1.0):
    one = torch.full((1, 3, 10, 12), outside)
    one[:, :, 1:5, 2:6] = inside
    return one


def test_a_network_that_reads_the_object():
    predict = reads(slice(1, 5), slice(2, 6))
    lost = torch.tensor(5.0).sigmoid() - torch.tensor(-1.0).sigmoid()  # its surroundings are -1 everywhere
    assert ObjectReliance()(predict, image(), TARGETS, [BOX]) == pytest.approx(float(lost), abs=1e-6)
    assert BackgroundReliance()(predict, image(), TARGETS, [BOX]) == pytest.approx(0, abs=1e-6)


def test_a_network_that_reads_the_background():
    predict = reads(slice(7, 10), slice(0, 12))
    lost = torch.tensor(3.0).sigmoid() - 0.5
    assert ObjectReliance()(predict, image(0.0, 3.0), TARGETS, [BOX]) == pytest.approx(0, abs=1e-6)
    assert BackgroundReliance()(predict, image(0.0, 3.0), TARGETS, [BOX]) == pytest.approx(float(lost), abs=1e-6)


def test_surroundings_are_a_ring():
    """One pixel wide here: what lies further away does not colour the object."""
    one = seeded(0, 3, 10, 10)
    region = torch.zeros(10, 10, dtype=torch.bool)
    region[4:6, 3:7] = True
    ring = torch.zeros_like(region)
    ring[3:7, 2:8] = True
    expected = one.clone()
    expected[:, 4:6, 3:7] = torch.stack([one[c][ring & ~region].mean() for c in range(3)])[:, None, None]
    torch.testing.assert_close(without_objects(one, region), expected)


def test_objects_that_fill_the_image_leave_its_mean():
    one, everywhere = seeded(0, 3, 4, 5), torch.ones(4, 5, dtype=torch.bool)
    torch.testing.assert_close(without_objects(one, everywhere), one.mean((1, 2), keepdim=True).expand_as(one))
    assert torch.equal(without_background(one, everywhere), one)


def test_boxes_are_in_pixels_of_the_maps():
    """The network sees 10 x 12 pixels, the photo has twice as many: the box is halved."""
    predict = reads(slice(1, 5), slice(2, 6))
    twice = {"boxes": BOX["boxes"] * 2, "labels": BOX["labels"]}
    given = ObjectReliance()(predict, image(), TARGETS, [twice], saliency=[torch.zeros(20, 24)])
    assert given == ObjectReliance()(predict, image(), TARGETS, [BOX])


def test_masks_count_by_the_boxes_around_them():
    """An outline filled with another colour would still tell the shape."""
    mask = torch.zeros(1, 10, 12, dtype=torch.bool)
    mask[0, 1:5, 2] = mask[0, 4, 2:6] = True
    predict = reads(slice(1, 3), slice(4, 6))  # inside the box, outside the mask
    masked = ObjectReliance()(predict, image(), TARGETS, [{"masks": mask, "labels": torch.tensor([1])}])
    assert masked == ObjectReliance()(predict, image(), TARGETS, [BOX])
    assert masked > 0.5


def test_probabilities_that_are_known_are_not_computed_again():
    calls = []

    def predict(images):
        calls.append(len(images))
        return reads(slice(1, 5), slice(2, 6))(images)

    known = torch.tensor([5.0]).sigmoid()
    metric = ObjectReliance()
    metric.update(predict, image(), TARGETS, [BOX], scores=known)
    assert calls == [1]
    assert metric.compute() == ObjectReliance()(predict, image(), TARGETS, [BOX])


def test_samples_without_an_object_of_the_class_are_skipped():
    other = {"boxes": BOX["boxes"], "labels": torch.tensor([0])}
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    metric = ObjectReliance()
    metric.update(reads(slice(1, 5), slice(2, 6)), image().repeat(4, 1, 1, 1), torch.ones(4).long(),
                  [None, BOX, other, empty])  # fmt: skip
    assert metric.skipped == 3
    assert torch.isfinite(metric.last_values).tolist() == [False, True, False, False]
    assert torch.isnan(BackgroundReliance()(reads(slice(0, 1), slice(0, 1)), image(), TARGETS, None))


def test_images_and_objects_are_equally_many():
    with pytest.raises(ValueError, match="`objects`"):
        ObjectReliance().update(reads(slice(1, 5), slice(2, 6)), image(), TARGETS, [BOX, BOX])


def test_the_image_given_is_left_alone():
    def in_place(images):
        return reads(slice(1, 5), slice(2, 6))(images.sub_(1))

    one = image()
    BackgroundReliance().update(in_place, one, TARGETS, [BOX])
    assert torch.equal(one, image())


@pytest.mark.parametrize("metric", [ObjectReliance, BackgroundReliance])
def test_a_class_that_the_network_lacks_is_named(metric):
    objects = [{**BOX, "labels": torch.tensor([5])}]
    with pytest.raises(ValueError, match=r"`targets` to be in 0\.\.1, as the model gives 2 logits, but got 5"):
        metric()(reads(slice(1, 5), slice(2, 6)), image(), torch.tensor([5]), objects)
