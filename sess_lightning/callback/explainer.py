"""Explain some samples with SESS and with its base method alone, on the device of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sess_lightning.callback.cost import BASE_MAPS, MAPS, Cost
from sess_lightning.checks import check_images
from sess_lightning.labels import UNKNOWN, known_labels
from sess_lightning.layers import Reshape
from sess_lightning.logits import check_targets, class_scores, predicted_classes
from sess_lightning.pixels import resize
from sess_lightning.saliency.target_layer import with_target_layer
from sess_lightning.samples import Samples
from sess_lightning.sess import SESS
from sess_lightning.sess.base_maps import base_maps

TargetRule = Callable[[Samples, Tensor], Tensor]
Place = tuple[int, int, int]


@dataclass
class Explained:
    """Samples with their maps, classes and hits; every field has one entry a sample.

    Attributes:
        images: the samples' images, `(C, H, W)` each.
        labels: `(B,)` long, -1 where unknown.
        objects: detection targets of the samples, `None` where a sample has none.
        maps: SESS maps `(H, W)` in [0, 1].
        base_maps: maps of the base method alone on the whole image, resized to the image; empty if not compared.
        targets: `(B,)` long, the classes explained.
        predictions: `(B,)` long.
        scores: `(B,)` probability of the explained class for the whole image squashed to the window.
        valid: `(B,)` bool, False where a map was constant or not finite.
        base_valid: the same for the base maps.
        second_maps: SESS map of a second class where one was explained, see `second_classes`; `None` elsewhere.
        hits: whether the peak of the SESS map counts as a hit, as `HitRule` says; `None` where it counts as neither.
        base_hits: the same for the base maps; empty if not compared.
        places: process, batch and position in the batch of each sample, counted from 0.
        patch_scores: `(P,)` probability of the explained class for each window, as `SESSResult.scores`.
        windows: `(P, 6)` int, those windows, as `SESSResult.windows`.
    """

    images: list[Tensor] = field(default_factory=list)
    labels: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    objects: list[dict[str, Tensor] | None] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)
    base_maps: list[Tensor] = field(default_factory=list)
    targets: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    predictions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    scores: Tensor = field(default_factory=lambda: torch.empty(0))
    valid: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    base_valid: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.bool))
    second_maps: list[Tensor | None] = field(default_factory=list)
    hits: list[bool | None] = field(default_factory=list)
    base_hits: list[bool | None] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    patch_scores: list[Tensor] = field(default_factory=list)
    windows: list[Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.maps)

    @classmethod
    def joined(cls, parts: Sequence[Explained]) -> Explained:
        """Returns the results of all parts, on the CPU."""
        whole = cls()
        for name, empty in vars(whole).items():
            values = [getattr(part, name) for part in parts]
            if isinstance(empty, Tensor):
                setattr(whole, name, torch.cat([empty, *(value.cpu() for value in values)]))
            else:
                setattr(whole, name, [_on_host(item) for value in values for item in value])
        return whole

    def part(self, begin: int, end: int) -> Explained:
        """Returns the results of the samples `begin` to `end - 1`."""
        return Explained(**{name: value[begin:end] for name, value in vars(self).items()})


def second_classes(targets: Tensor, labels: Tensor, predictions: Tensor) -> Tensor:
    """Second class to explain where the model is wrong: the prediction, or the label if the target is the prediction.

    Returns:
        `(B,)` long, -1 where the prediction is right or the label unknown.

    Example:
        >>> second_classes(torch.tensor([1, 1, 2, 2]), torch.tensor([1, 1, 1, -1]), torch.tensor([1, 2, 2, 2]))
        tensor([-1,  2,  1, -1])
    """
    other = torch.where(predictions != targets, predictions, labels)
    return torch.where((labels < 0) | (labels == predictions), -1, other)


def interleaved(parts: Sequence[Explained]) -> Explained:
    """Merge the results of several processes in turn: the first sample of each, the second of each, and so on."""
    longest = max(map(len, parts))
    return Explained.joined([one.part(number, number + 1) for number in range(longest) for one in parts])


def on_layer(sess: SESS, target_layer: str | nn.Module | None, reshape: Reshape | None) -> SESS:
    """The same SESS whose base method reads another layer; the one given is left as it is.

    Raises:
        ValueError: if the method reads no layer.
    """
    if target_layer is None and reshape is None:
        return sess
    other = copy(sess)
    other.method = with_target_layer(sess.method, target_layer, reshape)
    return other


class Explainer:
    """Explains samples: which class, the SESS map, the map of the base method alone.

    Args:
        sess: the algorithm with its options.
        compare_base: also run the base method alone on the whole image.
        target: `"label"` (the predicted class where there is no label), `"predicted"`, or a function
            `(samples, logits) -> targets`.
        cost: takes note of the time.
    """

    def __init__(self, sess: SESS, compare_base: bool, target: str | TargetRule, cost: Cost | None = None) -> None:
        self.sess, self.compare_base, self.target, self.cost = sess, compare_base, target, cost or Cost()

    def __call__(self, model: nn.Module, samples: Samples, second: int = 0) -> tuple[Explained, Tensor]:
        """Explain samples that lie on the model's device.

        Args:
            model: any classifier.
            samples: what to explain.
            second: number of samples, from the first on, whose second class is explained too, if they have one.

        Returns:
            The results, on the model's device, and the whole images squashed to the window `(B, C, h, w)`.
        """
        images = check_images(samples.images)
        window = self.sess.window_for(images)
        squashed = torch.cat([resize(image[None], window) for image in images])
        logits = self.sess.whole_image_logits(model, images, window)
        if samples.labels is not None:
            samples = replace(samples, labels=known_labels(samples.labels.to(logits.device), logits.shape[1]))
        targets = self._targets(samples, logits)
        with self.cost.timed(MAPS):
            result = self.sess(model, images, targets)
        found = Explained(
            images=images,
            labels=_labels(samples, targets),
            objects=list(samples.objects) if samples.objects is not None else [None] * len(images),
            maps=list(result.maps),
            targets=targets,
            predictions=predicted_classes(logits),
            scores=class_scores(logits, targets, self.sess.activation).float(),
            valid=result.valid,
            patch_scores=list(result.scores),
            windows=list(result.windows),
        )
        if self.compare_base:
            with self.cost.timed(BASE_MAPS):
                found.base_maps, found.base_valid = base_maps(self.sess, model, squashed, targets, images)
        found.second_maps = self._second_maps(model, found, second, logits.shape[1])
        return found, squashed

    def _second_maps(self, model: nn.Module, found: Explained, count: int, num_classes: int) -> list[Tensor | None]:
        """Returns the SESS maps of the second classes of the first `count` samples; `None` where there is none.

        With `target="predicted"` a label may lie outside the model's classes; such a label is not explained.
        """
        classes = second_classes(found.targets, found.labels, found.predictions)
        wrong = [i for i, other in enumerate(classes[:count].tolist()) if 0 <= other < num_classes]
        maps: list[Tensor | None] = [None] * len(found)
        if wrong:
            with self.cost.timed(MAPS):
                result = self.sess(model, [found.images[i] for i in wrong], classes[wrong])
            for i, saliency in zip(wrong, result.maps, strict=True):
                maps[i] = saliency
        return maps

    def _targets(self, samples: Samples, logits: Tensor) -> Tensor:
        predicted = predicted_classes(logits)
        if callable(self.target):
            targets = self.target(samples, logits)
        elif self.target == "predicted" or samples.labels is None:
            targets = predicted
        else:
            targets = torch.where(samples.labels == UNKNOWN, predicted, samples.labels)
        return check_targets(targets, len(logits), logits.shape[1]).to(logits.device)


def _labels(samples: Samples, targets: Tensor) -> Tensor:
    return torch.full_like(targets, -1) if samples.labels is None else samples.labels.to(targets.device)


def _on_host(item: Any) -> Any:
    """Move a tensor, or the tensors of a detection target, to the CPU; anything else is returned unchanged."""
    if isinstance(item, dict):
        return {name: _on_host(value) for name, value in item.items()}
    return item.cpu() if isinstance(item, Tensor) else item
