"""Probability of a class for images under many masks: forwards of all images share batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sess_lightning.logits import class_scores, read_logits
from sess_lightning.probing import default_batch_size


def forward_count(batch_size: int | None, images: Tensor) -> int:
    """Masked images per forward: what the user said, else the batch given, but not less than what is best on a CPU.

    SESS bounds its memory by the patches that it gives, so a method must not take many more than those at a time.
    """
    return batch_size or max(len(images), default_batch_size(torch.device("cpu"), (images.shape[-2], images.shape[-1])))


def pair_batches(images: int, masks: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs of image and mask number, image by image, in batches of `count`: two `(n,)` index tensors."""
    pairs = torch.arange(images * masks)
    for part in pairs.split(count):
        yield part // masks, part % masks


def masked_scores(model: nn.Module, images: Tensor, targets: Tensor, activation: str) -> Tensor:
    """Probability `(N,)` of each image's class, in one forward in channels_last."""
    logits = read_logits(model(images.contiguous(memory_format=torch.channels_last)))
    return class_scores(logits, targets, activation)
