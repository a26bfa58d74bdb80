"""Pictures of saliency: overlays, boxes and peaks, captioned grids, filmstrips, charts, the paper's figures.

Tensors in, uint8 tensors out. Nothing here knows a logger or a trainer. Charts and the figure of the process are drawn
by matplotlib, which is imported when first needed; all other pages by Pillow, which is faster. Both use the font that
matplotlib ships, DejaVu Sans. Pages are dark cards that can be read on light and on dark backgrounds, in colours that
the colour-blind can tell apart; hue is never the only difference.
"""

from sess_lightning.render.charts import Bar, Line, bars_figure, curves_figure
from sess_lightning.render.colormap import colorize, overlay
from sess_lightning.render.filmstrip import contact_sheet, film_panels, filmstrip
from sess_lightning.render.map_grid import MapRow, map_grid
from sess_lightning.render.marks import draw_boxes, draw_circle, draw_peak
from sess_lightning.render.normalization import denormalize, drawn_channels, normalization_misfit
from sess_lightning.render.paper_figures import patches_figure, prefilter_figure, smoothing_figure
from sess_lightning.render.photo_page import PhotoRow, explanation_page
from sess_lightning.render.process_figure import process_figure

__all__ = [
    "Bar",
    "Line",
    "MapRow",
    "PhotoRow",
    "bars_figure",
    "colorize",
    "contact_sheet",
    "curves_figure",
    "denormalize",
    "draw_boxes",
    "draw_circle",
    "draw_peak",
    "drawn_channels",
    "explanation_page",
    "film_panels",
    "filmstrip",
    "map_grid",
    "normalization_misfit",
    "overlay",
    "patches_figure",
    "prefilter_figure",
    "process_figure",
    "smoothing_figure",
]
