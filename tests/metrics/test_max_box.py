"""Boxes around the map: rules at the edges, an independent reference, errors."""

import numpy as np
import pytest
import torch

from sess_lightning.metrics import MaxBoxAccuracy, best_box_ious, boxes_to_mask
from sess_lightning.metrics.connected_components import boxes_by_level
from tests.helpers.metric_cases import boxed, flood_boxes, numpy_best_ious, smooth_noise, value_of

TARGET = torch.tensor([1])


class TestMaxBox:
    @pytest.mark.parametrize("components", ["all", "largest"])
    @pytest.mark.parametrize("seed", range(4))
    def test_equals_flood_fill(self, seed, components):
        rng = np.random.default_rng(seed)
        saliency = smooth_noise(rng, 1)[0] if seed % 2 else rng.uniform(size=(12, 16))
        saliency = saliency.round(2)  # plateaus
        boxes = np.array([[2, 1, 9, 8], [5, 4, 16, 11]])
        thresholds = np.arange(8) / 8
        expected = numpy_best_ious(saliency, boxes, thresholds, components == "largest")
        found = best_box_ious(torch.from_numpy(saliency)[None], [torch.from_numpy(boxes)], 8, components)
        if components == "all":
            np.testing.assert_allclose(found[0], expected, atol=1e-6)
        else:  # equally large components: the choice among them is free
            unique = [
                sorted((area for _, area in flood_boxes(normalise(saliency) >= t)), reverse=True) for t in thresholds
            ]
            clear = [len(areas) == 1 or areas[0] > areas[1] for areas in unique]
            assert sum(clear) >= 4
            np.testing.assert_allclose(found[0][clear], expected[clear], atol=1e-6)

    @pytest.mark.parametrize("seed", range(3))
    def test_components_of_noise(self, seed):
        levels = torch.randint(-1, 6, (11, 13), generator=torch.Generator().manual_seed(seed))
        seen = []
        for level, boxes, areas in boxes_by_level(levels):
            seen.append(level)
            found = sorted(zip(map(tuple, boxes.tolist()), areas.tolist(), strict=True))
            assert found == sorted(flood_boxes(levels.numpy() >= level))
        assert seen == [5, 4, 3, 2, 1, 0]

    def test_a_long_spiral_is_one_component(self):
        levels = torch.full((15, 15), -1)
        levels[::2] = 0
        for row in range(1, 15, 2):
            levels[row, 14 if row % 4 == 1 else 0] = 0
        ((_, boxes, areas),) = boxes_by_level(levels)
        assert boxes.tolist() == [[0, 0, 15, 15]]
        assert areas.tolist() == [int((levels == 0).sum())]

    def test_perfect_map_and_constant_map(self):
        objects = boxed([10.0, 5, 30, 25])
        perfect = boxes_to_mask(objects[0]["boxes"], (40, 60)).float()[None]
        assert value_of(MaxBoxAccuracy(), perfect, TARGET, objects) == 1
        metric = MaxBoxAccuracy()
        metric.update(torch.ones(1, 40, 60), TARGET, boxed([0.0, 0, 60, 24]))  # the whole image: IoU .6
        assert metric.iou_accuracies().tolist() == [1, 1, 0]
        torch.testing.assert_close(metric.compute(), torch.tensor(2 / 3))

    def test_one_threshold_serves_all_samples(self):
        # each map has its best threshold, but no threshold is good for both
        maps = torch.tensor([[[1.0, 0.6, 0.0, 0.0]], [[1.0, 0.6, 0.0, 0.0]]])
        objects = boxed([0.0, 0, 1, 1]) + boxed([0.0, 0, 2, 1])
        assert value_of(MaxBoxAccuracy([0.9], [0.3, 0.8]), maps, torch.tensor([1, 1]), objects) == 0.5

    def test_any_of_the_objects_of_the_class_will_do(self):
        perfect = boxes_to_mask(torch.tensor([[10.0, 5, 30, 25]]), (40, 60)).float()[None]
        assert value_of(MaxBoxAccuracy(), perfect, TARGET, boxed([40.0, 30, 50, 40], [10.0, 5, 30, 25])) == 1

    def test_components_argument(self):
        saliency = torch.zeros(1, 40, 60)
        saliency[0, 5:10, 5:10] = 1
        saliency[0, 20:30, 20:30] = 1
        objects = boxed([5.0, 5, 10, 10])
        assert value_of(MaxBoxAccuracy(), saliency, TARGET, objects) == 1
        assert value_of(MaxBoxAccuracy(components="largest"), saliency, TARGET, objects) == 0

    def test_boxes_around_masks(self):
        masks = torch.zeros(1, 40, 60)
        masks[0, 5:25, 10] = masks[0, 15, 10:30] = 1
        perfect = boxes_to_mask(torch.tensor([[10.0, 5, 30, 25]]), (40, 60)).float()[None]
        assert value_of(MaxBoxAccuracy(), perfect, TARGET, [{"masks": masks, "labels": [1]}]) == 1

    def test_crowds_and_bad_maps_are_skipped(self):
        metric = MaxBoxAccuracy()
        crowd = boxed([10.0, 5, 30, 25], iscrowd=[1])
        mixed = boxed([10.0, 5, 30, 25], [0.0, 0, 60, 40], iscrowd=[0, 1])
        bad = torch.full((1, 40, 60), torch.nan)
        ones = torch.ones(1, 40, 60)
        metric.update(torch.cat([ones, bad, ones]), torch.tensor([1, 1, 1]), crowd + boxed([0.0, 0, 60, 40]) + mixed)
        assert metric.skipped == 2
        assert metric.compute() == 0  # the crowd's box would have fitted

    def test_thresholds_above_a_constant_map_find_nothing(self):
        found = best_box_ious(torch.ones(1, 4, 4), [torch.tensor([[0.0, 0, 4, 4]])], [0.5, 1.0])
        assert found.tolist() == [[0, 0]]

    def test_no_maps(self):
        assert best_box_ious([], [], 7).shape == (0, 7)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"iou_thresholds": []}, "`iou_thresholds` to hold values in"),
            ({"iou_thresholds": [0.5, 1.2]}, "`iou_thresholds`"),
            ({"thresholds": 0}, "`thresholds` to be a positive int or a list"),
            ({"thresholds": [0.5, 0.2]}, "`thresholds`"),
            ({"thresholds": [0.5, 1.2]}, "`thresholds`"),
            ({"thresholds": True}, "`thresholds`"),
            ({"components": "one"}, "`components` to be one of"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            MaxBoxAccuracy(**options)

    def test_bad_boxes(self):
        with pytest.raises(ValueError, match="entry 0 of argument `boxes` to hold at least one box"):
            best_box_ious(torch.ones(1, 4, 4), [torch.zeros(0, 4)])
        with pytest.raises(ValueError, match="entry 0 of argument `boxes` to have shape"):
            best_box_ious(torch.ones(1, 4, 4), [torch.zeros(4)])
        with pytest.raises(ValueError, match="`boxes` to have one entry"):
            best_box_ious(torch.ones(2, 4, 4), [torch.ones(1, 4)])


def normalise(saliency):
    return (saliency - saliency.min()) / (saliency.max() - saliency.min())


@pytest.mark.parametrize("box", [[5.0, 1, 2, 4], [1.0, 5, 4, 2]])
def test_boxes_whose_corners_are_exchanged_are_refused(box):
    with pytest.raises(ValueError, match="entry 1 of argument `boxes`"):
        best_box_ious(torch.rand(2, 8, 8), [torch.tensor([[1.0, 1, 4, 4]]), torch.tensor([box])])
