"""Computes the maps that benchmarks compare: each base method alone on the image, and with SESS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sess_lightning.pixels import resize
from sess_lightning.sess import SESS
from sess_lightning.sess.base_maps import base_maps


class Map(NamedTuple):
    """The map of one image for one class."""

    method: str
    sess: bool
    saliency: Tensor  # (H, W)
    valid: bool


def parsed_scales(scales: str | None) -> list[int] | list[float] | None:
    """Returns the scales of a pyramid from a list separated by commas, as `SESS(scales=)` takes them.

    Whole numbers are short sides in pixels; with a point in any of them all are multiples of the window.

    Raises:
        ValueError: if one is no number.
    """
    try:
        if scales is not None and "." in scales:
            return [float(one) for one in scales.split(",")]
        return None if scales is None else [int(one) for one in scales.split(",")]
    except ValueError as error:
        raise ValueError(
            "Expected argument `scales` to be short sides in pixels, or multiples of the window such as 1.0,1.5, "
            f"separated by commas, but got {scales!r}."
        ) from error


def try_method(sess: SESS, model: nn.Module, method: str, device: torch.device) -> None:
    """Explain noise before work starts: what a callable of the user's cannot do is said once, not for every photo.

    Args:
        sess: with a `window_size`.
        model: any classifier, on `device`.
        method: dotted path of its base method.
        device: of the noise.

    Raises:
        ValueError: if the method fails.
    """
    noise = torch.rand(3, *sess.window_for([]), generator=torch.Generator().manual_seed(0)).to(device)
    try:
        base_maps(sess, model, noise[None], torch.zeros(1, dtype=torch.long, device=device), [noise])
    except Exception as error:
        raise ValueError(
            f"Expected argument `method` to be the path of a callable (model, images, targets) -> maps, but {method!r} "
            f"fails on an image of noise: {type(error).__name__} {error}"
        ) from error


@dataclass(frozen=True)
class Compared:
    """The base methods to compare, each alone and with SESS, as given on the command line.

    Args:
        methods: names of base methods, separated by commas.
        num_scales: number of scales of the pyramid.
        scales: short sides in pixels or multiples of the window, separated by commas; replaces `num_scales`.
        ratio: pre-filter ratio in [0, 1).
        window: size of the window in pixels, the input size the networks were trained with.
        batch_size: patches per forward pass; `None` means the device's default.
        activation: `"softmax"` or `"sigmoid"`.

    Raises:
        ValueError: if a name is unknown or a number out of range.
    """

    methods: str
    num_scales: int | None
    scales: str | None
    ratio: float
    window: int = 224
    batch_size: int | None = None
    activation: str = "softmax"

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> dict[str, SESS]:
        """Returns SESS by name of the base method, without smoothing, as in the paper's measurements."""
        scales = parsed_scales(self.scales)
        return {
            name: SESS(
                name,
                num_scales=None if scales else self.num_scales,
                scales=scales,
                window_size=self.window,
                prefilter_ratio=self.ratio,
                smooth=False,
                activation=self.activation,
                batch_size=self.batch_size,
            )
            for name in self.methods.split(",")
        }

    def described(self) -> str:
        """Returns a description of the settings for the heading of a table."""
        pyramid = f"scales {self.scales}" if self.scales else f"{self.num_scales} scales"
        return f"SESS: {pyramid}, r = {self.ratio:g}"

    def settings(self) -> dict[str, object]:
        """Returns the settings that determine the results."""
        return {
            "methods": self.methods,
            "num_scales": None if self.scales else self.num_scales,
            "scales": self.scales,
            "ratio": self.ratio,
            "window": self.window,
            "activation": self.activation,
        }


def compared_maps(
    algorithms: dict[str, SESS], model: nn.Module, image: Tensor, targets: Sequence[int]
) -> list[list[Map]]:
    """Compute, for each class, the maps of all methods alone and with SESS.

    The method alone explains the image resized to the window; its map is resized back to the image. Patches are scored
    once for all methods, as these use the same pyramid and window.

    Args:
        algorithms: SESS by name of the base method.
        model: any classifier.
        image: `(3, H, W)`, normalised, on the model's device.
        targets: indices of the classes to explain.

    Returns:
        One list of maps per class: for each method its map alone, then its map with SESS.
    """
    found: list[list[Map]] = [[] for _ in targets]
    classes = torch.tensor(targets, device=image.device)
    images = [image] * len(targets)
    scores: list[Tensor] | None = None
    for name, sess in algorithms.items():
        squashed = resize(image[None], sess.window_for(images)).expand(len(targets), -1, -1, -1)
        base, base_valid = base_maps(sess, model, squashed, classes, images)
        result = sess(model, images, classes, scores=scores)
        scores = result.scores
        for number, maps in enumerate(found):
            maps.append(Map(name, False, base[number], bool(base_valid[number])))
            maps.append(Map(name, True, result.maps[number], bool(result.valid[number])))
    return found
