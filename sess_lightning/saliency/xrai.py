"""XRAI (Kapishnikov et al., ICCV 2019) of PAIR's saliency library: regions ranked by integrated gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sess_lightning.checks import check_choice, check_count
from sess_lightning.saliency.adapters import required
from sess_lightning.saliency.base import BaseMethod, Explanation, wide
from sess_lightning.saliency.gradient import input_gradient
from sess_lightning.saliency.masking import forward_count


class XRAI(BaseMethod):
    """Regions of several segmentations, ranked by the integrated gradients inside: a map of few flat pieces.

    Gradients are integrated from two baselines, the image's smallest and its largest value; Felzenszwalb's segments of
    six scales compete, and each region's value is the mean attribution of what it adds to the larger ones. Two times
    `steps` forwards and backwards an image, and a second or so of segmenting on the host, one image at a time: for SESS
    keep few patches, `SESS("xrai", prefilter_ratio=0.99)`. Maps have the image's resolution.

    Source: Kapishnikov et al., "XRAI: Better attributions through regions", as in the `saliency` package (extra
    `methods`).

    Args:
        steps: of the integral for each baseline; 100, the library's.
        algorithm: `"full"`, or `"fast"`, which ranks the regions once.
        batch_size: points of the integral per forward; `None`: as many as are explained at a time, at least 4 of 224 x
            224 pixels or the like.

    Raises:
        ImportError: if the library is not installed, with the pip command.
        ValueError: if an argument is out of its range.

    Example::

        SESS(XRAI(algorithm="fast"), prefilter_ratio=0.99)
    """

    def __init__(self, steps: int = 100, algorithm: str = "full", batch_size: int | None = None) -> None:
        check_count("steps", steps)
        check_choice("algorithm", algorithm, ("full", "fast"))
        check_count("batch_size", batch_size, optional=True)
        required("saliency.core", "xrai")
        self.steps, self.algorithm, self.batch_size = steps, algorithm, batch_size

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        library = required("saliency.core", "xrai")
        options = library.XRAIParameters(steps=self.steps, algorithm=self.algorithm)
        count = forward_count(self.batch_size, images)
        maps = []
        for image, target in zip(images, targets, strict=True):

            def gradients(
                points: Any, call_model_args: Any = None, expected_keys: Any = None, target: Tensor = target
            ) -> dict[str, Any]:
                batch = torch.as_tensor(np.asarray(points)).to(images).permute(0, 3, 1, 2)
                gradient, _ = input_gradient(model, batch, target.expand(len(batch)))
                on_host = wide(gradient).permute(0, 2, 3, 1).cpu().numpy()
                return {library.INPUT_OUTPUT_GRADIENTS: on_host}

            pixels = wide(image).permute(1, 2, 0).cpu().numpy()
            found = library.XRAI().GetMask(pixels, gradients, batch_size=count, extra_parameters=options)
            maps.append(torch.from_numpy(found))
        return Explanation(torch.stack(maps).to(wide(images)))

    def __repr__(self) -> str:
        return f"XRAI(steps={self.steps}, algorithm={self.algorithm!r})"
