"""Whatever forwards write into a model under a probe is as before when it ends, also when it fails."""

import copy

import pytest
import torch
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

from sess_lightning.probing import probe
from tests.helpers.nets import seeded
from tests.helpers.odd_nets import Odd, Stateful


def image(seed=1):
    return seeded(seed, 2, 3, 8, 8)


def probed(model, fails=False):
    """Two forwards under a probe, which may end in an exception."""
    try:
        with probe(model):
            model(image())
            model(image(2))
            if fails:
                raise KeyError("in the middle")
    except KeyError:
        assert fails


@pytest.mark.parametrize("fails", [False, True])
def test_buffers_and_attributes_are_as_before(fails):
    model = Stateful()
    model(image(0))
    untouched = copy.deepcopy(model)
    buffers, cache, seen = dict(model.named_buffers()), model.cache, model.seen
    probed(model, fails)
    for name, buffer in untouched.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name
        assert model.get_buffer(name) is buffers[name], name
    assert (model.calls, len(model.seen)) == (untouched.calls, len(untouched.seen))
    assert model.total == untouched.total
    assert model.seen is seen
    assert torch.equal(model.seen[0], untouched.seen[0])
    assert model.cache is cache
    assert torch.equal(torch.rand(3, generator=model.noise), torch.rand(3, generator=untouched.noise))


def test_what_a_forward_first_makes_is_gone():
    model = Stateful()
    names = set(vars(model))
    probed(model)
    assert set(vars(model)) == names
    assert model.seen == [0]


def test_a_part_that_a_forward_makes_is_gone():
    class Grows(Odd):
        def forward(self, x):
            if not hasattr(self, "scale"):
                self.scale = nn.Linear(1, 1)
                self.register_buffer("offset", torch.zeros(1))
            return super().forward(x)

    model = Grows()
    names = list(model.state_dict())
    probed(model)
    assert list(model.state_dict()) == names


def test_states_of_metrics_are_as_before():
    class Counts(Odd):
        def __init__(self):
            super().__init__()
            self.accuracy = MulticlassAccuracy(4, average="micro")
            self.metrics = [MulticlassAccuracy(4, average="micro")]  # in a list: no child of the model

        def forward(self, x):
            logits = super().forward(x)
            for metric in (self.accuracy, *self.metrics):
                metric(logits, logits.argmax(1))
            return logits

    model = Counts()
    for metric in (model.accuracy, *model.metrics):
        metric.update(torch.tensor([0, 1]), torch.tensor([0, 2]))
    probed(model)
    for metric in (model.accuracy, *model.metrics):
        assert metric.update_count == 1
        assert metric.compute() == 0.5


def test_a_large_buffer_is_put_back_from_the_first_probe_on():
    """As an average of the weights kept inside: more than 1 MB."""

    class Averages(Odd):
        def __init__(self):
            super().__init__()
            self.register_buffer("average", torch.zeros(2**19))
            self.register_buffer("constant", torch.zeros(2**19))
            self.late = False

        def forward(self, x):
            self.average += x.mean()
            if self.late:
                self.constant += 1
            return super().forward(x)

    model = Averages()
    for _ in range(2):
        probed(model)
        assert not model.average.any()
    model.late = True
    with pytest.warns(UserWarning, match="'constant' of Averages"):
        probed(model)
    changed = model.constant.clone()
    probed(model)
    assert torch.equal(model.constant, changed)


def test_what_is_not_written_is_not_touched():
    """A write, even of the same value, would break a backward pass that has saved the buffer."""
    model = Odd().train()
    loss = model(image()).sum()
    versions = [buffer._version for buffer in model.buffers()]
    probed(model)
    assert [buffer._version for buffer in model.buffers()] == versions
    loss.backward()


def test_nan_is_put_back_and_inference_tensors_are():
    class Scaled(Odd):
        def __init__(self):
            super().__init__()
            with torch.inference_mode():
                self.register_buffer("made", torch.full((2,), torch.nan))

        def forward(self, x):
            with torch.inference_mode():
                self.made.add_(1).nan_to_num_(0)
            return super().forward(x)

    model = Scaled()
    probed(model)
    assert model.made.isnan().all()
