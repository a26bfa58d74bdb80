"""Probability of a class for images under many masks: forwards of all images share batches."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from sess_lightning.forwarding import model_logits
from sess_lightning.logits import class_scores
from sess_lightning.probing import default_batch_size


def forward_count(batch_size: int | None, images: Tensor) -> int:
    """Masked images per forward: what the user said, else the batch given, but not less than what is best on a CPU.

    SESS bounds its memory by the patches that it gives, so a method must not take many more than those at a time.
    """
    return batch_size or max(len(images), default_batch_size(torch.device("cpu"), (images.shape[-2], images.shape[-1])))


def pair_batches(images: int, masks: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All pairs of image and mask number, image by image, in batches of `count`: two `(n,)` index tensors.

    No pair is left alone at the end unless `count` is 1, as some models drop a batch of one.
    """
    pairs = torch.arange(images * masks)
    begin = 0
    while begin < len(pairs):
        left = len(pairs) - begin
        size = count - 1 if left == count + 1 and count > 2 else count
        part = pairs[begin : begin + size]
        yield part // masks, part % masks
        begin += size


def masked_scores(model: nn.Module, images: Tensor, targets: Tensor, activation: str) -> Tensor:
    """Probability `(N,)` of each image's class, in one forward, which may write to the images."""
    return class_scores(model_logits(model, images), targets, activation)
