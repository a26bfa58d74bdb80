"""The worst and the newly wrong samples of a validation, by the logits of its own steps: `SESSCallback(follow=)`.

They are found in all batches of a loader, and shown beside the random samples. No number is measured on them: samples
that were chosen for being hard would make every number worse than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sess_lightning.callback.cost import Timed
from sess_lightning.callback.explainer import Explained, Place
from sess_lightning.callback.sample_checks import finite_images
from sess_lightning.labels import UNKNOWN, known_labels
from sess_lightning.logits import class_logits, log_scores, predicted_classes
from sess_lightning.samples import Samples

RANDOM, WORST, NEW_ERRORS = "random", "worst", "new_errors"
_FOLLOW = (RANDOM, WORST, NEW_ERRORS)
_GRID = 9  # rows and columns of pixels that an image is known by


def checked_follow(follow: str | Sequence[str]) -> tuple[str, ...]:
    """The argument `follow` as a tuple, without repetitions.

    Raises:
        ValueError: unless it is one or several of the kinds, `"random"` among them.
    """
    kinds = (follow,) if isinstance(follow, str) else follow
    known = isinstance(kinds, (tuple, list)) and all(kind in _FOLLOW for kind in kinds)
    if not known or RANDOM not in kinds:
        raise ValueError(
            f"Expected argument `follow` to be kinds of samples out of {', '.join(map(repr, _FOLLOW))}, with "
            f"'random' among them, which the numbers are measured on, but got {follow!r}."
        )
    return tuple(dict.fromkeys(kinds))


class Outcomes(NamedTuple):
    """What a step made of the samples of its batch, `(N,)` each.

    Attributes:
        losses: cross entropy of the label; with `activation="sigmoid"`, or one logit, the binary one of its class.
        wrong: whether another class is predicted; with `"sigmoid"`, whether that class has at most one half.
        known: False where the label is unknown or none of the model's classes, which then have no loss.
    """

    losses: Tensor
    wrong: Tensor
    known: Tensor


def outcomes(logits: Tensor, labels: Tensor, activation: str) -> Outcomes:
    """Losses and errors by logits `(N, K)`, computed in float32, and labels `(N,)`, negative where unknown.

    A loss that is not a number counts as infinite: nothing is worse.

    Example:
        >>> outcomes(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), torch.tensor([1, 0]), "softmax").losses
        tensor([0.1269, 2.1269])
    """
    with torch.no_grad():
        labels = known_labels(labels.to(logits.device), logits.shape[1])
        known = (labels != UNKNOWN) & (labels < max(logits.shape[1], 2))
        classes = labels.where(known, torch.zeros_like(labels))
        losses = -log_scores(logits, classes, activation)
        several = activation == "sigmoid" and logits.shape[1] > 1
        wrong = class_logits(logits, classes) <= 0 if several else predicted_classes(logits) != classes
        return Outcomes(losses.nan_to_num(nan=torch.inf, posinf=torch.inf), wrong | losses.isnan(), known)


def fingerprints(images: Tensor | Sequence[Tensor]) -> list[int]:
    """A number for each image by some of its pixels, bit for bit: the same image has the same, wherever it comes.

    A few hundred pixels on a grid, since all of them would have to be read for every sample of every validation.
    """
    batches = [images] if isinstance(images, Tensor) else [image[None] for image in images]
    return [hash((tuple(batch.shape[1:]), row.tobytes())) for batch in batches for row in _grid(batch).numpy()]


def _grid(images: Tensor) -> Tensor:
    steps = [max(1, side // _GRID) for side in images.shape[2:]]
    return images.detach()[:, :, :: steps[0], :: steps[1]].float().cpu()


@dataclass
class NotableSample:
    """A sample out of a batch, on the CPU.

    Attributes:
        place: process, batch, position in the batch.
        loss: in this validation.
        samples: itself alone.
        row: with `forward_fn`, what `batch_row` took of its batch.
    """

    place: Place
    loss: float
    samples: Samples
    row: Any = None

    @property
    def order(self) -> tuple[float, Place]:
        """The highest loss comes first; of equal ones the first of the loader."""
        return -self.loss, self.place


class Step(NamedTuple):
    """A batch whose step has ended.

    Attributes:
        batch_idx: its number.
        samples: copies of what came, before the step could change it.
        outcomes: of the step.
        prints: of the images, see `fingerprints`; empty where they are not asked for.
        row: gives what `batch_row` takes of the batch for a position.
    """

    batch_idx: int
    samples: Samples
    outcomes: Outcomes
    prints: list[int]
    row: Callable[[int], Any]


class NotableSamples(Timed):
    """The notable samples of one loader on one process.

    Args:
        kinds: out of `WORST` and `NEW_ERRORS`.
        count: samples kept of each kind, which bounds the memory.
        rank: of this process.

    Attributes:
        found: by kind, the samples of this validation, the highest loss first.
        explained: their results, by place, once they are explained.
        seconds: what they took in this validation.
        unknown: no sample of this validation has the pixels of one of the last.
    """

    def __init__(self, kinds: Collection[str], count: int, rank: int) -> None:
        self.kinds, self.count, self.rank = tuple(kinds), count, rank
        self._before: dict[int, bool] = {}  # by fingerprint: right in the last validation that ended well
        self.begin()

    def begin(self) -> None:
        """Start a validation."""
        self.found: dict[str, list[NotableSample]] = {kind: [] for kind in self.kinds}
        self.explained: dict[Place, Explained] = {}
        self.seconds = 0.0
        self._now: dict[int, bool] = {}

    def end(self) -> None:
        """End a validation that went well: the next is compared with it."""
        if self._now:
            self._before = self._now
        self.begin()

    @property
    def unknown(self) -> bool:  # noqa: D102
        return bool(self._before) and bool(self._now) and self._before.keys().isdisjoint(self._now)

    def add(self, step: Step, keep: bool = True) -> None:
        """Take the samples of a batch that are among the worst until now; else only note which are right."""
        losses, wrong, known = (one.tolist() for one in step.outcomes)
        numbers = [i for i, there in enumerate(known) if there]
        if WORST in self.kinds and keep:
            self._keep(WORST, step, numbers, losses)
        if NEW_ERRORS in self.kinds:
            new = [i for i in numbers if keep and wrong[i] and self._before.get(step.prints[i], False)]
            self._keep(NEW_ERRORS, step, new, losses)
            self._now |= {step.prints[i]: not wrong[i] for i in numbers}

    def _keep(self, kind: str, step: Step, numbers: list[int], losses: list[float]) -> None:
        kept = self.found[kind]
        for i in sorted(numbers, key=lambda i: (-losses[i], i))[: self.count]:
            place = self.rank, step.batch_idx, i
            if len(kept) >= self.count and (-losses[i], place) > kept[-1].order:
                break
            if finite_images(step.samples, [i]):
                kept.append(NotableSample(place, losses[i], step.samples.select([i]), step.row(i)))
                kept.sort(key=lambda one: one.order)
                del kept[self.count :]

    def waiting(self) -> list[NotableSample]:
        """The samples that are not explained yet, each once: the worst, then the first new error, and so on."""
        places: dict[Place, NotableSample] = {}
        for number in range(self.count):
            for several in self.found.values():
                for one in several[number : number + 1]:
                    places.setdefault(one.place, one)
        return [one for place, one in places.items() if place not in self.explained]

    def share(self) -> NotablePart:
        """What this process tells the others."""
        lists = {
            kind: [(one.loss, one.place) for one in several if one.place in self.explained]
            for kind, several in self.found.items()
        }
        return NotablePart(lists, dict(self.explained))


class NotablePart(NamedTuple):
    """What one process has found of a loader.

    Attributes:
        losses: by kind, loss and place of its samples, the highest first.
        explained: results of one sample by its place.
    """

    losses: dict[str, list[tuple[float, Place]]]
    explained: dict[Place, Explained]


@dataclass
class Notable:
    """The notable samples of a loader over all processes, the highest loss first.

    Attributes:
        losses: by kind.
        found: by kind, as many results.
    """

    losses: dict[str, list[float]] = field(default_factory=dict)
    found: dict[str, Explained] = field(default_factory=dict)


def merged(parts: Iterable[NotablePart], count: int) -> Notable:
    """Of each kind the `count` samples with the highest losses of all processes."""
    parts, whole = list(parts), Notable()
    explained = {place: one for part in parts for place, one in part.explained.items()}
    for kind in dict.fromkeys(kind for part in parts for kind in part.losses):
        ordered = sorted((-loss, place) for part in parts for loss, place in part.losses.get(kind, ()))[:count]
        whole.losses[kind] = [-negative for negative, _ in ordered]
        whole.found[kind] = Explained.joined([explained[place] for _, place in ordered])
    return whole
