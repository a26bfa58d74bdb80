"""The maps of the same samples over the validations of one `fit`: small panels on the CPU, a bounded number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sess_lightning.callback.explainer import Place
from sess_lightning.render import MapRow, contact_sheet, film_panels, filmstrip
from sess_lightning.render.panel import evenly_spaced, panel_size

PANEL_HEIGHT = 112
COLUMNS = 12  # of the filmstrip: more would be too small to read on a screen
MOST_FRAMES = 48  # that are kept: with eight samples a frame takes 0.3 MB, so all take 15 MB


class Frame(NamedTuple):
    """One validation: `(3, h, w)` uint8 panels by sample."""

    epoch: int
    step: int
    panels: dict[Place, Tensor]


class Evolution:
    """Frames of one loader, in the order of the validations.

    The first and the last frame are always kept. Whenever there are more than `MOST_FRAMES`, every second of the others
    is dropped, so that those kept are evenly spaced and memory is bounded.
    """

    def __init__(self) -> None:
        self._kept: list[Frame] = []
        self._latest: Frame | None = None
        self._count, self._stride = 0, 1
        self._size: tuple[int, int] | None = None
        self._images: dict[Place, tuple[str, Tensor]] = {}  # name of the class and panel of the image

    def add(self, epoch: int, step: int, places: Sequence[Place], rows: Sequence[MapRow]) -> None:
        """Add a frame with the maps of these samples; all frames have the panel size of the first."""
        self._size = self._size or panel_size([row.image for row in rows], PANEL_HEIGHT)
        frame = Frame(epoch, step, {})
        for place, row in zip(places, rows, strict=True):
            image, frame.panels[place] = film_panels(row, self._size)
            self._images.setdefault(place, (row.label or row.explained or "", image))
        self._latest = frame
        if self._count % self._stride == 0:
            self._kept.append(frame)
            if len(self._kept) > MOST_FRAMES:
                self._kept, self._stride = self._kept[::2], 2 * self._stride
        self._count += 1

    @property
    def frames(self) -> list[Frame]:
        """The kept frames and the latest one."""
        if self._latest is None or self._latest is self._kept[-1]:
            return list(self._kept)
        return [*self._kept, self._latest]

    def strip(self) -> Tensor:
        """A row for each sample: the image, then its map in at most `COLUMNS` validations. `(3, H, W)` uint8."""
        frames = evenly_spaced(self.frames, COLUMNS)
        by_epoch = len({frame.epoch for frame in self.frames}) == len(self.frames)
        titles = [f"epoch {frame.epoch}" if by_epoch else f"step {frame.step}" for frame in frames]
        rows = [[image, *(self._panel(frame, place) for frame in frames)] for place, (_, image) in self._images.items()]
        names = [name for name, _ in self._images.values()]
        title = f"SESS, epoch {frames[0].epoch} to {frames[-1].epoch}"
        return filmstrip(rows, ["image", *titles], names, title, PANEL_HEIGHT)

    def sheets(self) -> list[Tensor]:
        """Returns a picture `(3, H, W)` uint8 of all samples for each frame, all of one size, for a GIF."""
        return [
            contact_sheet(
                [self._panel(frame, place) for place in self._images],
                f"SESS · epoch {frame.epoch} · step {frame.step}",
                [name for name, _ in self._images.values()],
            )
            for frame in self.frames
        ]

    def _panel(self, frame: Frame, place: Place) -> Tensor:
        """Returns the panel of a sample; black where the validation had no time to explain it."""
        return frame.panels.get(place, torch.zeros(3, *(self._size or (1, 1)), dtype=torch.uint8))
