"""Pictures of saliency: overlays, boxes and peaks, captioned grids, filmstrips, the paper's figures.

Tensors in, uint8 tensors out. Nothing here knows a logger or a trainer; text is drawn by Pillow with the font that it
brings along. Pages are dark cards that read on light and on dark ground, in colours that the colour-blind can tell
apart, and no meaning hangs on a hue alone.
"""

from sess_lightning.render.colormap import colorize, denormalize, normalization_misfit, overlay
from sess_lightning.render.explanation import PhotoRow, explanation_page
from sess_lightning.render.figures import patches_figure, prefilter_figure, smoothing_figure
from sess_lightning.render.grid import MapRow, filmstrip, map_grid
from sess_lightning.render.marks import draw_boxes, draw_peak

__all__ = [
    "MapRow",
    "PhotoRow",
    "colorize",
    "denormalize",
    "draw_boxes",
    "draw_peak",
    "explanation_page",
    "filmstrip",
    "map_grid",
    "normalization_misfit",
    "overlay",
    "patches_figure",
    "prefilter_figure",
    "smoothing_figure",
]
