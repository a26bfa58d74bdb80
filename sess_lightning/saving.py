"""The pictures and maps of a validation as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from sess_lightning.explaining import Explained


def save_validation(folder: Path, tag: str, step: int, grid: Tensor, found: Explained) -> None:
    """Write `STEP.png`, the grid, and `STEP.npz`, the maps drawn on it, into a folder named after the tag.

    The archive holds `map_0`, `base_map_0`, `map_1` and so on, float32 `(H, W)`, and `targets`, `labels` (-1 where
    unknown), `predictions`, `scores` and `valid`, one each per sample.

    Args:
        folder: made if it is not there.
        tag: of the picture, e.g. `sess/maps`.
        step: `trainer.global_step`.
        grid: `(3, H, W)` uint8.
        found: the samples drawn.
    """
    place = folder / tag.replace("/", "_")
    place.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid.permute(1, 2, 0).contiguous().numpy()).save(place / f"{step:08d}.png")
    arrays = {f"map_{i}": one.float().numpy() for i, one in enumerate(found.maps)}
    arrays |= {f"base_map_{i}": one.float().numpy() for i, one in enumerate(found.base_maps)}
    arrays |= {name: getattr(found, name).numpy() for name in ("targets", "labels", "predictions", "scores", "valid")}
    np.savez_compressed(place / f"{step:08d}.npz", allow_pickle=False, **arrays)
