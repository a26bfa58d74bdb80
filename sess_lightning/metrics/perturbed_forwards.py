"""The forwards behind a perturbation curve: which images go through the model, in which batches and layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from sess_lightning.forwarding import model_logits
from sess_lightning.logits import check_targets, class_scores, read_logits
from sess_lightning.memory import BatchLimit, is_out_of_memory
from sess_lightning.metrics.baselines import BaselineChoice

Perturbed = Callable[[Tensor, Tensor], Tensor]
"""From numbers of images `(N,)` and masks of their changed pixels `(N, H, W)` to images `(N, C, H, W)`."""


@torch.no_grad()
def perturbed_by(choice: BaselineChoice, images: Tensor, numbers: list[int], count: int, mode: str) -> Perturbed:
    """Returns what makes the images of a curve from images `(N, C, H, W)`, of the indices `numbers` among `count`."""
    imputation = choice.imputation
    if imputation is not None:

        def imputed(image: Tensor, changed: Tensor) -> Tensor:
            return imputation.impute(images[image], changed if mode == "deletion" else ~changed).to(images)

        return imputed
    other = choice.of(images, numbers, count).contiguous(memory_format=torch.channels_last)
    start, finish = (other, images) if mode == "insertion" else (images, other)
    return lambda image, changed: torch.where(changed[:, None], finish[image], start[image])


@torch.no_grad()
def curves_of(
    predict: Callable[[Tensor], Any],
    perturbed: Perturbed,
    rank: Tensor,
    per_step: int,
    targets: Tensor,
    activation: str | None,
    batch_size: int,
    limit: BatchLimit,
) -> Tensor:
    """Returns curves `(N, n + 1)` of images that change in the order of their pixels' `rank` `(N, H, W)`, 0 first."""
    points = -(-rank[0].numel() // per_step) + 1
    predict_logits = Predict(predict, gives_logits=activation is not None)
    scores: list[Tensor] = []
    done = 0

    def next_scores(size: int) -> Tensor:
        # Job number = image * points + step, so a batch may hold steps of several images.
        job = torch.arange(done, min(done + size, len(rank) * points), device=rank.device)
        image, step = job // points, job % points
        changed = rank[image] < (step * per_step)[:, None, None]
        logits = predict_logits(perturbed(image, changed))
        if done == 0:
            check_targets(targets, len(targets), logits.shape[1])
        return class_scores(logits, targets[image].to(logits.device), activation)

    while done < len(rank) * points:
        scores.append(limit.run(next_scores, batch_size))
        done += len(scores[-1])
    return torch.cat(scores).view(-1, points)


def new_limit(who: str) -> BatchLimit:
    """Returns what remembers how many images fit into memory; `who` halves the batches, in its warning."""
    return BatchLimit(who, "Pass a smaller batch_size from the start.")


class Predict:
    """`predict`, given batches in a layout that it accepts, and its rows checked."""

    def __init__(self, predict: Callable[[Tensor], Any], gives_logits: bool) -> None:
        self._predict = predict
        self._is_classifier = isinstance(predict, nn.Module) and gives_logits
        self._layout: torch.memory_format | None = None  # not known yet

    def __call__(self, images: Tensor) -> Tensor:
        """Returns the logits `(N, K)` of images `(N, C, H, W)`."""
        if self._is_classifier:
            return model_logits(cast(nn.Module, self._predict), images)
        if self._layout is None:  # of a function nothing is known: whether it fails only in channels_last
            try:
                logits = self._logits(images.clone(), torch.channels_last)
                self._layout = torch.channels_last
            except RuntimeError as error:
                if is_out_of_memory(error):
                    raise
                logits = self._logits(images, torch.contiguous_format)
                self._layout = torch.contiguous_format
            return logits
        return self._logits(images, self._layout)

    def _logits(self, images: Tensor, layout: torch.memory_format) -> Tensor:
        output = self._predict(images.contiguous(memory_format=layout))
        logits = read_logits(output, count=1 if len(images) == 1 else None)
        if len(logits) != len(images):
            raise ValueError(
                f"Expected `predict` to return logits for {len(images)} images, but got {len(logits)} rows."
            )
        return logits
