"""`LitClassifier`: a torchvision model, loss, accuracy and optimiser, for the command line and the examples."""

from __future__ import annotations

import difflib
import pickle
from pathlib import Path
from typing import Any

import torch
import torchvision
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from sess_lightning.samples import UNKNOWN, Samples, batch_to_samples
from sess_lightning.small_cnn import small_cnn
from sess_lightning.windows import resize


class LitClassifier(LightningModule):
    """An image classifier that trains by cross-entropy.

    Logs `train_loss`, `train_acc`, `val_loss`, `val_acc`, `test_loss`, `test_acc`. In validation, images of any size
    are squashed to `input_size`; samples of unknown class are left out.

    Args:
        model: `"small_cnn"` (six convolutions, for the embedded data) or the name of any torchvision classifier.
        num_classes: outputs of the network.
        input_size: side in pixels that the network is trained on; 224, as most ImageNet models.
        weights: path of a state_dict (read with `weights_only=True`; half precision is fine), the name of
            torchvision's own such as `"DEFAULT"`, which downloads them, or `None` for random ones.
        learning_rate: peak of the one-cycle schedule; 0.01, at which `small_cnn` was measured.
        weight_decay: of AdamW.

    Raises:
        ValueError: if the model is unknown, or the weights do not fit it.

    Example:
        >>> LitClassifier("small_cnn", num_classes=6, input_size=64)(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 6])
    """

    def __init__(
        self,
        model: str = "small_cnn",
        num_classes: int = 1000,
        input_size: int = 224,
        weights: str | None = None,
        learning_rate: float = 1e-2,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = _build(model, num_classes, weights)
        self.input_size = input_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(N, K)` of images `(N, C, H, W)`."""
        return self.model(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross-entropy of one batch."""
        return self._step(batch_to_samples(batch), "train")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loss and accuracy of one batch."""
        self._step(batch_to_samples(batch), "val")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Loss and accuracy of one batch."""
        self._step(batch_to_samples(batch), "test")

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle learning rate over all steps of the training."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _step(self, samples: Samples, stage: str) -> Tensor:
        if samples.labels is None:
            raise ValueError("Expected batches with labels to train or validate a classifier, but got images alone.")
        known = samples.labels != UNKNOWN
        logits = self(torch.cat([resize(image[None], (self.input_size,) * 2) for image in samples.images]))[known]
        labels = samples.labels[known]
        loss = F.cross_entropy(logits, labels) if len(labels) else logits.sum()
        if len(labels):
            accuracy = (logits.argmax(1) == labels).float().mean()
            self.log(f"{stage}_loss", loss, batch_size=len(labels), on_epoch=True, on_step=stage == "train")
            self.log(f"{stage}_acc", accuracy, batch_size=len(labels), on_epoch=True, on_step=False, prog_bar=True)
        return loss


def _build(model: str, num_classes: int, weights: str | None) -> nn.Module:
    """The network by name, with weights if they are asked for."""
    known = ["small_cnn", *torchvision.models.list_models(module=torchvision.models)]
    if model not in known:
        near = ", ".join(difflib.get_close_matches(model, known, n=5, cutoff=0.3))
        raise ValueError(
            f"Expected argument `model` to be 'small_cnn' or a torchvision classifier, but got {model!r}. "
            f"Nearest: {near}."
        )
    is_path = weights is not None and (Path(weights).exists() or Path(weights).suffix in {".pth", ".pt", ".ckpt"})
    if weights is not None and not is_path:
        return _with_named_weights(model, num_classes, weights)
    network = (
        small_cnn(num_classes) if model == "small_cnn" else torchvision.models.get_model(model, num_classes=num_classes)
    )
    if weights is not None:
        _load(network, Path(weights), model)
    return network


def _with_named_weights(model: str, num_classes: int, weights: str) -> nn.Module:
    """The network with weights that torchvision offers; they are downloaded at their first use."""
    offered = (
        [] if model == "small_cnn" else ["DEFAULT", *(w.name for w in torchvision.models.get_model_weights(model))]
    )
    if weights.rpartition(".")[2] not in offered:
        raise ValueError(
            "Expected argument `weights` to be the path of a state_dict, None, or one that torchvision offers "
            f"for {model!r} "
            f"({', '.join(offered) or 'none'}), but got {weights!r}, which is no file either."
        )
    return torchvision.models.get_model(model, weights=weights.rpartition(".")[2], num_classes=num_classes)


def _load(network: nn.Module, path: Path, model: str) -> None:
    """Load a state_dict from disk; half precision becomes the network's own."""
    if not path.is_file():
        raise ValueError(f"Expected argument `weights` to be the path of a state_dict, but found no file {path}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(
            f"Could not read {path} as a state_dict: {type(error).__name__} {error} Save the weights alone, with "
            "torch.save(network.state_dict(), path)."
        ) from error
    if isinstance(state, dict) and "state_dict" in state:
        state = state["state_dict"]
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"The weights in {path} do not fit {model!r}; check `model` and `num_classes`. {error}"
        ) from error
