"""The baseline: the image without information with which insertion starts and deletion ends."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from sess_lightning.checks import check_choice
from sess_lightning.metrics.imputation import NoisyLinearImputation
from sess_lightning.pixels import gaussian_blur, separable_filter


@runtime_checkable
class Imputation(Protocol):
    """A baseline that depends on which pixels are removed, and so is made anew at each step."""

    def impute(self, images: Tensor, removed: Tensor) -> Tensor:
        """Returns images `(N, C, H, W)` with the pixels of the masks `removed` `(N, H, W)` bool replaced."""
        ...


BaselineFunction: TypeAlias = Callable[[Tensor], Tensor]
Baseline: TypeAlias = Literal["zeros", "blur", "road"] | Tensor | BaselineFunction | Imputation

BLURS = {"groupcam": (51, 50.0), "rise": (11, 5.0)}  # kernel size and sigma of each protocol


@dataclass(frozen=True)
class BaselineChoice:
    """The baseline of a curve.

    Args:
        protocol: `"groupcam"` or `"rise"`: how `"blur"` blurs.
        baseline: `"zeros"`, `"blur"`, a tensor that broadcasts to the images, a callable from images `(N, C, H, W)` to
            the same shape, `"road"`, or an `Imputation`.
        kernel_size: odd size of the blur in pixels; `None`: the protocol's.
        sigma: standard deviation of the blur in pixels; `None`: the protocol's.

    Raises:
        ValueError: naming the argument, what was expected and what came.
    """

    protocol: str
    baseline: Baseline
    kernel_size: int | None = None
    sigma: float | None = None

    def __post_init__(self) -> None:
        check_choice("protocol", self.protocol, tuple(BLURS))
        known = (
            isinstance(self.baseline, Tensor) or callable(self.baseline) or self.baseline in ("zeros", "blur", "road")
        )
        if not known and self.imputation is None:
            raise ValueError(
                "Expected argument `baseline` to be None (the protocol's), 'zeros', 'blur', 'road', a tensor, a "
                f"callable or an object with a method `impute`, but got {self.baseline!r}."
            )
        _check_kernel(self.kernel_size)
        if self.sigma is not None and not (isinstance(self.sigma, (int, float)) and 0 < self.sigma < math.inf):
            raise ValueError(f"Expected argument `blur_sigma` to be a positive number or None, but got {self.sigma!r}.")

    @property
    def imputation(self) -> Imputation | None:
        """What makes the baseline at each step; `None` where it is a picture made once, by `of`."""
        if isinstance(self.baseline, str):
            return NoisyLinearImputation() if self.baseline == "road" else None
        return self.baseline if isinstance(self.baseline, Imputation) else None

    def of(self, images: Tensor, numbers: list[int], count: int) -> Tensor:
        """Returns the baselines of images `(N, C, H, W)`, which have the indices `numbers` among `count` samples.

        Raises:
            ValueError: if the baseline tensor or the callable's result does not fit the images.
        """
        if isinstance(self.baseline, Tensor):
            own = self.baseline.detach().to(images)
            return _expanded(own[numbers] if own.ndim == 4 and len(own) == count > 1 else own, images)
        if callable(self.baseline):
            return _expanded(self.baseline(images).detach().to(images), images)
        if self.baseline == "zeros":
            return images.new_zeros(()).expand_as(images)
        return self._blurred(images)

    def _blurred(self, images: Tensor) -> Tensor:
        kernel_size, sigma = BLURS[self.protocol]
        kernel_size, sigma = self.kernel_size or kernel_size, self.sigma or sigma
        wide = images if images.dtype == torch.float64 else images.float()
        if self.protocol == "rise":
            return zero_padded_blur(wide, kernel_size, sigma).to(images.dtype)
        largest = 2 * min(images.shape[-2:]) - 1
        if kernel_size > largest:
            _warn_shrunk(kernel_size)
        return gaussian_blur(wide, min(kernel_size, largest), sigma).to(images.dtype)


def gkern_profile(kernel_size: int, sigma: float) -> Tensor:
    """Returns the 1-D profile of RISE's `gkern`, float64: much flatter than a sampled Gaussian.

    RISE filters a single 1 in the middle of `kernel_size` pixels with a Gaussian cut off at 4 sigma; the part outside
    the window is mirrored into it.

    Args:
        kernel_size: odd number of pixels.
        sigma: standard deviation in pixels.

    Example:
        >>> gkern_profile(11, 5.0)[:3]
        tensor([0.0880, 0.0889, 0.0905], dtype=torch.float64)
    """
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1)
    weights = torch.exp(-(offsets.double() ** 2) / (2 * sigma**2))
    # Mirroring repeats the edge pixel, so positions have a period of 2 * kernel_size: the window and its mirror image.
    position = (offsets + kernel_size // 2) % (2 * kernel_size)
    position = torch.where(position < kernel_size, position, 2 * kernel_size - 1 - position)
    # Add up the weights that fall on the same pixel of the window.
    return torch.zeros(kernel_size, dtype=torch.float64).scatter_add(0, position, weights / weights.sum())


def zero_padded_blur(images: Tensor, kernel_size: int, sigma: float) -> Tensor:
    """RISE's blur of `(N, C, H, W)`: `gkern_profile` along both axes, zeros outside, so that borders darken."""
    return separable_filter(images, gkern_profile(kernel_size, sigma).tolist(), border="constant")


def _expanded(baseline: Tensor, images: Tensor) -> Tensor:
    try:
        return baseline.expand_as(images)
    except RuntimeError:
        raise ValueError(
            f"Expected argument `baseline` to give a tensor that broadcasts to images of shape {tuple(images.shape)}, "
            f"but got shape {tuple(baseline.shape)}. Pass e.g. (C, 1, 1), or for images of different sizes a callable."
        ) from None


def _check_kernel(kernel_size: Any) -> None:
    if kernel_size is None:
        return
    if not isinstance(kernel_size, int) or isinstance(kernel_size, bool) or kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(
            f"Expected argument `blur_kernel_size` to be odd and positive, or None, but got {kernel_size!r}."
        )


@functools.cache  # warn once per process and kernel size, not for every batch of a validation
def _warn_shrunk(kernel_size: int) -> None:
    warnings.warn(
        f"The blur's kernel of {kernel_size} pixels does not fit images under {kernel_size // 2 + 1} pixels; for them "
        "the largest that fits is used. Only images blurred alike can be compared: see `blur_kernel_size`.",
        stacklevel=2,
    )
