"""Your own LightningModule with one more line: watch where it looks.

python examples/quickstart.py
tensorboard --logdir runs --samples_per_plugin images=1000
"""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional as F

from sess_lightning import SESS, SESSCallback
from sess_lightning.data import ShapeScenes
from sess_lightning.metrics import DeletionAUC, InsertionAUC, PointingGame


def block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1), nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)
    )


class Classifier(pl.LightningModule):
    def __init__(self, num_classes: int = 6) -> None:
        super().__init__()
        self.features = nn.Sequential(
            block(3, 16), nn.MaxPool2d(2), block(16, 32), nn.MaxPool2d(2), block(32, 64), nn.MaxPool2d(2), block(64, 96)
        )
        self.head = nn.Linear(96, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))

    def training_step(self, batch: tuple, batch_idx: int) -> torch.Tensor:
        images, labels = batch
        return F.cross_entropy(self(images), labels)

    def validation_step(self, batch: tuple, batch_idx: int) -> None:
        images, targets = batch
        labels = torch.stack([target["label"] for target in targets])
        whole = F.interpolate(images, (64, 64), mode="bilinear", antialias=True)
        self.log("val_acc", (self(whole).argmax(1) == labels).float().mean(), batch_size=len(labels), prog_bar=True)

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.01)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(*callbacks: pl.Callback, **trainer_options: object) -> SESSCallback:
    pl.seed_everything(0)
    watch = (
        SESSCallback(  # SESSCallback() alone does, too; here the scenes are larger than what the network was trained on
            sess=SESS(num_scales=6, window_size=64),
            metrics={"insertion": InsertionAUC(), "deletion": DeletionAUC(), "pointing": PointingGame(tolerance=0)},
        )
    )
    options = {"max_epochs": 6, "accelerator": "cpu", "default_root_dir": "runs/example", "log_every_n_steps": 10}
    trainer = pl.Trainer(callbacks=[watch, *callbacks], **{**options, **trainer_options})
    trainer.fit(Classifier(), datamodule=ShapeScenes())
    for key, value in sorted(trainer.callback_metrics.items()):
        print(f"{key:<42}{float(value):.3f}")
    return watch


if __name__ == "__main__":
    main()
