"""The demo modules of lightning.pytorch with the callback: each stops with a message that says what to pass."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel, DemoModel, ManualOptimBoringModel
from lightning.pytorch.demos.lstm import LightningLSTM
from lightning.pytorch.demos.transformer import LightningTransformer
from torch.utils.data import DataLoader

from sess_lightning import SESSCallback


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """The language model looks for its text in `data/` of the current folder."""
    monkeypatch.chdir(tmp_path)


def fit(module, tmp_path, **arguments):
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, limit_train_batches=1, limit_val_batches=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        callbacks=[SESSCallback()],
    )  # fmt: skip
    trainer.fit(module, **arguments)


@pytest.mark.parametrize("model", [BoringModel, ManualOptimBoringModel, DemoModel])
def test_models_without_images(tmp_path, model):
    """Vectors of 32 numbers: no image in the batch."""
    module = model()
    if model is DemoModel:  # it comes without a validation, as its authors left it
        data = {"train_dataloaders": DataLoader(torch.randn(4, 32)), "val_dataloaders": DataLoader(torch.randn(4, 32))}
        module.validation_step = lambda batch, batch_idx: None
        module.configure_optimizers = lambda: None
        module.training_step = lambda batch, batch_idx: None
    else:
        data = {"datamodule": BoringDataModule()}
        BoringDataModule.prepare_data = lambda self: None
    with pytest.raises((TypeError, ValueError), match=r"batch_to_samples="):
        fit(module, tmp_path, **data)


@pytest.mark.parametrize("model", [LightningTransformer, LightningLSTM])
def test_models_of_words(tmp_path, model):
    class Words(model):
        def validation_step(self, batch, batch_idx):
            pass

        def prepare_data(self):
            """Its own text would be downloaded."""

    tokens = torch.randint(0, 50, (4, 35))
    loader = DataLoader(torch.utils.data.TensorDataset(tokens, tokens), batch_size=2)
    with pytest.raises((TypeError, ValueError), match=r"batch_to_samples="):
        fit(Words(vocab_size=50), tmp_path, train_dataloaders=loader, val_dataloaders=loader)
