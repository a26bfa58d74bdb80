"""A contact sheet: several pictures of one size, each under its name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sess_lightning.render.colormap import check_picture
from sess_lightning.render.page import BoardLayout, draw_page


def contact_sheet(pictures: Sequence[Tensor], title: str, names: Sequence[str]) -> Tensor:
    """Pictures in rows of four, or more where there are more than sixteen, at the size that they have.

    Args:
        pictures: `(3, h, w)` uint8 on the CPU, all of one size.
        title: stands on top.
        names: one above each picture.

    Returns:
        `(3, height, width)` uint8.

    Raises:
        ValueError: if there is no picture, one is not `(3, h, w)` uint8, or sizes or numbers differ.

    Example:
        >>> contact_sheet([torch.zeros(3, 32, 48, dtype=torch.uint8)] * 6, "epoch 3", ["disc"] * 6).shape
        torch.Size([3, 163, 242])
    """
    for number, picture in enumerate(pictures):
        check_picture(f"pictures[{number}]", picture)
    if len({picture.shape for picture in pictures}) != 1 or len(names) != len(pictures):
        raise ValueError(
            "Expected arguments `pictures` and `names` to hold as many, at least one, all of one size, but got "
            f"{[tuple(picture.shape) for picture in pictures][:4]} and {len(names)} names."
        )
    columns = min(len(pictures), max(4, math.ceil(len(pictures) ** 0.5)))
    layout = BoardLayout(pictures[0].shape[1], pictures[0].shape[2], columns)
    rows = []
    for begin in range(0, len(pictures), columns):
        some = slice(begin, begin + columns)
        rows.append(draw_page(layout, [pictures[some]], names[some], None if begin else title))
    return torch.cat(rows, dim=1)
