"""What `process_figure` shows of a result: some of the scales, and some of their patches with maps and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from sess_lightning.pixels import resize
from sess_lightning.render.colormap import overlay
from sess_lightning.render.panel import evenly_spaced
from sess_lightning.render.result_fields import ResultFields


@dataclass(frozen=True, eq=False)
class PatchSteps:
    """One patch.

    Attributes:
        window: `(6,)`: its corners x1, y1, x2, y2 in the scaled image, and that image's height and width.
        picture: the patch, `(3, h, w)` uint8.
        saliency: the patch under the colours of its own map, `(3, h, w)` uint8.
        weighted: the whole image under the colours of the calibrated map times its weight, `(3, H, W)` uint8.
        score: probability of the class for this patch.
        weight: score divided by the best score of all patches.
    """

    window: Tensor
    picture: Tensor
    saliency: Tensor
    weighted: Tensor
    score: float
    weight: float


@dataclass(frozen=True, eq=False)
class ScaleSteps:
    """One scaled image.

    Attributes:
        picture: the scaled image, `(3, scaled_h, scaled_w)` uint8.
        count: number of its windows.
        kept: `(k, 6)`: those windows that passed the pre-filter.
        patches: the patches shown, in the order of extraction.
    """

    picture: Tensor
    count: int
    kept: Tensor
    patches: list[PatchSteps]


def shown_scales(
    image: Tensor, result: ResultFields, maps: Tensor, number: int, num_scales: int, num_patches: int
) -> list[ScaleSteps]:
    """Choose evenly spaced scales, that of the best patch among them, and of each of them evenly spaced ranks.

    Args:
        image: `(3, H, W)` uint8 on the CPU.
        result: the result that contains the image.
        maps: `(K, H, W)`, the calibrated maps of the image's kept patches.
        number: index of the image in the result.
        num_scales: how many scales at most.
        num_patches: how many patches of each scale at most, from the best to the worst of those kept.
    """
    windows, kept = result.windows[number].cpu(), result.kept[number].tolist()
    scores = result.scores[number].cpu().float().nan_to_num(0)
    weights = scores / scores.max().clamp(min=torch.finfo(scores.dtype).tiny)

    groups = [list(group) for _, group in groupby(range(len(windows)), key=lambda i: windows[i, 4:].tolist())]
    best = next(i for i, group in enumerate(groups) if int(weights.argmax()) in group)
    chosen = evenly_spaced(range(len(groups)), num_scales)
    if best not in chosen:  # it takes the place of the nearest
        chosen[min(range(len(chosen)), key=lambda i: abs(chosen[i] - best))] = best

    shown = []
    for group in (groups[i] for i in chosen):
        ranked = sorted(set(group).intersection(kept), key=lambda i: (-float(weights[i]), i))
        picture = _scaled(image, windows[group[0], 4:].tolist())
        patches = []
        for index in sorted(evenly_spaced(ranked, num_patches)):
            saliency = maps[kept.index(index)].cpu().float().clamp(0, 1)
            patches.append(
                _patch_steps(image, picture, saliency, windows[index], float(scores[index]), float(weights[index]))
            )
        shown.append(ScaleSteps(picture, len(group), windows[sorted(ranked)], patches))
    return shown


def _patch_steps(
    image: Tensor, scaled: Tensor, saliency: Tensor, window: Tensor, score: float, weight: float
) -> PatchSteps:
    """The pictures of one patch; `saliency` is its calibrated map `(H, W)`."""
    x1, y1, x2, y2, height, width = window.tolist()
    picture = scaled[:, y1:y2, x1:x2]
    own = resize(saliency[None, None], (height, width))[0, 0, y1:y2, x1:x2]
    return PatchSteps(window, picture, overlay(picture, own), overlay(image, weight * saliency), score, weight)


def _scaled(image: Tensor, size: Sequence[int]) -> Tensor:
    """The image `(3, H, W)` uint8, scaled as SESS scales it."""
    return resize(image[None].float(), (size[0], size[1]))[0].round().clamp(0, 255).to(torch.uint8)
