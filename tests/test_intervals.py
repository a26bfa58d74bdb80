"""Means and their intervals, against closed forms."""

import numpy as np
import pytest

from sess_lightning.intervals import class_mean_interval, hit_interval, mean_interval, mean_intervals


def test_the_interval_of_a_mean_is_the_normal_one_for_many_photos():
    """The standard error of the mean of n values of variance v is sqrt(v / n)."""
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = mean_interval(values)
    error = values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


@pytest.mark.parametrize("n", [12, 32, 100])
def test_few_values_have_students_interval(n):
    """Symmetric values: mean +- t s / sqrt(n), with tabulated quantiles; the tails of so even values are lighter."""
    student = {12: 2.2010, 32: 2.0395, 100: 1.9842}[n]
    values = np.linspace(-1, 1, n)
    half = student * values.std(ddof=1) / np.sqrt(n)
    found = mean_interval(values)
    assert (-found.low, found.high) == pytest.approx((half, half), rel=0.1)


def test_values_that_are_missing_do_not_narrow_the_interval():
    values = np.linspace(0, 1, 12)
    alone, among = mean_interval(values), mean_interval(np.concatenate([values, np.full(200, np.nan)]))
    assert among.high - among.low == pytest.approx(alone.high - alone.low, rel=0.15)


def test_wilson_solves_its_equation():
    """At the ends p of the interval the share lies 1.96 standard errors sqrt(p (1 - p) / n) away."""
    for hits, n in ((1, 8), (20, 32), (31, 32)):
        found = hit_interval((np.arange(n) < hits).astype(float))
        for end in (found.low, found.high):
            assert abs(hits / n - end) == pytest.approx(1.959964 * np.sqrt(end * (1 - end) / n), rel=1e-5)
    assert hit_interval(np.array([1.0, np.nan, 1.0])) == pytest.approx((1, 2 / (2 + 1.959964**2), 1))
    assert hit_interval(np.zeros(9))[:2] == (0, 0)
    assert format(hit_interval(np.array([np.nan])), ".1f") == "-"


@pytest.mark.parametrize("n", [12, 32])
def test_intervals_hold_the_mean_as_often_as_they_say(n):
    """Of 300 samples, 95 % within 4 standard errors."""
    rng = np.random.default_rng(0)
    normal = [mean_interval(rng.normal(size=n)) for _ in range(300)]
    hits = [hit_interval((rng.random(n) < 0.9).astype(float)) for _ in range(300)]
    assert np.mean([one.low <= 0 <= one.high for one in normal]) > 0.90
    assert np.mean([one.low <= 0.9 <= one.high for one in hits]) > 0.90


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
