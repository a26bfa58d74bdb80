"""Files of the pictures and maps: PNG, GIF, NPZ."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sess_lightning.callback.explainer import Explained
from sess_lightning.render.picture import as_pillow

_MILLISECONDS, _LAST_MILLISECONDS = 700, 2100  # duration of a sheet of the GIF, and of the last one


def new_folder(parent: Path, tag: str, stage: str) -> Path:
    """Make the folder for the files of one run, named after the tag, and after the stage where that is no `fit`.

    The folders of earlier runs stay: the next is `NAME-v1`, as `ModelCheckpoint` names its files.

    Args:
        parent: created if it does not exist.
        tag: tag of the picture, e.g. `sess/maps`.
        stage: `"fit"`, `"validate"` or `"test"`.
    """
    name = tag.replace("/", "_") + ("" if stage == "fit" else f"_{stage}")
    for number in count():
        folder = parent / (f"{name}-v{number}" if number else name)
        try:  # two runs at a time may look for a name
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("there is always a next number")


def save_validation(folder: Path, step: int, grid: Tensor, found: Explained) -> None:
    """Write `STEP.png`, the grid, and `STEP.npz`, the maps drawn on it, into a folder.

    The archive holds `map_0`, `base_map_0`, `map_1` and so on, float32 `(H, W)`, `second_map_0` where a second class
    was explained too, and `targets`, `labels` (-1 where unknown), `predictions`, `scores` and `valid`, one each per
    sample.

    Args:
        folder: of `new_folder`.
        step: `trainer.global_step`.
        grid: `(3, H, W)` uint8.
        found: the samples in the grid.
    """
    folder.mkdir(parents=True, exist_ok=True)  # where it was removed during the run
    as_pillow(grid).save(folder / f"{step:08d}.png")
    arrays: dict[str, Any] = {f"map_{i}": one.float().numpy() for i, one in enumerate(found.maps)}
    arrays |= {f"base_map_{i}": one.float().numpy() for i, one in enumerate(found.base_maps)}
    arrays |= {f"second_map_{i}": one.float().numpy() for i, one in enumerate(found.second_maps) if one is not None}
    arrays |= {name: getattr(found, name).numpy() for name in ("targets", "labels", "predictions", "scores", "valid")}
    np.savez_compressed(folder / f"{step:08d}.npz", **arrays)


def save_evolution(folder: Path, tag: str, strip: Tensor, sheets: Sequence[Tensor]) -> None:
    """Write the filmstrip as PNG and the sheets as a GIF that repeats, both named after the tag.

    Files of an earlier `fit` stay: the next are `NAME-v1`, as `ModelCheckpoint` names its files.

    Args:
        folder: created if it does not exist.
        tag: tag of the picture, e.g. `sess/evolution`.
        strip: `(3, H, W)` uint8.
        sheets: `(3, H, W)` uint8 each, all of one size; at least one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = _unused(folder, tag.replace("/", "_"))
    as_pillow(strip).save(folder / f"{name}.png")
    # All sheets share the 256 colours of the last one, which shows most of the colour map: with palettes of their own
    # the colours of still parts would flicker from sheet to sheet.
    last = as_pillow(sheets[-1]).quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    frames = [as_pillow(sheet).quantize(palette=last, dither=Image.Dither.NONE) for sheet in sheets[:-1]]
    durations = [_MILLISECONDS] * len(frames) + [_LAST_MILLISECONDS]
    first, *others = [*frames, last]
    first.save(folder / f"{name}.gif", save_all=True, append_images=others, duration=durations, loop=0, optimize=False)


def _unused(folder: Path, name: str) -> str:
    names = chain([name], (f"{name}-v{i}" for i in count(1)))
    return next(name for name in names if not any((folder / f"{name}.{kind}").exists() for kind in ("png", "gif")))
