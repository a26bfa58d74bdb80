"""The layer that a class activation map reads, and how what it gives lies on the image."""

from sess_lightning.layers.grids import Reshape, is_map, to_grid, tokens_to_grid
from sess_lightning.layers.search import find_reshape, find_target_layer, get_layer, locate

__all__ = ["Reshape", "find_reshape", "find_target_layer", "get_layer", "is_map", "locate", "to_grid", "tokens_to_grid"]
