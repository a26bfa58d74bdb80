"""Measures time and peak memory on one device."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

_STATM = Path("/proc/self/statm")


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Returns the time of one call in seconds; the device is synchronised before and after it."""
    _synchronize(device)
    begin = time.perf_counter()
    work()
    _synchronize(device)
    return time.perf_counter() - begin


def alternate(works: Sequence[Callable[[], object]], device: torch.device, repeats: int) -> list[list[float]]:
    """Returns the times of each function in seconds.

    The functions run in turn, so that a slow phase of the machine affects all of them alike.
    """
    times: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for work, own in zip(works, times, strict=True):
            own.append(seconds(work, device))
    return times


def fastest(
    works: Sequence[Callable[[], object]], amounts: Sequence[int], device: torch.device, repeats: int = 3
) -> int:
    """Returns the index of the function with the smallest median time per unit of its amount.

    One untimed round runs first.
    """
    for work in works:
        work()
    times = alternate(works, device, repeats)
    return min(range(len(works)), key=lambda number: median(times[number]) / amounts[number])


def peak_megabytes(work: Callable[[], object], device: torch.device) -> float:
    """Returns the peak memory during one call in MiB: allocated on CUDA, resident on a CPU (NaN if not readable)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) / 2**20
    if not _STATM.exists():
        work()
        return float("nan")
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, int(_STATM.read_text(encoding="ascii").split()[1]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        work()
    finally:
        done.set()
        thread.join()
    return peak * 4096 / 2**20


@contextmanager
def float32_products(tf32: bool) -> Iterator[None]:
    """Decide whether a GPU rounds the factors of float32 products to TF32; as it was before, afterwards.

    torch's default is neither: it rounds in convolutions only.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
