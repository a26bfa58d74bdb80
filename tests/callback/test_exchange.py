"""What the processes of a run tell each other, as far as one process can test it; see `test_processes.py`."""

import pytest
import torch
from torchmetrics import Metric

from sess_lightning.callback.exchange import Exchange, states_of, synchronise


class Listed(Metric):
    """A list that is kept apart: not concatenated."""

    full_state_update = False

    def __init__(self):
        super().__init__()
        self.add_state("seen", [], dist_reduce_fx=None)

    def update(self, value):
        self.seen.append(torch.tensor(value))

    def compute(self):
        return sum(self.seen)


def listed(*values):
    metric = Listed()
    for value in values:
        metric.update(value)
    return metric


def test_lists_of_another_length_on_each_process_are_refused():
    mine, other = listed(1.0, 2.0), listed(4.0)
    with pytest.raises(ValueError, match=r"states of Listed to be as many on every process, but got \[2, 1\] tensors"):
        synchronise(mine, [states_of(mine), states_of(other)])


class Two(Exchange):
    """The other process sends what it is told to."""

    def __init__(self, other, **options):
        super().__init__(2, **{"always_raises": False, **options})
        self.other = other

    def _gathered(self, mine):
        return [mine, self.other]


def test_a_failure_names_its_process():
    with pytest.raises(RuntimeError, match=r"SESSCallback failed on process 1 of 2:\nKeyError: 'a'"):
        Two((None, "KeyError: 'a'"))(lambda: 1)
