"""The paper's figures of one image, from a `SESSResult`: pre-filter (Fig. 3), smoothing (4), all patches (11)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from sess_lightning.pixels import minmax
from sess_lightning.render.colormap import overlay
from sess_lightning.render.filmstrip import filmstrip
from sess_lightning.render.marks import draw_boxes
from sess_lightning.render.page import Layout, draw_page
from sess_lightning.render.panel import panel_size, panels_of
from sess_lightning.render.result_fields import ResultFields, check_image, window_boxes

_REMOVED = (200, 30, 40)


def prefilter_figure(
    image: Tensor, results: Sequence[ResultFields], number: int = 0, panel_height: int = 224
) -> Tensor:
    """Draw the effect of the pre-filter, as in Fig. 3: above, areas without a kept patch in red; below, the map.

    Args:
        image: `(3, H, W)` uint8, the image that was explained.
        results: of the same image under several settings, e.g. `prefilter_ratio` 0, 0.5, 0.9 and 0.99.
        number: index of the image in each result.
        panel_height: height of each picture in pixels, at least 32.

    Returns:
        `(3, height, width)` uint8 on the CPU, one column for each result.

    Raises:
        ValueError: if there is no result, or the image is not the one that was explained.

    Example:
        >>> from sess_lightning import SESS
        >>> from torch.nn import AdaptiveAvgPool2d, Conv2d, Flatten, Linear, Sequential
        >>> net = Sequential(Conv2d(3, 4, 3), AdaptiveAvgPool2d(1), Flatten(), Linear(4, 2))
        >>> picture = torch.randint(256, (3, 60, 80), dtype=torch.uint8)
        >>> results = [SESS(num_scales=3, window_size=32, prefilter_ratio=r)(net, picture[None] / 255) for r in (0, .9)]
        >>> prefilter_figure(picture, results, panel_height=64).shape
        torch.Size([3, 176, 200])
    """
    if not len(results):
        raise ValueError("Expected argument `results` to hold at least one result, but got none.")
    for result in results:
        check_image(image, result, number)
    regions = [_kept_region(image, result, number) for result in results]
    maps = [overlay(image.cpu(), result.maps[number].cpu().float().clamp(0, 1)) for result in results]
    headings = [f"{len(r.kept[number])} of {len(r.windows[number])} patches" for r in results]
    return filmstrip([regions, maps], headings, panel_height=panel_height)


def smoothing_figure(image: Tensor, result: ResultFields, number: int = 0, panel_height: int = 224) -> Tensor:
    """Draw the image, and its map before and after smoothing, as in Fig. 4.

    Args:
        image: `(3, H, W)` uint8, the image that was explained.
        result: from a SESS that smooths, made with `keep_patches=True`.
        number: index of the image in the result.
        panel_height: height of each picture in pixels, at least 32.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if the result has no unsmoothed maps, or the image is not the one that was explained.
    """
    check_image(image, result, number)
    if result.unsmoothed is None:
        raise ValueError("Expected argument `result` to hold unsmoothed maps: call sess(..., keep_patches=True).")
    maps = [minmax(m[number].cpu().float())[0] for m in (result.unsmoothed, result.maps)]
    pictures = [image.cpu(), *(overlay(image.cpu(), one) for one in maps)]
    return filmstrip([pictures], ["image", "before smoothing", "after smoothing"], panel_height=panel_height)


def patches_figure(
    image: Tensor, result: ResultFields, number: int = 0, columns: int = 8, panel_height: int = 128
) -> Tensor:
    """Draw the calibrated map of every kept patch with its window and score, as in Fig. 11, scale by scale.

    Args:
        image: `(3, H, W)` uint8, the image that was explained.
        result: made with `keep_patches=True`.
        number: index of the image in the result.
        columns: number of pictures in a row; every scale begins a new row, with its width x height at the left.
        panel_height: height of each picture in pixels, at least 32.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if the result has no patch maps, or the image is not the one that was explained.
    """
    check_image(image, result, number)
    if result.patch_maps is None:
        raise ValueError("Expected argument `result` to hold patch maps: call sess(..., keep_patches=True).")
    kept, windows, scores = result.kept[number].tolist(), result.windows[number], result.scores[number].tolist()
    boxes, maps = window_boxes(windows, image), result.patch_maps[number].cpu().float().clamp(0, 1)
    size = panel_size([image], panel_height)
    title: str | None = f"class {int(result.targets[number])}: {len(kept)} patches with their scores, scale by scale"
    rows = []
    for scaled, group in groupby(enumerate(kept), key=lambda pair: tuple(windows[pair[1], 4:].tolist())):
        patches = list(group)
        for begin in range(0, len(patches), columns):
            part = patches[begin : begin + columns]
            layout = Layout(*size, columns=columns, side=6 * Layout(*size, columns).font_size)
            pictures = [draw_boxes(overlay(image.cpu(), maps[i]), boxes[patch : patch + 1]) for i, patch in part]
            headings = [f"p={scores[patch]:.2f}" for _, patch in part]
            name = f"{scaled[1]} x {scaled[0]}" if begin == 0 else ""
            rows.append(draw_page(layout, [panels_of(pictures, size)], headings, title, row_titles=[name]))
            title = None
    return torch.cat(rows, dim=1)


def _kept_region(image: Tensor, result: ResultFields, number: int) -> Tensor:
    """The image, tinted red where there is no kept window."""
    covered = torch.zeros(image.shape[1:], dtype=torch.bool)
    for x1, y1, x2, y2 in window_boxes(result.windows[number][result.kept[number]], image).tolist():
        covered[int(y1) : int(-(-y2 // 1)), int(x1) : int(-(-x2 // 1))] = True
    picture = image.cpu().float()
    red = torch.tensor(_REMOVED, dtype=torch.float32).view(3, 1, 1)
    return torch.where(covered, picture, 0.45 * picture + 0.55 * red).round().to(torch.uint8)
