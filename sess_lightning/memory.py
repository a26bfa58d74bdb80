"""What to do when a device runs out of memory: half as many images per forward."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

Result = TypeVar("Result")

# A CUDA or XPU device raises `torch.OutOfMemoryError`; a CPU, MPS and some libraries a RuntimeError with such words.
_WORDS = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that a device or the host has no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _WORDS)


class BatchLimit:
    """Images per forward that fit into memory: halved whenever it runs out, down to 1, and kept for later work.

    Args:
        who: runs out of memory, as the warning shall say.
        way_out: what the user can do, a sentence for the warning.
        warn: is given each warning, one a halving.
    """

    def __init__(self, who: str, way_out: str, warn: Callable[[str], None] = warnings.warn) -> None:
        self.who, self.way_out, self.warn = who, way_out, warn
        self.largest: int | None = None  # images per forward that may fit, once memory has run out

    def run(self, work: Callable[[int], Result], size: int) -> Result:
        """Run `work` on at most `size` images per forward, on half as many again after each lack of memory.

        Args:
            work: is given the images per forward, from 1 to `size`; starts anew when it is called again.
            size: images per forward that are wanted, at least 1.

        Raises:
            Exception: that of `work`; lack of memory only with one image per forward.
        """
        size = min(size, self.largest or size)
        while True:
            try:
                return work(size)
            except Exception as error:
                if size == 1 or not is_out_of_memory(error):
                    raise
            # Behind the clause: within it the exception holds the frames of `work`, and so all that filled the memory.
            size = self.largest = size // 2
            _free()
            self.warn(f"{self.who} ran out of memory and goes on with {size} images per forward. {self.way_out}")


def _free() -> None:
    """Give back to the device what nothing uses any more."""
    gc.collect()  # an exception that is kept in a frame it passed through is a circle
    getattr(torch.get_device_module(), "empty_cache", lambda: None)()
