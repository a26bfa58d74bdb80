"""Pointing game and energy: rules at the edges, independent references, skipped samples, errors."""

import warnings

import numpy as np
import pytest
import torch

from sess_lightning.metrics import (
    EnergyPointingGame,
    MaxBoxAccuracy,
    PointingGame,
    boxes_to_mask,
    pointing_energy,
    pointing_hits,
)
from sess_lightning.metrics.objects import mask_boxes
from tests.helpers.metric_cases import box_mask, boxed, flood_boxes, value_of

LOCALISATION = (PointingGame, EnergyPointingGame, MaxBoxAccuracy)
TARGET = torch.tensor([1])


def peak(x, y, height=40, width=60):
    saliency = torch.zeros(1, height, width)
    saliency[0, y, x] = 1
    return saliency


class TestBoxes:
    @pytest.mark.parametrize("seed", range(5))
    def test_masks_of_random_boxes(self, seed):
        rng = np.random.default_rng(seed)
        corners = rng.uniform(-5, 25, (4, 2, 2))
        corners = np.sort(np.where(rng.uniform(size=corners.shape) < 0.3, corners.round(), corners), axis=1).reshape(
            4, 4
        )
        expected = np.any([box_mask(box, 12, 20) for box in corners], axis=0)
        np.testing.assert_array_equal(boxes_to_mask(torch.from_numpy(corners), (12, 20)), expected)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float16, torch.float32, torch.float64])
    def test_any_dtype(self, dtype):
        mask = boxes_to_mask(torch.tensor([[1, 2, 3, 5]], dtype=dtype), (6, 6))
        np.testing.assert_array_equal(mask, box_mask([1, 2, 3, 5], 6, 6))

    def test_no_boxes_and_boxes_without_pixels(self):
        assert not boxes_to_mask(torch.zeros(0, 4), (3, 3)).any()
        assert not boxes_to_mask(torch.tensor([[1.0, 1, 1, 1], [5.0, 5, 9, 9]]), (3, 3)).any()

    def test_boxes_far_outside(self):
        assert boxes_to_mask(torch.tensor([[-1e30, -1e30, 1e30, 1e30]]), (3, 3)).all()

    def test_boxes_around_masks(self):
        rng = np.random.default_rng(0)
        masks = rng.uniform(size=(6, 9, 7)) > 0.93
        masks[3] = False
        masks[4] = True
        expected = [flood_boxes(np.outer(m.any(1), m.any(0)))[0][0] if m.sum() == 1 else bounds(m) for m in masks]
        np.testing.assert_array_equal(mask_boxes(torch.from_numpy(masks)), expected)


def bounds(mask):
    if not mask.any():
        return (0, 0, 0, 0)
    ys, xs = np.nonzero(mask)
    return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


class TestPointing:
    @pytest.mark.parametrize("tolerance", [0, 1, 2.5, 15])
    def test_random_masks_against_the_rule(self, tolerance):
        rng = np.random.default_rng(2)
        masks = rng.uniform(size=(40, 20, 30)) > 0.998
        points = rng.uniform(-3, 30, (40, 2)).round()
        ys, xs = np.mgrid[:20, :30]
        squares = [(xs - x) ** 2 + (ys - y) ** 2 for x, y in points]
        near = [s == 0 if tolerance == 0 else s < tolerance**2 for s in squares]
        expected = [bool((m & n).any()) for m, n in zip(masks, near, strict=True)]
        assert pointing_hits(torch.from_numpy(points), torch.from_numpy(masks), tolerance).tolist() == expected
        assert pointing_hits(torch.from_numpy(points), list(torch.from_numpy(masks)), tolerance).tolist() == expected

    def test_tolerance_0_takes_the_nearest_pixel(self):
        mask = torch.zeros(1, 5, 5, dtype=torch.bool)
        mask[0, 2, 3] = True
        points = torch.tensor([[3.4, 1.6], [2.5, 2.0], [3.5, 2.0], [torch.nan, 2.0]])
        assert pointing_hits(points, mask.expand(4, -1, -1), 0).tolist() == [True, True, False, False]

    def test_no_points(self):
        assert pointing_hits(torch.zeros(0, 2), torch.zeros(0, 4, 4)).shape == (0,)

    @pytest.mark.parametrize(("x", "hit"), [(9, 0.0), (10, 1.0), (19, 1.0), (20, 0.0)])
    def test_box_is_half_open(self, x, hit):
        assert value_of(PointingGame(tolerance=0), peak(x, 5), TARGET, boxed([10.0, 0, 20, 40])) == hit

    @pytest.mark.parametrize(("x", "hit"), [(9, 0.0), (10, 1.0), (20, 1.0), (21, 0.0)])
    def test_fractions_take_the_pixel_in(self, x, hit):
        assert value_of(PointingGame(tolerance=0), peak(x, 5), TARGET, boxed([10.7, 0, 20.2, 40])) == hit

    def test_box_at_the_border_is_clipped(self):
        assert value_of(PointingGame(tolerance=0), peak(59, 39), TARGET, boxed([50.0, 30, 500, 300])) == 1

    def test_default_tolerance_is_strict(self):
        assert value_of(PointingGame(), peak(5, 5), TARGET, boxed([19.0, 0, 30, 40])) == 1
        assert value_of(PointingGame(), peak(5, 5), TARGET, boxed([20.0, 0, 30, 40])) == 0

    def test_ties_constant_maps_and_nan_point_like_torchray(self):
        first = peak(30, 5) + peak(7, 20)
        nan = peak(30, 5)
        nan[0, 8, 9] = torch.nan
        cases = [(first, (30, 5)), (torch.zeros(1, 40, 60), (0, 0)), (nan, (9, 8))]
        for saliency, (x, y) in cases:
            objects = boxed([float(x), float(y), x + 1.0, y + 1.0])
            assert value_of(PointingGame(tolerance=0), saliency, TARGET, objects) == 1

    def test_masks_win_over_boxes(self):
        masks = torch.zeros(1, 40, 60)
        masks[0, 5, 5] = 1
        objects = boxed([0.0, 0, 60, 40], masks=masks)
        assert value_of(PointingGame(tolerance=0), peak(6, 5), TARGET, objects) == 0
        assert value_of(PointingGame(tolerance=0), peak(5, 5), TARGET, objects) == 1

    def test_difficult_objects_as_in_voc(self):
        boxes = [0.0, 0, 10, 10], [30.0, 20, 40, 30]
        one = boxed(*boxes, difficult=torch.tensor([True, False]))
        assert value_of(PointingGame(tolerance=0), peak(5, 5), TARGET, one) == 1  # can be hit
        metric = PointingGame(tolerance=0)
        assert np.isnan(value_of(metric, peak(5, 5), TARGET, boxed(*boxes, difficult=torch.tensor([1, 1]))))
        assert metric.skipped == 1

    def test_crowds_count_as_objects(self):
        objects = boxed([0.0, 0, 10, 10], iscrowd=torch.tensor([1]))
        assert value_of(PointingGame(tolerance=0), peak(5, 5), TARGET, objects) == 1

    @pytest.mark.parametrize(
        ("objects", "counts"),
        [
            (boxed([0.0, 0, 20, 29], [30.0, 20, 40, 30], labels=[1, 2]), True),
            (boxed([0.0, 0, 20, 30], [30.0, 20, 40, 30], labels=[1, 2]), False),  # a quarter of 40 x 60
            (boxed([0.0, 0, 20, 29]), False),  # no distractor
            (boxed([0.0, 0, 20, 29], [0.0, 0, 20, 29], [30.0, 20, 40, 30], labels=[1, 1, 2]), True),  # counted once
            (boxed([0.0, 0, 20, 29], [20.0, 0, 30, 30], [30.0, 20, 40, 30], labels=[1, 1, 2]), False),  # their union
        ],
    )
    def test_difficult_subset(self, objects, counts):
        metric = PointingGame(subset="difficult", tolerance=0)
        value = value_of(metric, peak(5, 5), TARGET, objects)
        assert (value == 1) if counts else np.isnan(value)
        assert metric.skipped == (not counts)

    def test_averages_of_one_class_seen(self):
        objects = boxed([0.0, 0, 9, 9], [20.0, 20, 30, 30], labels=[0, 1]) * 2
        for average, value in {"micro": 1, "macro": 1, "macro_all": 1 / 3}.items():
            metric = PointingGame(3, tolerance=0, average=average)
            assert value_of(metric, peak(5, 5).expand(2, -1, -1), torch.tensor([0, 0]), objects) == pytest.approx(value)

    def test_averages(self):
        maps = peak(5, 5).expand(4, -1, -1)
        objects = boxed([0.0, 0, 9, 9], [20.0, 20, 30, 30], [20.0, 0, 30, 9], labels=[0, 1, 2]) * 4
        targets = torch.tensor([0, 0, 0, 2])
        expected = {"micro": 3 / 4, "macro": 1 / 2, "macro_all": 1 / 5}
        for average, value in expected.items():
            metric = PointingGame(5, tolerance=0, average=average)
            assert value_of(metric, maps, targets, objects) == pytest.approx(value)
            np.testing.assert_array_equal(metric.class_accuracies(), [1, np.nan, 0, np.nan, np.nan])

    @pytest.mark.parametrize("average", ["macro", "macro_all"])
    def test_macro_needs_num_classes(self, average):
        with pytest.raises(ValueError, match=f"`num_classes` with average='{average}'.* or average='micro'"):
            PointingGame(average=average)

    @pytest.mark.parametrize("average", ["micro", "macro", "macro_all"])
    def test_nothing_counted_is_nan(self, average):
        assert np.isnan(value_of(PointingGame(3, average=average), peak(5, 5), TARGET, None))

    def test_class_accuracies_of_states_that_were_synchronised_before(self):
        """By hand, with a second process that has the same: the sums double, and they stay so until `unsync`."""
        metric = PointingGame(3, tolerance=0)
        value_of(metric, peak(5, 5), TARGET, boxed([0.0, 0, 9, 9], [20.0, 20, 30, 30], labels=[1, 2]))
        metric.sync(dist_sync_fn=lambda state, group=None: [state, state], distributed_available=lambda: True)
        for total in (2, 1):
            np.testing.assert_array_equal(metric.class_accuracies(), [np.nan, 1, np.nan])
            assert metric.pointing_total.tolist() == [0, total, 0]
            if total == 2:
                metric.unsync()

    def test_class_accuracies_need_num_classes(self):
        with pytest.raises(ValueError, match=r"PointingGame\(num_classes=...\)"):
            PointingGame().class_accuracies()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_classes": 0}, "`num_classes` to be a positive int or None, but got 0"),
            ({"num_classes": 2.0}, "`num_classes`"),
            ({"num_classes": True}, "`num_classes`"),
            ({"tolerance": -1}, "`tolerance` to be a number of pixels, at least 0, but got -1"),
            ({"tolerance": float("inf")}, "`tolerance`"),
            ({"tolerance": "15"}, "`tolerance`"),
            ({"tolerance": True}, "`tolerance`"),
            ({"average": "mean"}, "`average` to be one of .* but got 'mean'"),
            ({"subset": "hard"}, "`subset` to be one of .* but got 'hard'"),
        ],
    )
    def test_bad_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            PointingGame(**options)

    def test_class_out_of_range(self):
        for target in (3, -1):
            objects = boxed([0.0, 0, 9, 9], labels=[target])
            with pytest.raises(ValueError, match=rf"`targets` to be in 0..2, .* but got {target}"):
                PointingGame(3).update(peak(5, 5), torch.tensor([target]), objects)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (([[1, 2]], torch.zeros(1, 4, 4)), TypeError, "`points` to be a tensor"),
            ((torch.zeros(2), torch.zeros(1, 4, 4)), ValueError, "`points` to have shape"),
            ((torch.zeros(1, 2), torch.zeros(4, 4)), ValueError, "`masks` to have shape"),
            ((torch.zeros(1, 2), [torch.zeros(1, 4, 4)]), ValueError, "every mask of argument `masks`"),
            ((torch.zeros(1, 2), torch.zeros(2, 4, 4)), ValueError, "a mask for each of 1 points, but got 2"),
            ((torch.zeros(1, 2), torch.zeros(1, 4, 4), -2), ValueError, "`tolerance`"),
        ],
    )
    def test_bad_arguments_of_pointing_hits(self, arguments, error, message):
        with pytest.raises(error, match=message):
            pointing_hits(*arguments)


BAD_ARGUMENTS = [
    ({"objects": boxed([0.0, 0, 9, 9])[0]}, TypeError, r"`objects` to be a list .* but got dict. .*\[objects\]"),
    ({"objects": boxed([0.0, 0, 9, 9]) * 2}, ValueError, "`objects` to have one entry for each of the 1 maps"),
    ({"objects": [torch.zeros(1, 4)]}, TypeError, "sample 0 of argument .* a dict or None, but got Tensor"),
    ({"objects": [{"labels": [1]}]}, ValueError, r"sample 0 .* `boxes` .* or `masks` .* but got keys \['labels'\]"),
    ({"objects": [{"boxes": [[0.0, 0, 9, 9]]}]}, ValueError, "`labels` .* but got keys"),
    ({"objects": boxed([0.0, 0, 9])}, ValueError, r"`boxes` of sample 0 .* shape \(N, 4\)"),
    ({"objects": [{"boxes": torch.tensor(3.0), "labels": [1]}]}, ValueError, r"shape \(N, 4\), but got \(\)"),
    ({"objects": boxed([0.0, 0, 9, float("nan")])}, ValueError, "`boxes` of sample 0 .* finite"),
    ({"objects": boxed([10.0, 10, 5, 5])}, ValueError, "x1 <= x2 .*box_convert"),
    ({"objects": boxed([0.0, 0, 9, 9], labels=[1, 2])}, ValueError, "`labels` of sample 0 .* 1 objects"),
    ({"objects": boxed([0.0, 0, 9, 9], labels=[1.0])}, ValueError, "`labels` of sample 0 .*float32"),
    ({"objects": boxed([0.0, 0, 9, 9], difficult=[0, 1])}, ValueError, "`difficult` of sample 0"),
    ({"objects": boxed([0.0, 0, 9, 9], iscrowd=[0.5])}, ValueError, "`iscrowd` of sample 0"),
    ({"objects": [{"masks": torch.zeros(4, 4), "labels": [1]}]}, ValueError, r"`masks` of .* \(N, H, W\)"),
    ({"objects": boxed([0.0, 0, 9, 9], masks=torch.zeros(2, 4, 4))}, ValueError, "equally many, but got 1 and 2"),
    ({"targets": torch.tensor([1, 2])}, ValueError, "`targets`"),
    ({"targets": [1]}, TypeError, "`targets`"),
    ({"saliency": torch.zeros(40, 60)}, ValueError, "`saliency` to have shape"),
]  # fmt: skip


class TestSkippedSamples:
    @pytest.mark.parametrize("metric_class", LOCALISATION)
    @pytest.mark.parametrize("empty", [torch.zeros(0), torch.zeros(0, 4), []])
    def test_empty_box_lists_warn_once(self, metric_class, empty):
        metric = metric_class()
        full = boxed([5.0, 5, 6, 6])[0]
        nothing = {"boxes": empty, "labels": torch.zeros(0, dtype=torch.long)}
        maps, targets = peak(5, 5).expand(4, -1, -1), torch.tensor([1, 1, 1, 1])
        with pytest.warns(UserWarning, match=rf"{metric_class.__name__} skips .* sample 1, 3\."):
            metric.update(maps, targets, [full, nothing, None, nothing])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metric.update(maps, targets, [nothing, nothing, full, full])
        assert metric.skipped == 5
        assert metric.compute() == 1

    def test_no_masks_are_an_empty_list_too(self):
        metric = PointingGame()
        with pytest.warns(UserWarning, match="sample 0"):
            metric.update(peak(5, 5), TARGET, [{"masks": torch.zeros(0, 40, 60), "labels": []}])
        assert metric.skipped == 1

    @pytest.mark.parametrize("metric_class", LOCALISATION)
    def test_none_and_absent_classes_are_counted_without_a_warning(self, metric_class):
        metric = metric_class()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            metric.update(peak(5, 5), TARGET, None)
            metric.update(peak(5, 5), TARGET, [None])
            metric.update(peak(5, 5), TARGET, boxed([0.0, 0, 9, 9], labels=[2]))
            assert torch.isnan(metric.compute())
        assert metric.skipped == 3
        metric.reset()
        assert metric.skipped == 0

    @pytest.mark.parametrize("metric_class", LOCALISATION)
    @pytest.mark.parametrize(("change", "error", "message"), BAD_ARGUMENTS)
    def test_bad_arguments(self, metric_class, change, error, message):
        arguments = {"saliency": peak(5, 5), "targets": TARGET, "objects": boxed([0.0, 0, 9, 9]), **change}
        with pytest.raises(error, match=message):
            metric_class().update(**arguments)


class TestEnergy:
    def test_perfect_inverted_and_constant_map(self):
        objects = boxed([0.0, 0, 15, 20])
        inside = boxes_to_mask(objects[0]["boxes"], (40, 60)).float()[None]
        for saliency, share in ((inside, 1), (1 - inside, 0), (torch.ones(1, 40, 60), 15 * 20 / 2400)):
            assert value_of(EnergyPointingGame(), saliency, TARGET, objects) == pytest.approx(share)

    def test_negative_values_have_no_energy(self):
        saliency = torch.tensor([[[3.0, -5.0, 1.0]]])
        assert pointing_energy(saliency, torch.tensor([[[1, 1, 0]]])).tolist() == [0.75]

    def test_large_values_do_not_overflow(self):
        shares = pointing_energy(torch.tensor([[[3e38, 3e38, 3e38, 3e38]]]), torch.tensor([[[1, 0, 0, 0]]]))
        assert shares.tolist() == [0.25]

    @pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
    def test_maps_without_energy_are_skipped(self, value):
        bad = peak(5, 5) * 0
        bad[0, 0, 0] = value
        metric = EnergyPointingGame()
        metric.update(torch.cat([bad, peak(5, 5)]), torch.tensor([1, 1]), boxed([0.0, 0, 9, 9]) * 2)
        assert metric.compute() == 1
        assert metric.skipped == 1

    def test_maps_are_resized_to_masks(self):
        masks = torch.zeros(1, 40, 60)
        masks[:, :, :30] = 1
        metric = EnergyPointingGame()
        metric.update(torch.tensor([[[1.0, 3.0]]]), TARGET, [{"masks": masks, "labels": [1]}])
        resized = torch.nn.functional.interpolate(torch.tensor([[[[1.0, 3.0]]]]), (40, 60), mode="bilinear")[0, 0]
        torch.testing.assert_close(metric.compute(), resized[:, :30].sum() / resized.sum())

    def test_bad_masks(self):
        with pytest.raises(ValueError, match="`masks` to have one entry"):
            pointing_energy(torch.ones(2, 3, 3), torch.ones(1, 3, 3))
        with pytest.raises(ValueError, match=r"mask 0 of argument `masks` .*\(3, 3\), but got \(4, 4\)"):
            pointing_energy(torch.ones(1, 3, 3), torch.ones(1, 4, 4))
