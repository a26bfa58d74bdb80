"""Base of the metrics that are areas under perturbation curves, and the curves that several of them share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sess_lightning.checks import check_count
from sess_lightning.logits import Activation
from sess_lightning.metrics.base import SaliencyMetric
from sess_lightning.metrics.baselines import Baseline
from sess_lightning.metrics.perturbation import Mode, Order, Protocol, check_options, perturbation_curve
from sess_lightning.metrics.perturbed_forwards import new_limit
from sess_lightning.metrics.saliency_input import check_valid, random_map, split_maps


class Inputs(NamedTuple):
    """What `update` is given, see there."""

    predict: Callable[[Tensor], Any]
    images: Tensor | Sequence[Tensor]
    saliency: Tensor | Sequence[Tensor]
    targets: Tensor
    valid: Tensor | Sequence[bool] | None


class _Known(NamedTuple):
    inputs: Inputs
    options: dict[str, Any]
    curves: list[Tensor]


_known: ContextVar[list[_Known] | None] = ContextVar("known curves", default=None)


@contextmanager
def shared_curves() -> Iterator[None]:
    """Inside, metrics that are updated with the same objects measure a curve that they have in common only once.

    `DeletionAUC` and `SymmetricRelevanceGain` with one baseline have one of the latter's two curves in common. Curves
    are told apart by the identity of what `update` is given: neither the model nor the arguments may be changed inside.
    `SESSCallback` does this by itself.

    Example:
        >>> from torchmetrics import MetricCollection
        >>> from sess_lightning.metrics import DeletionAUC, SymmetricRelevanceGain
        >>> image = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
        >>> bright = lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)
        >>> options = {"steps": 4, "activation": None}
        >>> both = MetricCollection([DeletionAUC(**options), SymmetricRelevanceGain(**options)])
        >>> with shared_curves():
        ...     both.update(bright, image[None], image, torch.tensor([0]))
        >>> both.compute()
        {'DeletionAUC': tensor(0.1250), 'SymmetricRelevanceGain': tensor(0.7500)}
    """
    token = _known.set([])
    try:
        yield
    finally:
        _known.reset(token)


class PerturbationMetric(SaliencyMetric):
    """Base of the metrics that measure areas under perturbation curves.

    Attributes:
        last_areas: `(B,)`, the values of the last update's samples; no state: neither synchronised nor saved.
    """

    def __init__(
        self,
        steps: int = 28,
        *,
        pixels_per_step: int | None = None,
        protocol: Protocol = "groupcam",
        baseline: Baseline | None = None,
        blur_kernel_size: int | None = None,
        blur_sigma: float | None = None,
        activation: Activation | None = "softmax",
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_options("deletion", steps, pixels_per_step, protocol, baseline, blur_kernel_size, blur_sigma, activation)
        check_count("batch_size", batch_size, optional=True)
        self.steps = steps
        self.pixels_per_step = pixels_per_step
        self.protocol = protocol
        self.baseline = baseline
        self.blur_kernel_size = blur_kernel_size
        self.blur_sigma = blur_sigma
        self.activation = activation
        self.batch_size, self._limit = batch_size, new_limit(type(self).__name__)
        self.last_areas = torch.empty(0)
        self._add_states()

    @abstractmethod
    def _add_states(self) -> None:
        """Register the states, of names that no other class has."""

    def update(
        self,
        predict: Callable[[Tensor], Any],
        images: Tensor | Sequence[Tensor],
        saliency: Tensor | Sequence[Tensor],
        targets: Tensor,
        valid: Tensor | Sequence[bool] | None = None,
    ) -> None:
        """Measure further samples; no samples change nothing.

        Args:
            predict: as for `perturbation_curve`, and likewise `images`, `saliency` and `targets`.
            images: see there.
            saliency: see there.
            targets: see there.
            valid: `(B,)` bool, e.g. `SESSResult.valid`: pixels of an image whose map carries no information (False)
                change in a fixed random order; NaN and infinity count as the worst. `None`: as `perturbation_curve`.
        """
        if len(images) == len(saliency) == len(targets) == 0:
            return
        self._measure(Inputs(predict, images, saliency, targets, valid))

    @abstractmethod
    def _measure(self, inputs: Inputs) -> None:
        """Add at least one sample to the states, and set `last_areas`."""

    def _curves(self, inputs: Inputs, mode: Mode, order: Order = "most", worst: float = 0.0) -> list[Tensor]:
        """Returns curves as groups `(N, points)` of samples in their order; a random order where `valid` is False.

        With `valid`, a probability that is not finite becomes `worst`.
        """
        options: dict[str, Any] = {
            "mode": mode,
            "steps": self.steps,
            "pixels_per_step": self.pixels_per_step,
            "protocol": self.protocol,
            "baseline": ("blur" if mode == "insertion" else "zeros") if self.baseline is None else self.baseline,
            "blur_kernel_size": self.blur_kernel_size,
            "blur_sigma": self.blur_sigma,
            "activation": self.activation,
            "order": order,
        }
        curves = self._shared(inputs, options)
        return curves if inputs.valid is None else [torch.where(one.isfinite(), one, worst) for one in curves]

    def _shared(self, inputs: Inputs, options: dict[str, Any]) -> list[Tensor]:
        """Returns curves that were measured before inside `shared_curves`, or measures them."""
        known = _known.get()
        for one in known or ():
            if all(map(_same_object, one.inputs, inputs)) and _same_options(one.options, options):
                return one.curves
        maps = split_maps(inputs.saliency)
        informative = check_valid(inputs.valid, len(maps))
        maps = [one if ok else random_map(one) for one, ok in zip(maps, informative, strict=True)]
        found = perturbation_curve(
            inputs.predict,
            inputs.images,
            maps,
            inputs.targets,
            batch_size=self.batch_size,
            limit=self._limit,
            **options,
        )
        curves = [found] if isinstance(found, Tensor) else [one[None] for one in found]
        if known is not None:
            known.append(_Known(inputs, options, curves))
        return curves


def _same_object(a: Any, b: Any) -> bool:
    return a is b


def _same_options(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    """Whether options agree, of which only a baseline can be more than a number or a name: it has to be the same."""
    return all(a[key] is b[key] or (isinstance(a[key], (str, int, float)) and a[key] == b[key]) for key in a)
