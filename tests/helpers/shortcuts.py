"""Pictures whose corner tells the class, and a network that reads it: what the alarm is for."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader, Dataset

from tests.helpers.nets import seeded
from tests.helpers.training import Module


class Marked(Dataset):
    """The corner tells the class, the object in the middle says nothing."""

    def __init__(self, count=24):
        self.images, self.labels = seeded(0, count, 3, 32, 32) * 0.1, torch.arange(count) % 2
        self.images[:, :, :8, :8] = self.labels.float().mul(8).sub(4)[:, None, None, None]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        target = {"boxes": torch.tensor([[14.0, 14, 24, 24]]), "labels": self.labels[i : i + 1], "place": "field"}
        return self.images[i], target


class ReadsTheCorner(Module):
    """Needs no training: the logits are the corner's brightness."""

    def __init__(self):
        super().__init__(num_classes=2)

    def forward(self, images):
        corner = images[:, :, : images.shape[2] // 4, : images.shape[3] // 4].mean((1, 2, 3))
        return torch.stack([-corner, corner], 1) + 0 * self.net(images)[:, :2]

    def training_step(self, batch, batch_idx):
        return 0 * self(batch[0]).sum()


def collate(rows):
    images, targets = zip(*rows, strict=True)
    return torch.stack(images), list(targets)


def marked(count=24, batch_size=6):
    return DataLoader(Marked(count), batch_size, collate_fn=collate)
