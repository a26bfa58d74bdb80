"""Pictures and rows that the tests of drawing share."""

import dataclasses

import torch
from torch import Tensor

from sess_lightning.render import MapRow


def picture(height: int = 40, width: int = 60, value: int | None = None) -> Tensor:
    if value is not None:
        return torch.full((3, height, width), value, dtype=torch.uint8)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8)


def peaked(height: int, width: int, y: int, x: int) -> Tensor:
    saliency = torch.zeros(height, width)
    saliency[y, x] = 1
    return saliency


def row_of(height: int = 40, width: int = 60, **changes: object) -> MapRow:
    y, x = height // 2, width // 3
    row = MapRow(
        image=picture(height, width, 128),
        base=peaked(height, width, 0, 0),
        sess=peaked(height, width, y, x),
        boxes=torch.tensor([[x - 5.0, y - 5.0, x + 5.0, y + 5.0]]),
        label="square",
        prediction="disc",
        score=0.07,
        hit=True,
        base_hit=False,
    )
    return dataclasses.replace(row, **changes)


def is_colour(picture: Tensor, colour: tuple[int, int, int]) -> Tensor:
    """Where the picture has exactly this colour, (H, W)."""
    return (picture == torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1)).all(0)


def centre_of(picture: Tensor, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Middle of the pixels of a colour: y, x."""
    y, x = is_colour(picture, colour).nonzero().float().T
    return float(y.min() + y.max()) / 2, float(x.min() + x.max()) / 2
