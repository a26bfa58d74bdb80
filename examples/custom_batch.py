"""Batches of a form of your own: `batch_to_samples` tells the callback what is in them.

python examples/custom_batch.py

Here a batch is a dict with the images under "scan", class names under "finding", and regions as centre, width and
height in shares of the image.
"""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from sess_lightning import SESS, SESSCallback
from sess_lightning.samples import Samples

CLASSES = ["dark", "bright"]


class Scans(Dataset):
    """Noise with one dark or bright square."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        generator = torch.Generator().manual_seed(index)
        image = 0.3 * torch.randn(1, 64, 64, generator=generator)
        x, y = torch.randint(0, 44, (2,), generator=generator).tolist()
        image[:, y : y + 20, x : x + 20] += 3 * (index % 2) - 1.5
        region = torch.tensor([(x + 10) / 64, (y + 10) / 64, 20 / 64, 20 / 64])
        return {"scan": image, "finding": CLASSES[index % 2], "region": region}


def to_samples(batch: dict) -> Samples:
    """What SESSCallback wants to know: images, class indices, boxes as x1, y1, x2, y2 in pixels."""
    labels = torch.tensor([CLASSES.index(name) for name in batch["finding"]])
    centre, size = 64 * batch["region"][:, :2], 64 * batch["region"][:, 2:]
    boxes = torch.cat([centre - size / 2, centre + size / 2], dim=1)
    objects = [{"boxes": box[None], "labels": label[None]} for box, label in zip(boxes, labels, strict=True)]
    return Samples(batch["scan"], labels, objects)


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 16, 7, stride=2, padding=3), nn.ReLU(),
                                      nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU())  # fmt: skip
        self.head = nn.Linear(32, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(x).mean((2, 3)))

    def training_step(self, batch: dict, batch_idx: int) -> torch.Tensor:
        samples = to_samples(batch)
        return F.cross_entropy(self(samples.images), samples.labels.to(self.device))

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        samples = to_samples(batch)
        self.log("val_acc", (self(samples.images).argmax(1).cpu() == samples.labels).float().mean(), prog_bar=True,
                 batch_size=len(samples))  # fmt: skip

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


def main(**trainer_options: object) -> dict:
    pl.seed_everything(0)
    watch = SESSCallback(
        sess=SESS(num_scales=4, window_size=32),
        batch_to_samples=to_samples,
        mean=(0.5,),
        std=(0.25,),  # how -2..2 becomes black..white in the pictures
    )
    options = {"max_epochs": 3, "accelerator": "cpu", "default_root_dir": "runs/custom", "log_every_n_steps": 5}
    trainer = pl.Trainer(callbacks=[watch], **{**options, **trainer_options})
    trainer.fit(Classifier(), DataLoader(Scans(256), batch_size=16, shuffle=True), DataLoader(Scans(64), batch_size=16))
    found = {key: float(value) for key, value in trainer.callback_metrics.items()}
    print(f"Pointing accuracy {found['sess/pointing_acc']:.3f}, base method {found['sess/base_pointing_acc']:.3f}")
    return found


if __name__ == "__main__":
    main()
