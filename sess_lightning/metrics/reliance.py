"""What a classifier's probability rests on: the objects of the class, or what lies around them. No saliency is needed.

A saliency map tells where a network looks; this tells what happens when that is taken away.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from sess_lightning.logits import Activation, check_targets, class_scores
from sess_lightning.metrics.base import SaliencyMetric
from sess_lightning.metrics.objects import Objects, boxes_to_mask, class_objects, mask_boxes
from sess_lightning.metrics.perturbed_forwards import Predict, new_limit
from sess_lightning.metrics.saliency_input import check_same_count
from sess_lightning.probing import default_batch_size

_RING = 0.1  # width of an object's surroundings as a share of the image's shorter side


def without_objects(image: Tensor, region: Tensor) -> Tensor:
    """Returns an image whose objects are replaced by the mean of their surroundings.

    Args:
        image: `(C, H, W)`.
        region: `(H, W)` bool, the pixels of the objects.

    Returns:
        `(C, H, W)`: inside `region` the mean of each channel over a ring of a tenth of the shorter side around it;
        over the whole image where the objects leave nothing else.

    Example:
        >>> without_objects(torch.tensor([[[9.0, 1.0, 3.0]]]), torch.tensor([[True, False, False]]))
        tensor([[[1., 1., 3.]]])
    """
    width = max(1, round(_RING * min(region.shape)))
    near = F.max_pool2d(region[None, None].float(), 2 * width + 1, stride=1, padding=width)[0, 0] > 0
    ring = near & ~region
    around = image[:, ring] if ring.any() else image.flatten(1)
    return torch.where(region, around.mean(1)[:, None, None], image)


def without_background(image: Tensor, region: Tensor) -> Tensor:
    """Returns an image of which only the objects are left, on 0: the mean colour where images are normalised.

    The mean of the image's own background would keep its tint, which may be what the network goes by.

    Args:
        image: `(C, H, W)`.
        region: `(H, W)` bool, the pixels of the objects.

    Example:
        >>> without_background(torch.tensor([[[9.0, 1.0, 3.0]]]), torch.tensor([[True, False, False]]))
        tensor([[[9., 0., 0.]]])
    """
    return torch.where(region, image, torch.zeros((), dtype=image.dtype, device=image.device))


class RelianceMetric(SaliencyMetric):
    """Base of the two metrics: the mean loss of probability of the class where a part of the image is replaced.

    Attributes:
        last_values: `(B,)`, the values of the last update's samples, NaN for those that count for none; no state.
    """

    state: ClassVar[str]
    higher_is_better = None
    plot_lower_bound = -1.0

    def __init__(self, activation: Activation | None = "softmax", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.activation = activation
        self._limit = new_limit(type(self).__name__)
        self.last_values = torch.empty(0)
        self._add_sum(f"{self.state}_sum")
        self._add_count(f"{self.state}_total")
        self._add_count(f"{self.state}_skipped")

    @property
    def skipped(self) -> int:
        """Number of samples left out on this process since the last reset: without an object of their class."""
        return int(getattr(self, f"{self.state}_skipped"))

    @staticmethod
    @abstractmethod
    def _changed(image: Tensor, region: Tensor) -> Tensor:
        """Returns the image `(C, H, W)` with a part replaced."""

    @torch.no_grad()
    def update(
        self,
        predict: Callable[[Tensor], Any],
        images: Tensor | Sequence[Tensor],
        targets: Tensor,
        objects: Sequence[Objects | None] | None,
        saliency: Sequence[Tensor] | Tensor | None = None,
        scores: Tensor | None = None,
    ) -> None:
        """Measure further samples.

        Args:
            predict: function from images to logits `(N, K)`, in eval mode.
            images: `(B, C, H, W)`, or a list of `(C, H, W)`, normalised.
            targets: `(B,)` long, the class of each sample.
            objects: as for `PointingGame`, in pixels of the maps, or of `images` where none are given. All objects of
                the class count by their boxes: the outline of a mask would still tell the shape.
            saliency: maps `(B, h, w)` or a list; only their sizes are read.
            scores: `(B,)`, probabilities of the classes for `images`, which are computed where they are not given.

        Raises:
            ValueError: naming the argument, what was expected and what came.
        """
        targets = check_targets(targets, len(images))
        check_same_count("objects", len(images if objects is None else objects), len(images))
        sizes = [one.shape[-2:] for one in (images if saliency is None else saliency)]
        check_same_count("saliency", len(sizes), len(images))
        samples = objects or [None] * len(images)
        regions = [
            _region(samples[number], int(targets[number]), tuple(sizes[number]), image, number)
            for number, image in enumerate(images)
        ]
        judged = [number for number, region in enumerate(regions) if region is not None]
        values = torch.full((len(images),), torch.nan, dtype=torch.float32)
        if judged:
            logits = Predict(predict, gives_logits=self.activation is not None)
            plain = [images[number] for number in judged]
            pairs = zip(images, regions, strict=True)
            changed = [self._changed(image, region) for image, region in pairs if region is not None]
            given = self._scores(logits, plain, targets[judged]) if scores is None else scores[judged].float().cpu()
            values[judged] = given - self._scores(logits, changed, targets[judged])
        self.last_values = values
        counted = torch.isfinite(values)
        self._increase(f"{self.state}_sum", values.nan_to_num(0.0, 0.0, 0.0).sum())
        self._increase(f"{self.state}_total", counted.sum())
        self._increase(f"{self.state}_skipped", (~counted).sum())

    def _scores(self, logits: Predict, images: Sequence[Tensor], targets: Tensor) -> Tensor:
        """Probabilities `(N,)` on the CPU: a few images at a time, those of one size together."""

        def work(most: int) -> Tensor:
            found, begin = [], 0
            while begin < len(images):
                end = begin + 1
                while end < min(begin + most, len(images)) and images[end].shape == images[begin].shape:
                    end += 1
                output = logits(torch.stack(list(images[begin:end])))
                rows = check_targets(targets[begin:end], end - begin, output.shape[1]).to(output.device)
                found.append(class_scores(output, rows, self.activation).float().cpu())
                begin = end
            return torch.cat(found)

        size = (images[0].shape[-2], images[0].shape[-1])
        return self._limit.run(work, default_batch_size(images[0].device, size))

    def compute(self) -> Tensor:
        """Returns the mean loss of probability; NaN where no sample counted."""
        mean: Tensor = getattr(self, f"{self.state}_sum") / getattr(self, f"{self.state}_total")
        return mean


class ObjectReliance(RelianceMetric):
    """How much of the probability of the class is lost where the mean of their surroundings replaces its objects.

    Near the probability itself for a network that goes by the objects; near 0 for one that goes by something else.
    Takes `update(predict, images, targets, objects)`; see there.

    As output of `compute` and `forward`: a scalar in [-1, 1], the mean over samples with an object of their class; NaN
    where there is none.

    Args:
        activation: `"softmax"`, `"sigmoid"`, or `None` where `predict` gives probabilities.
        kwargs: those of `torchmetrics.Metric`.

    Source: after Xiao et al., "Noise or Signal: The Role of Image Backgrounds in Object Recognition", ICLR 2021, whose
    data sets take the foreground or the background away.

    Example:
        >>> objects = [{"boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([1])}]
        >>> metric = ObjectReliance()  # the class is as likely as the left pixel is bright
        >>> image = torch.tensor([[[[9.0, -9.0]]]])
        >>> metric(lambda images: images[:, 0, 0, :1] * torch.tensor([-1.0, 1.0]), image, torch.tensor([1]), objects)
        tensor(1.)
    """

    state = "object_reliance"
    _changed = staticmethod(without_objects)


class BackgroundReliance(RelianceMetric):
    """How much of the probability of the class is lost where all but its objects is replaced by 0.

    Near 0, or below, for a network that goes by the objects. Takes `update(predict, images, targets, objects)`; see
    there.

    As output of `compute` and `forward`: a scalar in [-1, 1], the mean over samples with an object of their class; NaN
    where there is none.

    Args:
        activation: `"softmax"`, `"sigmoid"`, or `None` where `predict` gives probabilities.
        kwargs: those of `torchmetrics.Metric`.

    Source: see `ObjectReliance`.

    Example:
        >>> objects = [{"boxes": torch.tensor([[0.0, 0, 1, 1]]), "labels": torch.tensor([1])}]
        >>> metric = BackgroundReliance()
        >>> image = torch.tensor([[[[9.0, -9.0]]]])
        >>> metric(lambda images: images[:, 0, 0, :1] * torch.tensor([-1.0, 1.0]), image, torch.tensor([1]), objects)
        tensor(0.)
    """

    state = "background_reliance"
    _changed = staticmethod(without_background)


def _region(sample: Objects | None, target: int, size: tuple[int, ...], image: Tensor, number: int) -> Tensor | None:
    """The pixels of the objects of a class in an image, `(H, W)` bool; `None` where there is none."""
    found = class_objects(sample, target, (size[0], size[1]), f"sample {number} of argument `objects`")
    if found is None:
        return None
    boxes = found.boxes if found.masks is None else mask_boxes(found.masks)
    if found.masks is not None:
        size = (found.masks.shape[1], found.masks.shape[2])
    height, width = image.shape[-2:]
    scale = torch.tensor([width / size[1], height / size[0]]).repeat(2)
    region = boxes_to_mask(boxes.cpu().float() * scale, (height, width)).to(image.device)
    return region if region.any() else None
