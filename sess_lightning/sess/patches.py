"""All patches of all images through the model in one stream of batches (Algorithm 1, lines 10, 11 and 13).

Patches are built lazily from the scaled images and results leave image by image, so the memory is bounded by one batch
and the maps of one image. Nothing here waits for the device: what the host must know is computed before the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sess_lightning.forwarding import empty_batch, memory_format, model_logits
from sess_lightning.logits import check_targets, class_scores, log_scores
from sess_lightning.probing import default_batch_size
from sess_lightning.saliency.base import Method, explain
from sess_lightning.sess.windows import Window, iter_patches


class Scores(NamedTuple):
    """What the model makes of patches."""

    probability: Tensor  # (P,) of the class
    logarithm: Tensor  # (P,) of that, finite also where it rounds to 0


@dataclass
class Patches:
    """The windows of some images, to be scored or explained.

    Args:
        model: under a probe.
        images: each `(C, H, W)`.
        windows: of each image, in extraction order; at least one each.
        targets: `(B,)` long, on the model's device: the class of each image.
        activation: `"softmax"` or `"sigmoid"`: how logits become the score of a class.
        batch_size: patches per forward; `None`: the device's default.
    """

    model: nn.Module
    images: Sequence[Tensor]
    windows: Sequence[Sequence[Window]]
    targets: Tensor
    activation: str
    batch_size: int | None

    def scores(self) -> list[Scores]:
        """Scores of the class for every patch, image by image (lines 10-11)."""
        scores = []
        for number, (patches, targets) in enumerate(self._stream()):
            logits = model_logits(self.model, patches)
            if number == 0:
                self._check_range(logits)
            scores.append(self._scores(logits, targets))
        torch.clear_autocast_cache()  # weights cast without a graph must not serve the forwards that need one
        parts = (torch.cat(part).split([len(w) for w in self.windows]) for part in zip(*scores, strict=True))
        return [Scores(*pair) for pair in zip(*parts, strict=True)]

    def explanations(self, method: Method) -> Iterator[tuple[Tensor, Scores | None]]:
        """Yields, image by image, the maps `(P, h, w)` and, if the method gives logits, the scores (line 13)."""
        return _by_image(self._explained(method), [len(w) for w in self.windows])

    def _explained(self, method: Method) -> Iterator[tuple[Tensor, Scores | None]]:
        for number, (patches, targets) in enumerate(self._stream()):
            explanation = explain(method, self.model, patches, targets, checked=number > 0)
            logits = explanation.logits
            if logits is None:
                if getattr(method, "single_pass", False):
                    raise ValueError(
                        f"Expected the base method {method!r} to return logits, as it says single_pass = True. "
                        "Return Explanation(maps, logits), or set single_pass = False."
                    )
                yield explanation.maps, None
                continue
            if number == 0:
                self._check_range(logits)
            yield explanation.maps, self._scores(logits, targets)

    def _scores(self, logits: Tensor, targets: Tensor) -> Scores:
        return Scores(*(function(logits, targets, self.activation) for function in (class_scores, log_scores)))

    def _check_range(self, logits: Tensor) -> None:
        check_targets(self.targets, len(self.targets), logits.shape[1])

    def _stream(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of patches `(n, C, h, w)` in a layout that the model accepts, and the class of each `(n,)`.

        Each batch is new, so it does no harm if the model writes to it.
        """
        device = self.targets.device
        counts = [len(w) for w in self.windows]
        classes = self.targets.repeat_interleave(torch.tensor(counts).to(device), output_size=sum(counts))
        window = self.windows[0][0]
        shape = (window.y2 - window.y1, window.x2 - window.x1)
        size = self.batch_size or default_batch_size(device, shape)
        done = filled = 0
        batch: Tensor | None = None
        for image, windows in zip(self.images, self.windows, strict=True):
            for patch in iter_patches(image.to(device), windows):
                if batch is None:
                    layout = memory_format(self.model, patch[None])
                    batch = empty_batch(min(size, len(classes) - done), patch, layout)
                batch[filled] = patch
                filled += 1
                if filled == len(batch):
                    yield batch, classes[done : done + filled]
                    done += filled
                    filled, batch = 0, None


def _by_image(
    chunks: Iterable[tuple[Tensor, Scores | None]], counts: Sequence[int]
) -> Iterator[tuple[Tensor, Scores | None]]:
    """Regroup the results of batches into those of images with `counts` patches each."""
    wanted = iter(counts)
    missing = next(wanted)
    maps: list[Tensor] = []
    scores: list[Scores] = []
    for chunk_maps, chunk_scores in chunks:
        begin = 0
        while begin < len(chunk_maps):
            part = slice(begin, begin + missing)
            maps.append(chunk_maps[part])
            if chunk_scores is not None:
                scores.append(Scores(*(values[part] for values in chunk_scores)))
            begin += len(maps[-1])
            missing -= len(maps[-1])
            if missing == 0:
                yield torch.cat(maps), Scores(*map(torch.cat, zip(*scores, strict=True))) if scores else None
                maps, scores = [], []
                missing = next(wanted, 0)
