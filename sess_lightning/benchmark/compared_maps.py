"""The maps that benchmarks compare: each base method alone on the image, and with SESS."""

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
    """A map of one image for one class."""

    method: str
    sess: bool
    saliency: Tensor  # (H, W)
    valid: bool


def short_sides(scales: str | None) -> list[int] | None:
    """Returns the short sides of a pyramid, in pixels, from a list separated by commas.

    Raises:
        ValueError: if one is no whole number.
    """
    try:
        return None if scales is None else [int(side) for side in scales.split(",")]
    except ValueError as error:
        raise ValueError(
            f"Expected argument `scales` to be short sides in pixels, separated by commas, but got {scales!r}."
        ) from error


@dataclass(frozen=True)
class Compared:
    """Base methods, each alone and with SESS, as the command line says it.

    Args:
        methods: names, separated by commas.
        num_scales: of the pyramid.
        scales: short sides in pixels instead, separated by commas.
        ratio: of the pre-filter.
        window: in pixels: what the networks were trained on.
        batch_size: patches per forward; the device's default if left out.
        activation: `"softmax"` or `"sigmoid"`.

    Raises:
        ValueError: if one of them is unknown or out of its range.
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
        """SESS for each method, without smoothing, as the paper measures."""
        sides = short_sides(self.scales)
        return {
            name: SESS(
                name,
                num_scales=None if sides else self.num_scales,
                scales=sides,
                window_size=self.window,
                prefilter_ratio=self.ratio,
                smooth=False,
                activation=self.activation,
                batch_size=self.batch_size,
            )
            for name in self.methods.split(",")
        }

    def described(self) -> str:
        """For the head of a table."""
        pyramid = f"short sides {self.scales}" if self.scales else f"{self.num_scales} scales"
        return f"SESS: {pyramid}, r = {self.ratio:g}"

    def settings(self) -> dict[str, object]:
        """What decides about the numbers."""
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
    """For each class, the maps of all methods alone and with SESS.

    The method alone sees the image squashed to the window; its map is brought back to the image's size. The patches are
    scored once for all methods, which share pyramid and window.

    Args:
        algorithms: by name of the method.
        model: any classifier.
        image: `(3, H, W)`, normalised, on the model's device.
        targets: classes to explain.
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
