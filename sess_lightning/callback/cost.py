"""What a validation's maps and numbers cost, told once: the time, its share of the run, and what would lower it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

MAPS, BASE_MAPS, METRICS, DRAWING = "SESS maps", "base maps", "metrics", "drawing"
_NOTABLE = 0.1  # share of the run's time from which on it is said how to lower it
_SHOWN = 0.05  # seconds: less would read 0.0
_FEW_STEPS = 7  # of insertion and deletion: a quarter of the default


class Timed:
    """Something that work is done for.

    Attributes:
        seconds: that work took.
    """

    seconds: float

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the time spent inside to `seconds`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start


class Cost:
    """Time by part of the work, in the first full validation of a fit; later ones are not measured.

    Attributes:
        seconds: by part.
        told: nothing is measured any more.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys((MAPS, BASE_MAPS, METRICS, DRAWING), 0.0)
        self.told = False
        self._began: float | None = None

    def begin(self) -> None:
        """The training begins, whose time the share is of; the sanity check before it does not count."""
        self._began = time.perf_counter()
        self.seconds = dict.fromkeys(self.seconds, 0.0)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Add the time spent inside to a part; work that an accelerator still has to do is waited for."""
        if self.told:
            yield
            return
        start = time.perf_counter()
        yield
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[part] += time.perf_counter() - start

    def message(self, seconds: float, num_samples: int, steps: int | None) -> str | None:
        """What to tell; `None` where the training has not begun, or all was told before.

        Args:
            seconds: that the callback took in this validation, all loaders together.
            num_samples: the argument of the callback.
            steps: the most steps of an insertion or deletion metric, `None` where there is none.
        """
        if self.told or self._began is None:
            return None
        self.told = True
        share = seconds / max(time.perf_counter() - self._began, seconds, 1e-9)
        parts = ", ".join(f"{part} {one:.1f} s" for part, one in self.seconds.items() if one >= _SHOWN)
        text = f"took {seconds:.1f} s in this validation, {share:.0%} of the time since the training began"
        text += f" ({parts})." if parts else "."
        return text + (_advice(self.seconds, num_samples, steps) if share > _NOTABLE else "")


def _advice(seconds: Mapping[str, float], num_samples: int, steps: int | None) -> str:
    """The two arguments that lower the cost most, with what they save."""
    per_sample = seconds[MAPS] + seconds[BASE_MAPS] + seconds[METRICS]
    ways = {"compare_base=False": seconds[BASE_MAPS] + seconds[METRICS] / 2 if seconds[BASE_MAPS] else 0.0}
    if num_samples > 1:
        ways[f"num_samples={num_samples // 2}"] = per_sample * (1 - (num_samples // 2) / num_samples)
    if steps is not None and steps > _FEW_STEPS:
        fewer = f"metrics= with InsertionAUC(steps={_FEW_STEPS}) and DeletionAUC(steps={_FEW_STEPS})"
        ways[fewer] = seconds[METRICS] * (1 - (_FEW_STEPS + 1) / (steps + 1))
    ways["num_images=0"] = seconds[DRAWING]
    best = sorted((way for way, saved in ways.items() if saved >= _SHOWN), key=lambda way: -ways[way])[:2]
    said = "; ".join(f"{way} saves about {ways[way]:.1f} s" for way in best)
    return f" To lower it: {said}." if said else ""
