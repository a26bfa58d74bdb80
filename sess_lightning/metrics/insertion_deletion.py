"""Insertion and deletion: the probability of a class while pixels change, in the order of the saliency map.

A metric never holds the model: `update` is given `predict`, a function from images to logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sess_lightning.checks import check_choice, check_count, check_images
from sess_lightning.forwarding import model_logits
from sess_lightning.logits import ACTIVATIONS, Activation, check_targets, class_scores, read_logits
from sess_lightning.memory import BatchLimit, is_out_of_memory
from sess_lightning.metrics.base import SaliencyMetric
from sess_lightning.metrics.baselines import Baseline, BaselineChoice
from sess_lightning.metrics.saliency_input import check_same_count, check_valid, random_map, resize_map, split_maps
from sess_lightning.probing import default_batch_size

Mode = Literal["insertion", "deletion"]
Protocol = Literal["groupcam", "rise"]


def perturbation_curve(
    predict: Callable[[Tensor], Any],
    images: Tensor | Sequence[Tensor],
    saliency: Tensor | Sequence[Tensor],
    targets: Tensor,
    mode: Mode = "insertion",
    steps: int = 28,
    *,
    pixels_per_step: int | None = None,
    protocol: Protocol = "groupcam",
    baseline: Baseline | None = None,
    blur_kernel_size: int | None = None,
    blur_sigma: float | None = None,
    activation: Activation | None = "softmax",
    batch_size: int | None = None,
    limit: BatchLimit | None = None,
) -> Tensor | list[Tensor]:
    """Measure the probability of each image's class while its pixels change, most salient first.

    Insertion puts the image's pixels onto the baseline, deletion puts the baseline's pixels onto the image. Each step
    changes `ceil(HW / steps)` more pixels, in all channels; the untouched start and the finished end are both
    evaluated. Pixels of equal saliency change in decreasing order of their index (a stable ascending sort, flipped),
    NaN counts as most salient. The perturbed images of all images of one size go through the model in one stream of
    `batch_size`, built lazily, so memory does not grow with steps or images.

    Args:
        predict: images `(N, C, H, W)` to logits `(N, K)`; runs without gradients, in the mode the model is in. It
            gets batches in channels_last, in which convolutions are faster, or contiguous ones if it fails at that.
        images: `(B, C, H, W)`, normalised as the model expects, or a list of `(C, H, W)` of any sizes.
        saliency: `(B, H, W)` or a list of `(H, W)` in any range: only the order counts. Resized (bilinear) to its
            image where the size differs.
        targets: `(B,)`, the class to follow in each image.
        mode: `"insertion"` or `"deletion"`.
        steps: at most so many steps, at least 1. 28, 3.6 % of the pixels each, is the paper's.
        pixels_per_step: pixels of one step instead of `steps`.
        protocol: `"groupcam"` (Group-CAM, which the SESS paper uses): `"blur"` is a sampled Gaussian of 51 pixels,
            sigma 50, reflected at the border and shrunk for images under 26 pixels. `"rise"`: 11 pixels, sigma 5,
            zeros outside.
        baseline: `"zeros"` (the mean colour of normalised images), `"blur"`, a tensor that broadcasts to the images,
            or a callable from images `(N, C, H, W)` to the same shape. `None`: blur for insertion, zeros for
            deletion.
        blur_kernel_size: odd size of the blur in pixels; `None`: the protocol's.
        blur_sigma: sigma of the blur in pixels; `None`: the protocol's.
        activation: `"softmax"`, `"sigmoid"` for multi-label heads, `None` where `predict` gives probabilities already.
        batch_size: perturbed images per forward; `None` = 4 of 224 x 224 on a CPU, 64 on an accelerator. Halved, down
            to 1, where the device runs out of memory, with a warning each time.
        limit: remembers for further calls how many images fit into memory; `None`: nothing is remembered.

    Returns:
        `(B, n + 1)` with `n = ceil(HW / ceil(HW / steps))`, in [0, 1], float32 (float64 for float64 logits); a list of
        `(n + 1,)` where the image sizes differ.

    Raises:
        TypeError: if images, saliency, targets or the output of `predict` are of a wrong type.
        ValueError: naming the argument, what was expected and what came.

    Source: Petsiuk et al., "RISE", BMVC 2018; Zhang et al., "Group-CAM", 2021; as used in SESS, Sec. 4.2 and 4.3.

    Example:
        >>> image = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
        >>> bright = lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)
        >>> target = torch.tensor([0])
        >>> perturbation_curve(bright, image[None], image, target, steps=4, baseline="zeros", activation=None)
        tensor([[0., 1., 1., 1., 1.]])
    """
    choice = _check_options(mode, steps, pixels_per_step, protocol, baseline, blur_kernel_size, blur_sigma, activation)
    check_count("batch_size", batch_size, optional=True)
    pictures, maps = check_images(images), split_maps(saliency)
    check_same_count("images", len(pictures), len(maps))
    targets = check_targets(targets, len(pictures)).to(pictures[0].device)
    limit = limit or _limit("perturbation_curve")
    curves: list[Tensor] = [targets] * len(pictures)
    groups = _same_size(pictures)
    for (height, width), numbers in groups.items():
        group = torch.stack([pictures[i] for i in numbers]).contiguous(memory_format=torch.channels_last)
        rank = torch.stack([_rank(resize_map(maps[i].to(group.device), (height, width))) for i in numbers])
        with torch.no_grad():
            other = choice.of(group, numbers, len(pictures)).contiguous(memory_format=torch.channels_last)
        start, finish = (other, group) if mode == "insertion" else (group, other)
        per_step = pixels_per_step or -(-height * width // steps)
        size = batch_size or default_batch_size(group.device, (height, width))
        found = _curves(predict, start, finish, rank, per_step, targets[numbers], activation, size, limit)
        for number, curve in zip(numbers, found, strict=True):
            curves[number] = curve
    return torch.stack(curves) if len(groups) == 1 else curves


def area_under_curve(curves: Tensor) -> Tensor:
    """Returns the area `(...)` under curves `(..., n + 1)` by the trapezoid rule over a total width of 1.

    Raises:
        ValueError: if a curve has fewer than two points.

    Example:
        >>> area_under_curve(torch.tensor([0.0, 1.0, 1.0]))
        tensor(0.7500)
    """
    if curves.ndim == 0 or curves.shape[-1] < 2:
        raise ValueError(f"Expected argument `curves` to have at least two points, but got {tuple(curves.shape)}.")
    return (curves.sum(-1) - (curves[..., 0] + curves[..., -1]) / 2) / (curves.shape[-1] - 1)


@torch.no_grad()
def _curves(
    predict: Callable[[Tensor], Any],
    start: Tensor,
    finish: Tensor,
    rank: Tensor,
    per_step: int,
    targets: Tensor,
    activation: str | None,
    batch_size: int,
    limit: BatchLimit,
) -> Tensor:
    """Curves `(N, n + 1)` from images `start` to images `finish`, both `(N, C, H, W)`; `rank` is `(N, H, W)`."""
    points = -(-rank[0].numel() // per_step) + 1
    predict_logits = _Predict(predict, gives_logits=activation is not None)
    scores: list[Tensor] = []
    done = 0

    def next_scores(size: int) -> Tensor:
        # Job number = image * points + step, so a batch may hold steps of several images.
        job = torch.arange(done, min(done + size, len(rank) * points), device=rank.device)
        image, step = job // points, job % points
        # Pixels whose rank is below the number of changed pixels come from the finish, the others from the start.
        changed = rank[image] < (step * per_step)[:, None, None]
        logits = predict_logits(torch.where(changed[:, None], finish[image], start[image]))
        if done == 0:
            check_targets(targets, len(targets), logits.shape[1])
        return class_scores(logits, targets[image].to(logits.device), activation)

    while done < len(rank) * points:
        scores.append(limit.run(next_scores, batch_size))
        done += len(scores[-1])
    return torch.cat(scores).view(-1, points)


def _limit(who: str) -> BatchLimit:
    return BatchLimit(who, "Pass a smaller batch_size from the start.")


class _Predict:
    """`predict`, given batches in a layout that it accepts, and its rows checked."""

    def __init__(self, predict: Callable[[Tensor], Any], gives_logits: bool) -> None:
        self._predict = predict
        self._is_classifier = isinstance(predict, nn.Module) and gives_logits
        self._layout: torch.memory_format | None = None  # not known yet

    def __call__(self, images: Tensor) -> Tensor:
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


def _rank(saliency: Tensor) -> Tensor:
    """Returns the place `(H, W)` of each pixel in the order of change, 0 first."""
    # Adding 0 turns -0 into 0: some devices sort -0 before 0.
    order = torch.argsort(saliency.flatten() + 0.0, stable=True).flip(0)
    # `order` lists pixels by place; scattering inverts it to places by pixel.
    places = torch.arange(len(order), device=order.device, dtype=torch.int32)
    return torch.empty_like(places).scatter_(0, order, places).view_as(saliency)


def _same_size(images: list[Tensor]) -> dict[tuple[int, int], list[int]]:
    groups: dict[tuple[int, int], list[int]] = {}
    for number, image in enumerate(images):
        groups.setdefault((image.shape[1], image.shape[2]), []).append(number)
    return groups


def _check_options(
    mode: str,
    steps: int,
    pixels_per_step: int | None,
    protocol: str,
    baseline: Baseline | None,
    blur_kernel_size: int | None,
    blur_sigma: float | None,
    activation: str | None,
) -> BaselineChoice:
    check_choice("mode", mode, ("insertion", "deletion"))
    check_count("steps", steps)
    check_count("pixels_per_step", pixels_per_step, optional=True)
    if activation is not None:
        check_choice("activation", activation, ACTIVATIONS)
    if baseline is None:
        baseline = "blur" if mode == "insertion" else "zeros"
    return BaselineChoice(protocol, baseline, blur_kernel_size, blur_sigma)


class _PerturbationAUC(SaliencyMetric):
    """Mean area under `perturbation_curve`; the states are named after the mode."""

    mode: ClassVar[Mode]

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
        _check_options(self.mode, steps, pixels_per_step, protocol, baseline, blur_kernel_size, blur_sigma, activation)
        check_count("batch_size", batch_size, optional=True)
        self.steps = steps
        self.pixels_per_step = pixels_per_step
        self.protocol = protocol
        self.baseline = baseline
        self.blur_kernel_size = blur_kernel_size
        self.blur_sigma = blur_sigma
        self.activation = activation
        self.batch_size, self._limit = batch_size, _limit(type(self).__name__)
        self._add_sum(f"{self.mode}_sum")
        self._add_sum(f"{self.mode}_curve", steps + 1)
        self._add_count(f"{self.mode}_total")
        self.last_areas = torch.empty(0)  # (B,) of the last update's samples; no state: neither synchronised nor saved

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
        maps = split_maps(saliency)
        informative = check_valid(valid, len(maps))
        saliency = [one if ok else random_map(one) for one, ok in zip(maps, informative, strict=True)]
        curves = perturbation_curve(
            predict,
            images,
            saliency,
            targets,
            self.mode,
            self.steps,
            pixels_per_step=self.pixels_per_step,
            protocol=self.protocol,
            baseline=self.baseline,
            blur_kernel_size=self.blur_kernel_size,
            blur_sigma=self.blur_sigma,
            activation=self.activation,
            batch_size=self.batch_size,
            limit=self._limit,
        )
        areas = []
        for group in [curves] if isinstance(curves, Tensor) else [one[None] for one in curves]:
            if valid is not None:
                group = torch.where(group.isfinite(), group, 0.0 if self.higher_is_better else 1.0)
            curve = F.interpolate(group[None], size=self.steps + 1, mode="linear", align_corners=True)[0]
            areas.append(area_under_curve(group))
            self._increase(f"{self.mode}_sum", areas[-1].sum())
            self._increase(f"{self.mode}_curve", curve.sum(0))
            self._increase(f"{self.mode}_total", len(group))
        self.last_areas = torch.cat(areas)

    def compute(self) -> Tensor:
        """Returns the mean area, a scalar in [0, 1]; NaN without samples."""
        return getattr(self, f"{self.mode}_sum") / getattr(self, f"{self.mode}_total")

    def mean_curve(self) -> Tensor:
        """Returns the mean curve of all samples of all processes, for plotting. Collective call.

        Returns:
            `(steps + 1,)`, over the share of steps done, 0 to 1; NaN without samples. Curves of other lengths (small
            images, or `pixels_per_step`) are resampled linearly.
        """
        with self._synced():
            return getattr(self, f"{self.mode}_curve") / getattr(self, f"{self.mode}_total")


class InsertionAUC(_PerturbationAUC):
    """Mean area under the insertion curve: pixels appear on a blurred image, most salient first. Higher is better.

    As input to `update` and `forward`:

    - `predict`: images `(N, C, H, W)` to logits `(N, K)`
    - `images`: `(B, C, H, W)`, or a list of `(C, H, W)`
    - `saliency`: `(B, H, W)`, or a list of `(H, W)`
    - `targets`: `(B,)`
    - `valid`: optional, `(B,)` bool: which maps carry information, see `update`

    As output of `compute` and `forward`: a scalar in [0, 1]. `mean_curve()` gives the curve behind it.

    Args:
        steps: at most so many steps; 28 is the paper's.
        pixels_per_step: pixels of one step instead of `steps`, which then only sets the points of `mean_curve`.
        protocol: `"groupcam"` or `"rise"`.
        baseline: `None` (blur), `"zeros"`, `"blur"`, a tensor or a callable.
        blur_kernel_size: `None`: the protocol's.
        blur_sigma: `None`: the protocol's.
        activation: `"softmax"`, `"sigmoid"` or `None`.
        batch_size: perturbed images per forward; `None` = 4 of 224 x 224 on a CPU, 64 on an accelerator.
        kwargs: those of `torchmetrics.Metric`.

    Raises:
        ValueError: naming the argument, what was expected and what came.

    Source: see `perturbation_curve`, which explains every argument.

    Example:
        >>> image = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
        >>> bright = lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)
        >>> metric = InsertionAUC(steps=4, baseline="zeros", activation=None)
        >>> metric(bright, image[None], image, torch.tensor([0]))
        tensor(0.8750)
        >>> metric.mean_curve()
        tensor([0., 1., 1., 1., 1.])
    """

    mode = "insertion"
    insertion_sum: Tensor
    insertion_curve: Tensor
    insertion_total: Tensor


class DeletionAUC(_PerturbationAUC):
    """Mean area under the deletion curve: pixels vanish, most salient first. Lower is better.

    As input to `update` and `forward`, arguments and output: as `InsertionAUC`, but `baseline=None` means zeros, the
    mean colour of normalised images.

    Example:
        >>> image = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
        >>> bright = lambda x: torch.stack([x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))], 1)
        >>> metric = DeletionAUC(steps=4, activation=None)
        >>> metric(bright, image[None], image, torch.tensor([0]))
        tensor(0.1250)
    """

    higher_is_better = False
    mode = "deletion"
    deletion_sum: Tensor
    deletion_curve: Tensor
    deletion_total: Tensor
