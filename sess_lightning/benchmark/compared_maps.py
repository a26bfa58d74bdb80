"""Computes the maps that benchmarks compare: each base method alone on the image, and with SESS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sess_lightning.jobs.options import parsed_scales
from sess_lightning.pixels import Size, resize
from sess_lightning.sess import SESS
from sess_lightning.sess.base_maps import base_maps


class Map(NamedTuple):
    """The map of one image for one class."""

    method: str
    sess: bool
    saliency: Tensor  # (H, W)
    valid: bool


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
    algorithms: dict[str, SESS], model: nn.Module, images: Sequence[Tensor], targets: Sequence[int]
) -> list[list[Map]]:
    """Compute, for each image and class, the maps of all methods alone and with SESS.

    The method alone explains the image resized to the window; its map is resized back to the image. Patches are scored
    once for all methods, as these use the same pyramid and window.

    Args:
        algorithms: SESS by name of the base method.
        model: any classifier.
        images: each `(3, H, W)`, normalised, on the model's device; one of several classes stands there several times.
        targets: index of the class to explain, for each image.

    Returns:
        One list of maps for each image: for each method its map alone, then its map with SESS.
    """
    found: list[list[Map]] = [[] for _ in targets]
    classes = torch.tensor(targets, device=images[0].device)
    scores: list[Tensor] | None = None
    for name, sess in algorithms.items():
        window = sess.window_for(images)
        small = {id(image): resize(image[None], window) for image in images}
        squashed = torch.cat([small[id(image)] for image in images])
        base, base_valid = base_maps(sess, model, squashed, classes, images)
        result = sess(model, images, classes, scores=scores)
        scores = result.scores
        for number, maps in enumerate(found):
            maps.append(Map(name, False, base[number], bool(base_valid[number])))
            maps.append(Map(name, True, result.maps[number], bool(result.valid[number])))
    return found


def num_patches(algorithms: Mapping[str, SESS], size: Size) -> int:
    """Returns how many patches of an image of this size all methods explain: about what its maps cost."""
    return sum(len(sess.windows_for(size, sess.window_for([]))) for sess in algorithms.values())
