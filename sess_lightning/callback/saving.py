"""Files of the pictures and maps: PNG, GIF, NPZ."""

from __future__ import annotations

import re
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


def file_pattern(folder: Path, stage: str) -> str:
    """Returns a pattern for the names of one run's files, by step: no file in the folder fits it yet.

    `00000012` of a `fit`, `validate-00000012` and `test-00000012` else; those of a second run end with `-v1`, and so
    on, as `ModelCheckpoint` names its files.

    Args:
        folder: need not exist.
        stage: `"fit"`, `"validate"` or `"test"`.
    """
    before = "" if stage == "fit" else f"{stage}-"
    taken = [path.stem for path in folder.glob("*")]
    endings = chain([""], (f"-v{number}" for number in count(1)))
    after = next(one for one in endings if not any(re.fullmatch(rf"{before}\d+{one}", name) for name in taken))
    return f"{before}{{:08d}}{after}"


def save_validation(folder: Path, name: str, grid: Tensor, found: Explained) -> None:
    """Write `NAME.png`, the grid, and `NAME.npz`, the maps drawn on it, into a folder.

    The archive holds `map_0`, `base_map_0`, `map_1` and so on, float32 `(H, W)`, `second_map_0` where a second class
    was explained too, and `targets`, `labels` (-1 where unknown), `predictions`, `scores` and `valid`, one each per
    sample.

    Args:
        folder: created if it does not exist.
        name: of a `file_pattern`.
        grid: `(3, H, W)` uint8.
        found: the samples in the grid.
    """
    folder.mkdir(parents=True, exist_ok=True)
    as_pillow(grid).save(folder / f"{name}.png")
    arrays: dict[str, Any] = {f"map_{i}": one.float().numpy() for i, one in enumerate(found.maps)}
    arrays |= {f"base_map_{i}": one.float().numpy() for i, one in enumerate(found.base_maps)}
    arrays |= {f"second_map_{i}": one.float().numpy() for i, one in enumerate(found.second_maps) if one is not None}
    arrays |= {
        field: getattr(found, field).numpy() for field in ("targets", "labels", "predictions", "scores", "valid")
    }
    np.savez_compressed(folder / f"{name}.npz", **arrays)


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
