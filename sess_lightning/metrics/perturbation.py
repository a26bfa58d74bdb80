"""Curves of the probability of a class while pixels change, in the order of the saliency map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from sess_lightning.checks import check_choice, check_count, check_images
from sess_lightning.logits import ACTIVATIONS, Activation, check_targets
from sess_lightning.memory import BatchLimit
from sess_lightning.metrics.baselines import Baseline, BaselineChoice
from sess_lightning.metrics.perturbed_forwards import curves_of, new_limit, perturbed_by
from sess_lightning.metrics.saliency_input import check_same_count, resize_map, split_maps
from sess_lightning.probing import default_batch_size

Mode = Literal["insertion", "deletion"]
Order = Literal["most", "least"]
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
    order: Order = "most",
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
            or a callable from images `(N, C, H, W)` to the same shape. `"road"` or a `NoisyLinearImputation` fills the
            removed pixels anew at each step, from those that are left. `None`: blur for insertion, zeros for deletion.
        blur_kernel_size: odd size of the blur in pixels; `None`: the protocol's.
        blur_sigma: sigma of the blur in pixels; `None`: the protocol's.
        activation: `"softmax"`, `"sigmoid"` for multi-label heads, `None` where `predict` gives probabilities already.
        batch_size: perturbed images per forward; `None` = 4 of 224 x 224 on a CPU, 64 on an accelerator. Halved, down
            to 1, where the device runs out of memory, with a warning each time.
        limit: remembers for further calls how many images fit into memory; `None`: nothing is remembered.
        order: `"most"` salient pixels first, or `"least"`: the same order backwards, ties too.

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
    check_choice("order", order, ("most", "least"))
    choice = check_options(mode, steps, pixels_per_step, protocol, baseline, blur_kernel_size, blur_sigma, activation)
    check_count("batch_size", batch_size, optional=True)
    pictures, maps = check_images(images), split_maps(saliency)
    check_same_count("images", len(pictures), len(maps))
    targets = check_targets(targets, len(pictures)).to(pictures[0].device)
    limit = limit or new_limit("perturbation_curve")
    curves: list[Tensor] = [targets] * len(pictures)
    groups = _same_size(pictures)
    for (height, width), numbers in groups.items():
        group = torch.stack([pictures[i] for i in numbers]).contiguous(memory_format=torch.channels_last)
        rank = torch.stack([_rank(resize_map(maps[i].to(group.device), (height, width))) for i in numbers])
        if order == "least":
            rank = rank[0].numel() - 1 - rank
        perturbed = perturbed_by(choice, group, numbers, len(pictures), mode)
        per_step = pixels_per_step or -(-height * width // steps)
        size = batch_size or default_batch_size(group.device, (height, width))
        found = curves_of(predict, perturbed, rank, per_step, targets[numbers], activation, size, limit)
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


def check_options(
    mode: str,
    steps: int,
    pixels_per_step: int | None,
    protocol: str,
    baseline: Baseline | None,
    blur_kernel_size: int | None,
    blur_sigma: float | None,
    activation: str | None,
) -> BaselineChoice:
    """Returns the baseline that these options of `perturbation_curve` choose, or raises a `ValueError`."""
    check_choice("mode", mode, ("insertion", "deletion"))
    check_count("steps", steps)
    check_count("pixels_per_step", pixels_per_step, optional=True)
    if activation is not None:
        check_choice("activation", activation, ACTIVATIONS)
    if baseline is None:
        baseline = "blur" if mode == "insertion" else "zeros"
    return BaselineChoice(protocol, baseline, blur_kernel_size, blur_sigma)
