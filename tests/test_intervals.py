"""Means and their intervals, against closed forms."""

import numpy as np
import pytest

from sess_lightning.intervals import class_mean_interval, mean_interval, mean_intervals


def test_the_interval_of_a_mean_is_the_normal_one_for_many_photos():
    """The standard error of the mean of n values of variance v is sqrt(v / n)."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = mean_interval(values)
    error = values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_nan_is_a_photo_without_a_figure():
    assert mean_interval(np.array([1.0, np.nan, 3.0])).value == 2
    assert format(mean_interval(np.array([np.nan])), ".1f") == "-"
    assert format(mean_interval(np.array([])), ".1f") == "-"


def test_equal_values_have_no_width():
    assert mean_interval(np.full(7, 0.5)) == (0.5, 0.5, 0.5)


def test_classes_count_alike_and_those_never_seen_do_not():
    """Class 0: one of three, class 1: one of one, class 2 never asked: (1/3 + 1) / 2."""
    hits = np.array([[1, 0, 0], [0, 1, 0.0]])
    counts = np.array([[2, 0, 0], [1, 1, 0.0]])
    assert class_mean_interval(hits, counts).value == pytest.approx((1 / 3 + 1) / 2)


def test_the_same_resamples_for_every_figure():
    values = np.random.default_rng(1).normal(size=50)
    shifted = mean_interval(values + 1)
    plain = mean_interval(values)
    assert (shifted.low - plain.low, shifted.high - plain.high) == pytest.approx((1, 1))


def test_columns_together_are_the_columns_alone():
    rng = np.random.default_rng(2)
    columns = {"a": rng.normal(size=30), "b": np.where(rng.random(30) < 0.3, np.nan, rng.normal(size=30))}
    for name, found in mean_intervals(columns).items():
        assert found == pytest.approx(mean_interval(columns[name]), abs=1e-12)
    assert mean_intervals({}) == {}
    assert format(mean_intervals({"c": np.array([])})["c"], ".1f") == "-"
