"""Nested loaders are all watched under Lightning's numbers; loaders and positions that are not there are refused."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, IterableDataset

from sess_lightning import SESS, SESSCallback
from sess_lightning.samples import Samples
from tests.helpers.nets import seeded, small_cnn


class Net(pl.LightningModule):
    """A classifier without training to speak of."""

    def __init__(self):
        super().__init__()
        self.net = small_cnn()
        self.seen = []

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, batch_idx):
        return self(batch[0]).square().mean()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.seen.append(dataloader_idx)

    test_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


def loader(seed, count=4):
    return DataLoader([(image, seed % 3) for image in seeded(seed, count, 3, 24, 24)], batch_size=2)


class Endless(IterableDataset):
    def __iter__(self):
        return iter([(image, 1) for image in seeded(9, 4, 3, 24, 24)])


def run(tmp_path, loaders, stage="fit", sanity=2, module=None, **options):
    options = {"num_samples": 2, "num_images": 0, "metrics": ("deletion",), "compare_base": False, **options}
    callback = SESSCallback(SESS(num_scales=1, window_size=None), **options)
    trainer = pl.Trainer(
        default_root_dir=tmp_path, max_epochs=1, logger=False, enable_checkpointing=False, callbacks=[callback],
        num_sanity_val_steps=sanity, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip
    module = module or Net()
    if stage == "fit":
        trainer.fit(module, loader(1), loaders)
    else:
        getattr(trainer, stage)(module, loaders, verbose=False)
    return trainer, callback


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: [loader(0), [loader(1), loader(2)]], 3),
        (lambda: {"x": loader(0), "y": {"p": loader(1), "q": loader(2)}}, 3),
        (lambda: [[loader(0)]], 1),
        (lambda: CombinedLoader({"b": loader(0), "a": (loader(1), loader(2))}, "sequential"), 3),
    ],
    ids=["list in list", "dict in dict", "one in two lists", "combined"],
)
def test_every_nested_loader_is_watched(tmp_path, make, count, stage):
    trainer, callback = run(tmp_path, make(), stage)
    assert sorted(callback.last_results) == list(range(count))
    expected = {f"sess/deletion_auc/dataloader_idx_{i}" for i in range(count)} if count > 1 else {"sess/deletion_auc"}
    assert {key for key in trainer.callback_metrics if "deletion" in key} == expected
    for number, found in callback.last_results.items():  # the images are those of this loader
        one = seeded(number, 4, 3, 24, 24)
        assert all(any(torch.equal(image, other) for other in one) for image in found.images)


def test_loaders_of_validate_are_its_own_after_a_fit(tmp_path):
    trainer, callback = run(tmp_path, loader(0))
    trainer.validate(trainer.lightning_module, [loader(1), loader(2)], verbose=False)
    assert sorted(callback.last_results)[-1] == 1
    assert "sess/deletion_auc/dataloader_idx_1" in trainer.callback_metrics


def test_batches_of_several_loaders_at_once_are_one_loader(tmp_path):
    together = CombinedLoader({"a": loader(0), "b": loader(1)}, "max_size")
    first = dict(batch_to_samples=lambda batch: Samples(*batch["a"]))
    _, callback = run(tmp_path, together, "validate", **first)
    (found,) = callback.last_results.values()
    assert all(any(torch.equal(image, other) for other in seeded(0, 4, 3, 24, 24)) for image in found.images)


def test_a_loader_without_length_takes_any_index(tmp_path):
    _, callback = run(tmp_path, DataLoader(Endless(), batch_size=2), indices=[3, 99])
    assert len(callback.last_results[0]) == 1


@pytest.mark.parametrize("sanity", [0, 1])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataloaders": [2]}, r"`dataloaders`.*0\.\.1, but got 2"),
        ({"dataloaders": [-1]}, r"`dataloaders`.*but got -1"),
        ({"indices": [0, 4]}, r"`indices`.*0\.\.3 in loader 0, but got 4.*limit_val_batches"),
        ({"indices": [-1]}, r"`indices`.*but got -1"),
        ({"indices": [5], "dataloaders": [0]}, "in loader 0, but got 5"),
    ],
)
def test_what_is_not_there_is_refused_before_training(tmp_path, options, message, sanity):
    module = Net()
    module.training_step = lambda batch, batch_idx: pytest.fail("training has begun")
    with pytest.raises(MisconfigurationException, match=message):
        run(tmp_path, [loader(0), [loader(1, 6)]], sanity=sanity, module=module, **options)


def test_positions_are_checked_in_watched_loaders_only(tmp_path):
    _, callback = run(tmp_path, [loader(0), loader(1, 6)], indices=[5], dataloaders=[1])
    assert len(callback.last_results[1]) == 1


def test_a_fit_without_validation_is_said(tmp_path):
    with pytest.warns(UserWarning, match="no validation loader or no validation_step: nothing is shown"):
        run(tmp_path, None)
