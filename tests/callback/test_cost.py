"""What the callback costs is told once, with its share of the run and, where that is high, what would lower it."""

import logging
import re

import pytest

from sess_lightning import SESSCallback
from sess_lightning.callback import cost
from sess_lightning.callback.cost import BASE_MAPS, DRAWING, MAPS, METRICS, Cost
from sess_lightning.metrics import PointingGame
from tests.helpers.training import SMALL, Module, loader, small_sess, trainer


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(cost, "time", clock)
    return clock


def spent(clock, maps=0.0, base=0.0, metrics=0.0, drawing=0.0):
    own = Cost()
    own.begin()
    for part, seconds in ((MAPS, maps), (BASE_MAPS, base), (METRICS, metrics), (DRAWING, drawing)):
        with own.timed(part):
            clock.now += seconds
    return own


def test_the_share_is_of_the_time_since_the_training_began(clock):
    own = spent(clock, maps=6.0, base=1.0, metrics=8.0, drawing=1.0)
    clock.now += 4.0  # the training itself
    told = own.message(16.0, num_samples=32, steps=28)
    assert told.startswith("took 16.0 s in this validation, 80% of the time since the training began (SESS maps 6.0 s")
    assert "base maps 1.0 s, metrics 8.0 s, drawing 1.0 s)" in told
    # Half the samples: half of 15 s. A quarter of the steps: 29 images become 8.
    assert "num_samples=16 saves about 7.5 s; " in told
    assert f"DeletionAUC(steps=7) saves about {8 * (1 - 8 / 29):.1f} s." in told


def test_below_a_tenth_nothing_is_advised(clock):
    own = spent(clock, maps=1.0)
    clock.now += 9.5
    assert own.message(1.0, 32, 28).endswith("10% of the time since the training began (SESS maps 1.0 s).")


def test_advice_that_saves_nothing_is_not_given(clock):
    told = spent(clock, maps=1.0).message(1.0, 1, None)
    assert told.endswith("(SESS maps 1.0 s).")


def test_it_is_told_once_and_only_in_a_fit(clock):
    assert Cost().message(1.0, 32, 28) is None
    own = spent(clock, maps=1.0)
    assert own.message(1.0, 32, 28)
    assert own.message(1.0, 32, 28) is None
    with own.timed(MAPS):
        clock.now += 5.0
    assert own.seconds[MAPS] == 1.0


def test_a_fit_tells_it_after_its_first_validation(tmp_path, caplog):
    metrics = {"pointing": PointingGame()}
    callback = SESSCallback(small_sess(), metrics=metrics, **SMALL)
    with caplog.at_level(logging.INFO):
        t = trainer(tmp_path, callback, max_epochs=2)
        t.fit(Module(), loader(), loader())
        t.validate(Module(), loader(), verbose=False)
    (told,) = [one.getMessage() for one in caplog.records if "time since the training began" in one.getMessage()]
    assert re.match(r"SESSCallback took \d+\.\d s in this validation, \d+% of the time", told)
    assert "steps" not in told  # there is no insertion or deletion to take fewer of
