"""`max_seconds`: how many of the followed samples a validation explains."""

from __future__ import annotations

_PART = 8  # samples between two looks at the clock, or a quarter of all where that is less
_AIM = 0.8  # of the time, when the samples are chosen: validations differ, and none shall have to leave one out


class Pace:
    """How many samples of one loader there is time for: chosen in the first validation, later only lowered.

    With the first sample of the first validation come the search for the layer, caches and kernels: it is left out of
    the estimate, and `excess`, what it took longer than the others, does not count as time used.

    Attributes:
        limit: samples explained in every validation; `None` before the first that ended well.
        done: samples explained in this validation.
        aim: share of the time that this validation may fill.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        self.begin()

    def begin(self) -> None:
        """Start a validation."""
        self.done = 0
        self._over = False  # once a sample has been left out, so are those behind it: the set is always the first ones
        self._measured, self._seconds, self._warm_up = 0, 0.0, 0.0

    @property
    def aim(self) -> float:  # noqa: D102
        return _AIM if self.limit is None else 1.0

    @property
    def excess(self) -> float:
        """Seconds that the first sample took longer than the others; all of its time while there are no others."""
        return max(0.0, self._warm_up - self._seconds / self._measured) if self._measured else self._warm_up

    def part(self, count: int, left: float) -> int:
        """Returns how many of the next `count` samples to explain now, given the seconds left; 0: no more."""
        if self._over:
            return 0
        if self.limit is None:
            most = min(count, _PART if self.done > 1 else 1)  # first the warm-up, then one to measure
        else:
            most = min(count, _PART, max(1, self.limit // 4), self.limit - self.done)
        if self.done and left <= 0:  # one is explained in any case, or there would be no number at all
            most = 0
        elif self.done and self._seconds:
            most = min(most, int(left * self._measured / self._seconds))
        self._over = most == 0
        return most

    def add(self, count: int, seconds: float) -> None:
        """Take note of `count` further samples, which took so many seconds."""
        if self.limit is None and not self.done:
            self._warm_up = seconds
        else:
            self._measured, self._seconds = self._measured + count, self._seconds + seconds
        self.done += count

    def close(self) -> int | None:
        """End a validation that went well; returns the limit until now where it is lowered, else `None`."""
        before, self.limit = self.limit, self.done
        return before if before is not None and self.done < before else None
