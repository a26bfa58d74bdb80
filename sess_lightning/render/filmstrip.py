"""Filmstrips, which show the same images over the epochs, and contact sheets, which show many pictures at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sess_lightning.render.map_grid import MapRow, _row_panels
from sess_lightning.render.page import BoardLayout, draw_page
from sess_lightning.render.panel import panel_size, panels_of
from sess_lightning.render.picture import check_picture
from sess_lightning.render.text import printable


def contact_sheet(pictures: Sequence[Tensor], title: str, names: Sequence[str]) -> Tensor:
    """Draw pictures in rows of four, or of more if there are more than sixteen, without resizing them.

    Args:
        pictures: `(3, h, w)` uint8 on the CPU, all of one size.
        title: one line on top.
        names: the heading of each picture.

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


def filmstrip(
    rows: Sequence[Sequence[Tensor]],
    column_titles: Sequence[str],
    row_titles: Sequence[str] | None = None,
    title: str | None = None,
    panel_height: int = 224,
) -> Tensor:
    """Draw rows of pictures under column headings, e.g. the same images over the epochs.

    Args:
        rows: the pictures of each row, `(3, H, W)` uint8 of any sizes, one for each of `column_titles`.
        column_titles: the heading of each column.
        row_titles: the title at the left of each row, or None.
        title: one line on top, or None.
        panel_height: height of each picture in pixels, at least 32; 224 as in `map_grid`.

    Returns:
        `(3, height, width)` uint8 on the CPU.

    Raises:
        ValueError: if there is no picture, a row or the titles do not match the number of columns or rows, a picture is
            not `(3, H, W)` uint8, or `panel_height` is not an int of at least 32.

    Example:
        >>> red = torch.tensor([255, 0, 0], dtype=torch.uint8).expand(8, 8, 3).permute(2, 0, 1)
        >>> filmstrip([[red, red]], ["epoch 1", "epoch 2"], panel_height=64).shape
        torch.Size([3, 102, 158])
    """
    if not len(rows) or not len(column_titles):
        raise ValueError(
            "Expected arguments `rows` and `column_titles` to hold at least one row and one column, but got none."
        )
    for number, row in enumerate(rows):
        if len(row) != len(column_titles):
            raise ValueError(
                f"Expected row {number} of argument `rows` to have {len(column_titles)} pictures, one for each of "
                f"`column_titles`, but got {len(row)}."
            )
        for column, picture in enumerate(row):
            check_picture(f"rows[{number}][{column}]", picture)
    if row_titles is not None and len(row_titles) != len(rows):
        raise ValueError(
            f"Expected argument `row_titles` to have {len(rows)} titles, one for each row, but got {len(row_titles)}."
        )
    size = panel_size([picture for row in rows for picture in row], panel_height)
    panels = [panels_of(row, size) for row in rows]
    layout, names = BoardLayout(*size, columns=len(column_titles)), row_titles or ()
    longest = max((layout.font.getlength(printable(name)) for name in names), default=-layout.gap)
    layout = layout._replace(side=min(layout.width, int(longest) + 1 + layout.gap) if names else 0)
    return draw_page(layout, panels, column_titles, title, row_titles=names)


def film_panels(row: MapRow, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The row's image with its boxes, and its SESS map, each as a panel `(3, *size)`."""
    image, saliency = _row_panels(row, size, has_base=False)
    return image, saliency
