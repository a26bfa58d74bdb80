"""A dark page drawn by matplotlib, measured in pixels from the top left.

Only matplotlib's object-oriented interface with the Agg canvas is used: no pyplot, no figure manager. All colours,
fonts and sizes are passed explicitly; `rcParams` belong to the user, and changing them even for a moment would be seen
by other threads. matplotlib is imported when the first page is made.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from sess_lightning.render.page import PAGE, TEXT, Colour
from sess_lightning.render.text import font_of, font_path, printable, shortened

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

_DPI = 72  # a point, matplotlib's unit of text and lines, is then one pixel


def shade(colour: Colour) -> tuple[float, float, float]:
    """A colour as matplotlib takes it, in [0, 1]."""
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


def drawn_and_freed(draw: Callable[[], Tensor]) -> Tensor:
    """Returns the picture that `draw` makes of pages of its own, and frees them at once.

    The parts of a matplotlib figure refer to each other, thousands of objects, so only the garbage collector frees it,
    and only in a full collection: those that come while it is drawn take it for older than it is. A full collection is
    rare in a process with as many objects as a training: tens of megabytes of dead figures would wait for it. Without
    collections in between the figure stays in the youngest generation, whose collection takes about a millisecond.

    Args:
        draw: whose pages nothing outside of it refers to.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return draw()
    finally:
        if enabled:
            gc.enable()
        gc.collect(0)


class PlotPage:
    """A figure of `width` x `height` pixels; `transform` maps pixels from the top left to the figure.

    Make it in a function for `drawn_and_freed`.

    Args:
        width: of the page in pixels.
        height: of the page in pixels.
        font_size: of all text, in pixels.
    """

    def __init__(self, width: int, height: int, font_size: int) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.transforms import Affine2D

        size = width / _DPI, height / _DPI
        self.figure = Figure(size, dpi=_DPI, facecolor=shade(PAGE), linewidth=0)
        self.figure.set_layout_engine("none")  # everything has its place, whatever `figure.autolayout` says
        self.transform = Affine2D().scale(1, -1).translate(0, height)
        self.width, self.height, self.font_size = width, height, font_size
        self._canvas = FigureCanvasAgg(self.figure)

    def text_style(self, colour: Colour) -> dict[str, Any]:
        """Properties of a matplotlib text in which `$` is a character like any other."""
        from matplotlib.font_manager import FontProperties

        font = FontProperties(fname=font_path(), size=self.font_size)
        return {"fontproperties": font, "color": shade(colour), "usetex": False, "parse_math": False}

    def fitting(self, text: str, width: float) -> str:
        """The text in characters of the font, shortened to `width` pixels."""
        return shortened(printable(text), font_of(self.font_size), width)

    def write(
        self,
        x: float,
        middle: float,
        text: str,
        colour: Colour,
        width: float,
        align: Literal["left", "center"] = "left",
    ) -> None:
        """Write one line of text, shortened to `width` pixels, at `x`, with its vertical centre at `middle`."""
        words = self.fitting(text, width)
        self.figure.text(x, middle, words, transform=self.transform, ha=align, va="center", **self.text_style(colour))

    def place(self, picture: Tensor, x: int, y: int) -> None:
        """Place a picture `(3, H, W)` uint8 pixel by pixel, with its top left corner at `(x, y)`."""
        array = picture.permute(1, 2, 0).contiguous().numpy()
        self.figure.figimage(array, x, self.height - y - picture.shape[1], origin="upper")

    def add(self, artist: Artist) -> None:
        """Add an artist that was made with `transform=self.transform`, i.e. whose coordinates are pixels."""
        self.figure.add_artist(artist)

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes without frame and tick marks whose data area has its top left corner at `(x, y)`."""
        bottom = 1 - (y + height) / self.height
        axes = self.figure.add_axes((x / self.width, bottom, width / self.width, height / self.height), frameon=False)
        axes.set_axisbelow(True)
        axes.tick_params(length=0, pad=0.7 * self.font_size)
        return axes

    def legend(self, handles: Sequence[Artist], labels: Sequence[str], x: float, y: float, width: float) -> None:
        """A legend in one line with its top left corner at `(x, y)`; labels are shortened to fit `width` pixels."""
        room = width / len(labels) - 5 * self.font_size
        style = self.text_style(TEXT)
        legend = self.figure.legend(
            handles,
            [self.fitting(label, room) for label in labels],
            loc="upper left",
            bbox_to_anchor=(x, y),
            bbox_transform=self.transform,
            ncols=len(labels),
            frameon=False,
            borderpad=0,
            borderaxespad=0,
            handlelength=2.5,
            handletextpad=0.6,
            columnspacing=1.5,
            prop=style["fontproperties"],
        )
        for text in legend.get_texts():
            text.set(**style)

    def pixels(self) -> Tensor:
        """The page as a tensor `(3, height, width)` uint8."""
        self._canvas.draw()
        drawn = np.asarray(self._canvas.buffer_rgba())[..., :3]
        return torch.from_numpy(drawn.copy()).permute(2, 0, 1).contiguous()
