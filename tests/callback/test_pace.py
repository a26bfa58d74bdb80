"""`max_seconds` on a clock of the tests: one budget, no warm-up in it, the same samples in every validation."""

from types import SimpleNamespace

import lightning.pytorch as pl
import pytest

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback import cost as timer
from sess_lightning.callback.pace import Pace
from tests.helpers.training import Module, loader, trainer


class Clock:
    """Stands still but for the work of `explain`, which takes `cost` a patch, and `warm_up` more the first time."""

    def __init__(self, monkeypatch, cost=1.0, warm_up=0.0):
        self.now, self.cost, self.warm_up = 0.0, cost, warm_up
        monkeypatch.setattr(timer, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def explain(self, model, images, targets):
        self.now += self.warm_up + self.cost * len(images)
        self.warm_up = 0.0
        return images.mean(1)


class Seen(pl.Callback):
    """Seconds and places of each validation."""

    def __init__(self, ours, before=lambda validation: None):
        self.ours, self.before, self.seconds, self.places = ours, before, [], []

    def on_validation_start(self, trainer, pl_module):
        self.before(len(self.seconds))

    def on_validation_end(self, trainer, pl_module):
        values = trainer.callback_metrics
        self.seconds.append(sum(float(value) for key, value in values.items() if "sess/seconds" in key))
        self.places.append({number: found.places for number, found in self.ours.last_results.items()})


def fit(tmp_path, clock, max_seconds, loaders=1, before=lambda validation: None, epochs=4):
    # One scale of the image's own size: one patch a sample.
    ours = SESSCallback(SESS(clock.explain, num_scales=1, window_size=None), num_samples=12, compare_base=False,
                        metrics=["insertion"], max_seconds=max_seconds)  # fmt: skip
    seen = Seen(ours, before)
    t = trainer(tmp_path, seen, ours, max_epochs=epochs, num_sanity_val_steps=0)
    t.fit(Module(), loader(), [loader(seed=number) for number in range(loaders)])
    return seen


def counts(seen):
    return [[len(places) for places in one.values()] for one in seen.places]


@pytest.mark.parametrize("loaders", [1, 3, 4])
def test_one_budget_for_all_loaders(tmp_path, monkeypatch, loaders):
    seen = fit(tmp_path, Clock(monkeypatch), max_seconds=10, loaders=loaders)
    assert all(7 <= seconds <= 10 for seconds in seen.seconds)
    assert all(number >= 2 for number in counts(seen)[0])  # each has its part
    assert all(one == seen.places[0] for one in seen.places)


@pytest.mark.parametrize("warm_up", [0, 1.5, 50])
def test_the_warm_up_changes_nothing_but_the_first_validation(tmp_path, monkeypatch, warm_up):
    with pytest.warns(UserWarning, match="have time for 8 of 12 samples, always the same") as caught:
        seen = fit(tmp_path, Clock(monkeypatch, warm_up=warm_up), max_seconds=10)
    assert counts(seen) == [[8]] * 4
    assert seen.seconds == [8 + warm_up, 8, 8, 8]
    assert sum("max_seconds" in str(one.message) for one in caught) == 1


def test_the_samples_explained_are_the_first_ones(tmp_path, monkeypatch):
    """Also where an early batch has more than there is time for and a later one has fewer."""
    seen = fit(tmp_path, Clock(monkeypatch), max_seconds=7.6)
    assert seen.places[0][0] == [(0, batch, position) for batch in range(3) for position in range(4)][:6]


def test_a_validation_that_takes_longer_lowers_the_number_for_good_and_says_so(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    def slower(validation):
        clock.cost = {1: 2.0}.get(validation, 1.0)

    with pytest.warns(UserWarning, match="have time for 5 of 8 samples"):
        seen = fit(tmp_path, clock, max_seconds=10, before=slower)
    assert counts(seen) == [[8], [5], [5], [5]]
    assert seen.seconds == [8, 10, 5, 5]


def test_a_little_slower_leaves_the_samples_as_they_are(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    def unsteady(validation):
        clock.cost = (1.0, 1.2, 0.4, 1.1)[validation]

    seen = fit(tmp_path, clock, max_seconds=10, before=unsteady)
    assert counts(seen) == [[8]] * 4


def test_at_least_one_sample_of_each_loader(tmp_path, monkeypatch):
    """The first validation needs a second one to know what one costs without the warm-up."""
    with pytest.warns(UserWarning, match="from now on have time for 1 of 2 samples"):
        seen = fit(tmp_path, Clock(monkeypatch, cost=7), max_seconds=1, loaders=2)
    assert counts(seen) == [[2, 1], *[[1, 1]] * 3]


def test_enough_time_explains_all_and_says_nothing(tmp_path, monkeypatch, recwarn):
    seen = fit(tmp_path, Clock(monkeypatch, cost=0.1), max_seconds=10)
    assert counts(seen) == [[12]] * 4
    assert not [one for one in recwarn if "max_seconds" in str(one.message)]


def test_no_part_is_so_long_that_the_time_is_far_exceeded():
    pace = Pace()
    for _ in range(2):
        pace.add(pace.part(1000, 1e9), 1.0)
    assert pace.part(1000, 1e9) == 8
    assert pace.part(1000, 3.5) == 3
    pace.add(14, 14.0)
    assert pace.close() is None
    pace.begin()
    assert pace.limit == 16
    assert pace.part(1000, -1.0) == 4  # one part in any case: without it there is no number
    pace.add(4, 40.0)
    assert pace.part(1000, 9.0) == 0
    assert pace.part(1000, 99.0) == 0  # once over, over
    assert pace.close() == 16
