"""`LitClassifier`: a network by name with loss, accuracy and optimiser, for the command line and the examples."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn import functional as F

from sess_lightning.labels import UNKNOWN, known_labels
from sess_lightning.logits import check_targets, read_logits
from sess_lightning.networks import build_network
from sess_lightning.pixels import resize
from sess_lightning.samples import Samples, batch_to_samples


class LitClassifier(LightningModule):
    """An image classifier that trains by cross-entropy.

    Logs `train_loss`, `train_acc`, `val_loss`, `val_acc`, `test_loss`, `test_acc`. In validation, images of any size
    are squashed to `input_size`; samples of unknown class are left out.

    Args:
        model: `"small_cnn"` (six convolutions, for the embedded data) or the name of any torchvision classifier
            or timm model (`timm:NAME` where both have one of that name).
        num_classes: number of outputs of the network.
        input_size: side of the training images in pixels; 224, as for most ImageNet models.
        weights: path of a state_dict or checkpoint (read with `weights_only=True`; half precision is fine), `"DEFAULT"`
            or the name of any of torchvision's weights, which are downloaded, or `None` for random ones.
        learning_rate: peak of the one-cycle schedule; 0.01, with which `small_cnn` was measured.
        weight_decay: weight decay of AdamW.

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
        self.model = build_network(model, num_classes, weights)
        self.input_size = input_size
        self.learning_rate, self.weight_decay = learning_rate, weight_decay

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits `(N, K)` for images `(N, C, H, W)`."""
        return self.model(images)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Returns the cross-entropy of one batch, and logs it with the accuracy."""
        return self._step(batch_to_samples(batch), "train")

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log loss and accuracy of one batch."""
        self._step(batch_to_samples(batch), "val")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Log loss and accuracy of one batch."""
        self._step(batch_to_samples(batch), "test")

    def configure_optimizers(self) -> Any:
        """Returns AdamW with a one-cycle learning rate over all steps of the training."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _step(self, samples: Samples, stage: str) -> Tensor:
        if samples.labels is None:
            raise ValueError("Expected batches with labels to train or validate a classifier, but got images alone.")
        squashed = torch.cat([resize(image[None], (self.input_size,) * 2) for image in samples.images])
        logits = read_logits(self(squashed))
        labels = known_labels(samples.labels, logits.shape[1])
        known = labels != UNKNOWN
        logits, labels = logits[known], check_targets(labels[known], int(known.sum()), logits.shape[1])
        loss = F.cross_entropy(logits, labels) if len(labels) else logits.sum()
        if len(labels):
            accuracy = (logits.argmax(1) == labels).float().mean()
            self.log(f"{stage}_loss", loss, batch_size=len(labels), on_epoch=True, on_step=stage == "train")
            self.log(f"{stage}_acc", accuracy, batch_size=len(labels), on_epoch=True, on_step=False, prog_bar=True)
        return loss
