"""Counts the passes through the network that a base method makes for one image."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from sess_lightning.forwarding import memory_format
from sess_lightning.saliency.base import Method


class Passes(NamedTuple):
    """Number of images passed through the network for one explanation."""

    forwards: int  # forward only: no gradient with respect to the pixels
    gradients: int  # forward, and backward to the pixels


def count_passes(method: Method, model: nn.Module, image: Tensor, target: Tensor) -> Passes:
    """Explain one image and count the passes.

    Args:
        method: any base method.
        model: any classifier.
        image: `(1, C, H, W)`.
        target: `(1,)` long, the class to explain.
    """
    seen = [0, 0]

    def count(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        images = args[0]
        seen[bool(images.requires_grad and output.requires_grad)] += len(images)

    memory_format(model, image)  # found out once, by forwards that are none of the method's
    handle = model.register_forward_hook(count)
    try:
        method(model, image, target)
    finally:
        handle.remove()
    return Passes(*seen)
