"""What a base method is: a callable `(model, images, targets)` that returns maps, or an `Explanation`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn


@dataclass
class Explanation:
    """Maps of a batch, and the logits if the method computed them on the way.

    Attributes:
        maps: `(N, h, w)` float32 (float64 for float64 models), any range and resolution: SESS brings them to the window
            and normalises them.
        logits: `(N, K)` of the same forward pass, or `None`.
    """

    maps: Tensor
    logits: Tensor | None = None


class Method(Protocol):
    """A base method. A `single_pass` attribute that is true says that logits come with the maps at no further cost."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation | Tensor:
        """Explain one class for each image.

        Args:
            model: in eval mode; must be left as it is.
            images: `(N, C, H, W)`.
            targets: `(N,)`, long.
        """


def explain(method: Method, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
    """Call a base method inside a probe and check what it returns; never NaN or infinity in the maps' place.

    Gradients are on while it runs, as code written outside of a validation loop expects.

    Args:
        method: any base method.
        model: the model under a probe.
        images: `(N, C, H, W)`.
        targets: `(N,)`, long.

    Raises:
        TypeError: if the method returns neither maps nor an `Explanation`.
        ValueError: if the maps' shape is not `(N, h, w)` or `(N, 1, h, w)`.
    """
    with torch.enable_grad():
        result = method(model, images, targets)
    explanation = result if isinstance(result, Explanation) else Explanation(result)
    maps = explanation.maps
    if not isinstance(maps, Tensor):
        raise TypeError(
            f"Expected the base method {method!r} to return a tensor of maps (N, h, w) or an Explanation, "
            f"but got {type(maps).__name__}."
        )
    maps = maps.detach()
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 3 or len(maps) != len(images):
        raise ValueError(
            f"Expected the base method {method!r} to return one map per image, shape ({len(images)}, h, w), but got "
            f"{tuple(maps.shape)}. Reduce the channels first, e.g. maps.abs().sum(1)."
        )
    logits = None if explanation.logits is None else explanation.logits.detach()
    return Explanation(maps if maps.dtype == torch.float64 else maps.float(), logits)
