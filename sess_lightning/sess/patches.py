"""All patches of all images through the model in one stream of batches (Algorithm 1, lines 10, 11 and 13).

Patches are built lazily from the scaled images and results leave image by image, so the memory is bounded by one batch
and the maps of one image. Nothing here waits for the device: what the host must know is computed before the stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sess_lightning.logits import check_targets, class_scores, read_logits
from sess_lightning.probing import default_batch_size, empty_batch
from sess_lightning.saliency.base import Method, explain
from sess_lightning.sess.windows import Window, iter_patches


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

    def scores(self) -> list[Tensor]:
        """Probability of the class for every patch, one `(P,)` an image (lines 10-11)."""
        scores = []
        for number, (patches, targets) in enumerate(self._stream()):
            logits = read_logits(self.model(patches))
            if number == 0:
                self._check_range(logits)
            scores.append(class_scores(logits, targets, self.activation))
        torch.clear_autocast_cache()  # weights cast without a graph must not serve the forwards that need one
        return list(torch.cat(scores).split([len(w) for w in self.windows]))

    def explanations(self, method: Method) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Of each image, in turn, the maps `(P, h, w)` and, if the method gives logits, the scores `(P,)` (line 13)."""
        return _by_image(self._explained(method), [len(w) for w in self.windows])

    def _explained(self, method: Method) -> Iterator[tuple[Tensor, Tensor | None]]:
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
            yield explanation.maps, class_scores(logits, targets, self.activation)

    def _check_range(self, logits: Tensor) -> None:
        check_targets(self.targets, len(self.targets), logits.shape[1])

    def _stream(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of patches `(n, C, h, w)` in channels_last, and the class of each `(n,)`."""
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
                    batch = empty_batch(min(size, len(classes) - done), patch, shape)
                batch[filled] = patch
                filled += 1
                if filled == len(batch):
                    yield batch, classes[done : done + filled]
                    done += filled
                    filled, batch = 0, None


def _by_image(
    chunks: Iterable[tuple[Tensor, Tensor | None]], counts: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Regroup the results of batches into those of images with `counts` patches each."""
    wanted = iter(counts)
    missing = next(wanted)
    maps: list[Tensor] = []
    scores: list[Tensor] = []
    for chunk_maps, chunk_scores in chunks:
        begin = 0
        while begin < len(chunk_maps):
            part = slice(begin, begin + missing)
            maps.append(chunk_maps[part])
            if chunk_scores is not None:
                scores.append(chunk_scores[part])
            begin += len(maps[-1])
            missing -= len(maps[-1])
            if missing == 0:
                yield torch.cat(maps), torch.cat(scores) if scores else None
                maps, scores = [], []
                missing = next(wanted, 0)
