"""Explain some samples with SESS and with its base method alone, on the device of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sess_lightning.checks import check_images
from sess_lightning.fusion import minmax, normalised_maps
from sess_lightning.outputs import check_targets, class_scores, predicted_classes
from sess_lightning.probing import default_batch_size, model_device, probe
from sess_lightning.saliency.explanation import explain
from sess_lightning.samples import Samples
from sess_lightning.sess import SESS
from sess_lightning.windows import resize

TargetRule = Callable[[Samples, Tensor], Tensor]


@dataclass
class Explained:
    """Samples and what was found about them, sample by sample.

    Attributes:
        images: the samples' images, `(C, H, W)` each.
        labels: `(B,)` long, -1 where unknown.
        objects: detection targets of the samples, `None` where a sample has none.
        maps: SESS maps `(H, W)` in [0, 1].
        base_maps: maps of the base method alone on the whole image, brought to the image's size; empty if not compared.
        targets: `(B,)` long, the classes explained.
        predictions: `(B,)` long.
        scores: `(B,)` probability of the explained class for the whole image squashed to the window.
        valid: `(B,)` bool, False where a map was constant or not finite.
        base_valid: the same for the base maps.
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

    def __len__(self) -> int:
        return len(self.maps)

    def extend(self, other: Explained) -> None:
        """Append what was found about further samples, on the CPU."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if isinstance(value, Tensor):
                setattr(self, name, torch.cat([mine, value.cpu()]))
            else:
                mine.extend(item.cpu() if isinstance(item, Tensor) else item for item in value)

    def part(self, begin: int, end: int) -> Explained:
        """What was found about some of the samples."""
        return Explained(**{name: value[begin:end] for name, value in vars(self).items()})


def interleaved(parts: Sequence[Explained]) -> Explained:
    """What several processes found, in turn: the first sample of each, the second of each, and so on."""
    merged = Explained()
    for number in range(max(map(len, parts))):
        for one in parts:
            merged.extend(one.part(number, number + 1))
    return merged


def in_smaller_batches(sess: SESS, images: Sequence[Tensor], device: torch.device) -> SESS:
    """The same SESS with half the patches per forward; the one given is left as it is."""
    smaller = copy(sess)
    smaller.batch_size = max(1, (sess.batch_size or default_batch_size(device, sess.window_for(images))) // 2)
    return smaller


class Explainer:
    """Explains samples: which class, the SESS map, the map of the base method alone.

    Args:
        sess: the algorithm with its options.
        compare_base: also run the base method alone on the whole image.
        target: `"label"` (the predicted class where there is no label), `"predicted"`, or a function
            `(samples, logits) -> targets`.
    """

    def __init__(self, sess: SESS, compare_base: bool, target: str | TargetRule) -> None:
        self.sess, self.compare_base, self.target = sess, compare_base, target

    def __call__(self, model: nn.Module, samples: Samples) -> tuple[Explained, Tensor]:
        """Explain samples that lie on the model's device.

        Returns:
            What was found, on the model's device, and the whole images squashed to the window `(B, C, h, w)`.
        """
        images = check_images(samples.images)
        window = self.sess.window_for(images)
        squashed = torch.cat([resize(image[None], window) for image in images])
        logits = self.sess.whole_image_logits(model, images, window)
        targets = self._targets(samples, logits)
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
        )
        if self.compare_base:
            found.base_maps, found.base_valid = self.base_maps(model, squashed, targets, images)
        return found, squashed

    def _targets(self, samples: Samples, logits: Tensor) -> Tensor:
        predicted = predicted_classes(logits)
        if callable(self.target):
            targets = self.target(samples, logits)
        elif self.target == "predicted" or samples.labels is None:
            targets = predicted
        else:
            labels = samples.labels.to(logits.device)
            targets = torch.where(labels == -1, predicted, labels)
        return check_targets(targets, len(logits), logits.shape[1]).to(logits.device)

    def base_maps(
        self, model: nn.Module, squashed: Tensor, targets: Tensor, images: list[Tensor]
    ) -> tuple[list[Tensor], Tensor]:
        """The base method alone on the whole image, brought to the image's size in [0, 1], and which maps are valid.

        Args:
            model: any classifier.
            squashed: the whole images squashed to the window, `(B, C, h, w)`, on the model's device.
            targets: `(B,)` long.
            images: the images themselves, `(C, H, W)` each.
        """
        window = (squashed.shape[-2], squashed.shape[-1])
        count = self.sess.batch_size or default_batch_size(model_device(model, squashed.device), window)
        with probe(model):
            parts = zip(squashed.split(count), targets.split(count), strict=True)
            maps = torch.cat([explain(self.sess.method, model, part, classes).maps for part, classes in parts])
        valid = minmax(maps)[1]
        resized = [
            F.interpolate(m[None, None], size=image.shape[-2:], mode="bilinear", align_corners=False)[0, 0]
            for m, image in zip(normalised_maps(maps, window), images, strict=True)
        ]
        return resized, valid


def _labels(samples: Samples, targets: Tensor) -> Tensor:
    return torch.full_like(targets, -1) if samples.labels is None else samples.labels.to(targets.device)
