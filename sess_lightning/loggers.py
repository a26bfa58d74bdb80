"""One picture to every logger that can show it."""

from __future__ import annotations

from collections.abc import Sequence

from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor


def log_image(loggers: Sequence[Logger], tag: str, image: Tensor, step: int) -> list[str]:
    """Write a picture `(3, H, W)` uint8 to every logger that can show it.

    Returns:
        The kinds of logger that cannot, so that the caller may say so once.
    """
    unable = []
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(tag, image, global_step=step)
        else:
            unable.append(type(logger).__name__)
    return unable
