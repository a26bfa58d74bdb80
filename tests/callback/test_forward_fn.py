"""Models that are not called with images alone: `forward_fn`, and the rows of the batch that go with a sample."""

from typing import NamedTuple

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.forward_view import ForwardView, batch_row, expanded_row
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import seeded, small_cnn
from tests.helpers.training import SMALL, Module, run, small_sess, trainer

CPU = torch.device("cpu")


class Pair(NamedTuple):
    first: object
    second: object


def test_rows_of_every_kind_of_batch():
    batch = {
        "image": torch.arange(6.0).view(3, 2),
        "names": ["a", "b", "c"],
        "boxes": [torch.zeros(2, 4), torch.ones(1, 4), torch.ones(3, 4)],
        "scale": torch.tensor(2.0),
        "table": torch.zeros(5, 2),
        "nested": Pair(torch.tensor([4, 5, 6]), "as it is"),
    }
    found = expanded_row(batch_row(batch, 1, 3), 4, CPU)
    assert found["image"].tolist() == [[2, 3]] * 4
    assert found["names"] == ["b"] * 4
    assert [box.tolist() for box in found["boxes"]] == [[[1] * 4]] * 4
    assert found["scale"] == 2
    assert found["table"].shape == (5, 2)
    assert found["nested"].first.tolist() == [5] * 4
    assert found["nested"].second == "as it is"


def test_rows_of_batches_as_long_as_they_have_parts():
    images, labels = torch.arange(4.0).view(2, 2), torch.tensor([7, 8])
    found = expanded_row(batch_row([images, labels], 1, 2), 3, CPU)
    assert found[0].tolist() == [[2, 3]] * 3
    assert found[1].tolist() == [8] * 3
    found = expanded_row(batch_row(([images[0], images[1]], [{"a": 1}, {"a": 2}]), 0, 2), 2, CPU)
    assert found[1] == [{"a": 1}] * 2
    samples = [{"image": images[0]}, {"image": images[1]}]
    assert [one["image"].tolist() for one in expanded_row(batch_row(samples, 1, 2), 2, CPU)] == [[2, 3]] * 2


def test_a_row_is_a_copy():
    batch = {"image": torch.zeros(2, 3), "rest": torch.zeros(())}
    row = batch_row(batch, 0, 2)
    batch["image"].add_(1)
    batch["rest"].add_(1)
    assert not expanded_row(row, 1, CPU)["image"].any()
    assert not expanded_row(row, 1, CPU)["rest"].any()


class Shifted(Module):
    """Needs the batch: its logits are shifted by a number that each sample brings along."""

    def forward(self, batch):
        return self.net(batch["image"]) + batch["shift"]

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch), batch["label"])


class KeywordOnly(Shifted):
    def forward(self, *, pixels, shift):
        return {"out": self.net(pixels) + shift}

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(pixels=batch["image"], shift=batch["shift"])["out"], batch["label"])


class NoForward(Shifted):
    forward = nn.Module.forward

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["image"]) + batch["shift"], batch["label"])


WAYS = {
    Shifted: lambda module, images, batch: module({**batch, "image": images}),
    KeywordOnly: lambda module, images, batch: module(pixels=images, shift=batch["shift"]),
    NoForward: lambda module, images, batch: module.net(images) + batch["shift"],
}


def data():
    return [{"image": seeded(i, 3, 32, 32), "label": i % 4, "shift": 3 * seeded(100 + i, 4)} for i in range(6)]


class Known(nn.Module):
    """The same network with the shift of one sample inside."""

    def __init__(self, net, shift):
        super().__init__()
        self.net, self.shift = net, shift

    def forward(self, x):
        return self.net(x) + self.shift


@pytest.mark.parametrize("kind", WAYS)
def test_each_sample_is_explained_with_its_row(tmp_path, kind):
    logits_fn = (lambda output: output["out"]) if kind is KeywordOnly else None
    callback = SESSCallback(
        small_sess(GradCAM("net.4")), num_samples=3, num_images=1, indices=[0, 3, 4], forward_fn=WAYS[kind],
        logits_fn=logits_fn,
    )  # fmt: skip
    module = kind()
    t = trainer(tmp_path, callback)
    t.validate(module, DataLoader(data(), batch_size=2), verbose=False)
    assert t.callback_metrics["sess/num_samples"] == 3
    assert callback.sess.method.resolved_layer == "net.4"
    found = callback.last_result
    for number, index in enumerate((0, 3, 4)):
        sample = data()[index]
        model = Known(module.net, sample["shift"])
        sess = SESS(GradCAM("net.4"), num_scales=2, window_size=None)
        expected = sess(model, sample["image"][None], torch.tensor([sample["label"]]))
        assert torch.allclose(found.maps[number], expected.maps[0], atol=1e-5)
        probability = model.eval()(sample["image"][None]).softmax(1)[0, sample["label"]]
        assert found.scores[number] == pytest.approx(float(probability.detach()), abs=1e-5)


def test_without_it_the_error_shows_it(tmp_path):
    callback = SESSCallback(small_sess(), **SMALL)
    loader = DataLoader(data(), batch_size=2)
    with pytest.raises(TypeError, match=r"(?s)def forward_fn\(module, images, batch\).*SESSCallback\(forward_fn"):
        trainer(tmp_path, callback).validate(KeywordOnly(), loader, verbose=False)


def test_nothing_of_the_module_is_kept_afterwards(tmp_path):
    callback = SESSCallback(small_sess(), **SMALL, forward_fn=lambda module, images, batch: module(images))
    run(tmp_path, callback, max_epochs=1)
    assert callback._view is None


def test_a_view_has_the_modules_names_and_parts():
    net = small_cnn()
    view = ForwardView(net, lambda module, images, batch: module(images))
    assert [name for name, _ in view.named_modules()] == [name for name, _ in net.named_modules()]
    assert all(a is b for a, b in zip(view.parameters(), net.parameters(), strict=True))
    assert torch.equal(view(seeded(0, 2, 3, 8, 8)), net(seeded(0, 2, 3, 8, 8)))
