"""`follow=`: which samples are the worst and the newly wrong ones, against a plain loop over the loader."""

import warnings

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from sess_lightning import SESS
from sess_lightning.callback.notable import fingerprints, outcomes
from tests.helpers.boards import events
from tests.helpers.following import (
    CALLS,
    CallingModule,
    Reference,
    assert_as_the_plain_loop,
    data,
    finding,
    fit,
    numbers,
)
from tests.helpers.nets import seeded
from tests.helpers.training import Pictures, loader, trainer


class TestWhatIsFound:
    @pytest.mark.parametrize("name", CALLS)
    def test_those_of_a_plain_loop(self, tmp_path, name):
        callback = finding(tmp_path)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*cannot follow")
            _, _, reference = fit(tmp_path, callback, CALLS[name], max_epochs=6)
        assert_as_the_plain_loop(callback, reference)
        assert any(reference.new_errors(number, 3) for number in range(6))  # or nothing was tested

    def test_a_loader_that_shuffles(self, tmp_path):
        callback = finding(tmp_path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning advises against it
            _, _, reference = fit(tmp_path, callback, shuffle=True, max_epochs=6)
        assert_as_the_plain_loop(callback, reference)

    def test_a_step_that_changes_its_batch(self, tmp_path):
        def call(module, x):
            logits = module(x)
            x.zero_()
            return logits

        images = data()[0]
        callback = finding(tmp_path)
        torch.manual_seed(3)
        reference = Reference(*data())
        t = trainer(tmp_path, reference, callback)
        t.fit(CallingModule(call), loader(count=16), DataLoader(TensorDataset(*data()), batch_size=4))
        assert_as_the_plain_loop(callback, reference)
        assert numbers(callback.kept[0].found["worst"], images)

    @pytest.mark.parametrize("entry", ["validate", "test"])
    @pytest.mark.parametrize("inference_mode", [True, False])
    def test_without_a_fit(self, tmp_path, entry, inference_mode):
        callback, (images, labels) = finding(tmp_path), data()
        module = CallingModule()
        t = trainer(tmp_path, callback, inference_mode=inference_mode)
        getattr(t, entry)(module, DataLoader(TensorDataset(images, labels), batch_size=4), verbose=False)
        losses = F.cross_entropy(module.eval().net(images), labels, reduction="none")
        assert numbers(callback.kept[0].found["worst"], images) == losses.argsort(descending=True)[:3].tolist()
        assert callback.kept[0].losses["new_errors"] == []

    def test_of_two_loaders_each_has_its_own(self, tmp_path):
        class Two(CallingModule):
            def validation_step(self, batch, batch_idx, dataloader_idx=0):
                self(batch[0])

        callback, module = finding(tmp_path), Two()
        sets = [data(10, seed) for seed in (1, 2)]
        t = trainer(tmp_path, callback, logger=TensorBoardLogger(tmp_path))
        t.validate(module, [DataLoader(TensorDataset(*one), batch_size=4) for one in sets], verbose=False)
        for number, (images, labels) in enumerate(sets):
            found = callback._trackers[number].notable.found["worst"]
            losses = F.cross_entropy(module.eval().net(images), labels, reduction="none")
            assert numbers(found, images) == losses.argsort(descending=True)[:3].tolist()
        shown = events(t.logger.log_dir).Tags()["images"]
        assert {f"sess/worst/dataloader_idx_{number}" for number in range(2)} <= set(shown)

    def test_a_loader_of_unknown_length(self, tmp_path):
        class Stream(IterableDataset):
            def __iter__(self):
                return iter(TensorDataset(*data()))

        callback = finding(tmp_path)
        reference = Reference(*data())
        trainer(tmp_path, reference, callback).fit(CallingModule(), loader(count=16), DataLoader(Stream(), 4))
        assert_as_the_plain_loop(callback, reference)

    def test_unknown_labels_have_no_loss(self, tmp_path):
        images, labels = data()
        labels = labels.clone()
        labels[::2] = -1
        callback, module = finding(tmp_path), CallingModule()
        trainer(tmp_path, callback).validate(
            module, DataLoader(TensorDataset(images, labels), batch_size=4), verbose=False
        )
        losses = F.cross_entropy(module.eval().net(images), labels.clamp(min=0), reduction="none")
        losses[::2] = -1
        assert numbers(callback.kept[0].found["worst"], images) == losses.argsort(descending=True)[:3].tolist()

    def test_a_loss_that_is_no_number_is_the_worst(self):
        found = outcomes(torch.tensor([[0.0, 1.0], [torch.nan, 0.0]]), torch.tensor([1, 0]), "softmax")
        assert found.losses.tolist()[1] == float("inf")
        assert found.wrong.tolist() == [False, True]

    def test_an_image_that_is_not_finite_is_left_out(self, tmp_path):
        images, labels = data()
        images[7] = torch.nan
        callback = finding(tmp_path, indices=[0, 1])
        trainer(tmp_path, callback).validate(
            CallingModule(), DataLoader(TensorDataset(images, labels), batch_size=4), verbose=False
        )
        assert len(callback.kept[0].found["worst"]) == 3

    @pytest.mark.parametrize("classes", [1, 5])
    def test_loss_of_a_sigmoid(self, classes):
        logits = seeded(0, 8, classes).bfloat16()
        labels = torch.arange(8) % max(2, classes)
        found = outcomes(logits, labels, "sigmoid")
        wide = logits.float()
        own = wide.gather(1, labels[:, None])[:, 0] if classes > 1 else wide[:, 0]
        target = torch.ones(8) if classes > 1 else labels.float()
        expected = F.binary_cross_entropy_with_logits(own, target, reduction="none")
        torch.testing.assert_close(found.losses, expected)
        assert torch.equal(found.wrong, (own > 0) != target.bool())

    def test_what_an_image_is_known_by(self):
        images = seeded(0, 4, 3, 40, 30)
        prints = fingerprints(images)
        assert len(set(prints)) == 4
        assert fingerprints(images.flip(0).contiguous(memory_format=torch.channels_last)) == prints[::-1]
        assert fingerprints([*images]) == prints
        assert fingerprints(images[:1, :, :38]) != prints[:1]


class TestHowItIsRead:
    def test_output_as_a_dict(self, tmp_path):
        class Dict(CallingModule):
            def forward(self, x):
                return {"scores": self.net(x), "features": x.mean((2, 3))}

            def training_step(self, batch, batch_idx):
                return F.cross_entropy(self.net(batch[0]), batch[1])

        callback = finding(tmp_path, logits_fn=lambda output: output["scores"])
        module = Dict(lambda m, x: m(x)["scores"])
        _, _, reference = fit(tmp_path, callback, module=module)
        assert_as_the_plain_loop(callback, reference)

    def test_forward_fn(self, tmp_path):
        class Aged(CallingModule):
            def forward(self, x, age):
                return self.net(x) + 0 * age

            def training_step(self, batch, batch_idx):
                return F.cross_entropy(self.net(batch[0]), batch[1])

        callback = finding(
            tmp_path, forward_fn=lambda module, images, batch: module(images, torch.ones(len(images), 1))
        )
        module = Aged(lambda m, x: m(x, torch.ones(len(x), 1)))
        _, _, reference = fit(tmp_path, callback, module=module)
        assert_as_the_plain_loop(callback, reference)
        assert len(callback.kept[0].found["worst"].maps) == 3

    @pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
    def test_other_precisions(self, tmp_path, precision):
        """In bf16 the order of close losses is the step's own: the losses are held against it."""
        kept = []

        def call(module, x):
            logits = module(x)
            kept.append(logits.detach().float())
            return logits

        callback, (images, labels) = finding(tmp_path), data()
        t = trainer(tmp_path, callback, precision=precision)
        t.validate(CallingModule(call), DataLoader(TensorDataset(images, labels), batch_size=4), verbose=False)
        losses = F.cross_entropy(torch.cat(kept), labels, reduction="none")
        assert callback.kept[0].losses["worst"] == pytest.approx(losses.sort(descending=True).values[:3].tolist())

    def test_a_scripted_network(self, tmp_path):
        module = CallingModule()
        module.net = torch.jit.script(module.net)
        callback = finding(tmp_path, sess=SESS("gradient", num_scales=1, window_size=None))
        _, _, reference = fit(tmp_path, callback, module=module, max_epochs=1)
        assert_as_the_plain_loop(callback, reference)

    @pytest.mark.parametrize("what", ["network", "by itself"])
    def test_a_compiled_network(self, tmp_path, what):
        module = CallingModule(CALLS["self.net(x)"] if what == "network" else CALLS["self(x)"])
        if what == "network":
            module.net = torch.compile(module.net, backend="eager")
        else:
            module.net.compile(backend="eager")
        callback = finding(tmp_path)
        _, _, reference = fit(tmp_path, callback, module=module)
        assert_as_the_plain_loop(callback, reference)

    def test_a_compiled_step_is_said_once(self, tmp_path):
        torch._dynamo.reset()
        callback, (images, labels) = finding(tmp_path), data()
        model = torch.compile(CallingModule(), backend="eager")
        t = trainer(tmp_path, callback)
        with pytest.warns(UserWarning, match=r"cannot follow 'worst' and 'new_errors'.*torch\.compile") as caught:
            t.fit(model, loader(count=16), DataLoader(TensorDataset(images, labels), batch_size=4))
        assert sum("cannot follow" in str(one.message) for one in caught) == 1
        assert not any(len(one) for notable in callback.kept if notable for one in notable.found.values())

    @pytest.mark.parametrize(
        ("call", "what"),
        [
            (lambda m, x: F.linear(m.net[:-1](x), m.net[-1].weight, m.net[-1].bias), "called no module"),
            (lambda m, x: m(x[:2]).repeat(2, 1)[: len(x)], "called no module"),
        ],
    )
    def test_what_cannot_be_read_is_said_once(self, tmp_path, call, what):
        callback, (images, labels) = finding(tmp_path), data(16)
        t = trainer(tmp_path, callback)
        with pytest.warns(UserWarning, match=rf"cannot follow.*{what}.*self\(images\).*forward_fn") as caught:
            t.fit(CallingModule(call), loader(count=16), DataLoader(TensorDataset(images, labels), batch_size=4))
        assert sum("cannot follow" in str(one.message) for one in caught) == 1
        assert t.callback_metrics["sess/num_samples"] == 5
        assert not any(len(one) for notable in callback.kept for one in notable.found.values())

    def test_batches_without_labels(self, tmp_path):
        class Blind(CallingModule):
            def validation_step(self, batch, batch_idx):
                self(batch)

        t = trainer(tmp_path, finding(tmp_path))
        with pytest.warns(UserWarning, match=r"cannot follow.*no labels"):
            t.fit(Blind(), loader(), loader("images"))
        assert t.callback_metrics["sess/num_samples"] == 5

    def test_images_that_change_at_random(self, tmp_path):
        class Noisy(Pictures):
            def __getitem__(self, i):
                image, label = super().__getitem__(i)
                return image + torch.rand(1), label

        with pytest.warns(UserWarning, match="no image of this validation came in the one before"):
            trainer(tmp_path, finding(tmp_path)).fit(CallingModule(), loader(), DataLoader(Noisy(), batch_size=4))
