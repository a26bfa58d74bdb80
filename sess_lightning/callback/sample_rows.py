"""The picture of one validation: the first samples as rows of `render.map_grid`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from sess_lightning.callback.explainer import Explained, second_classes
from sess_lightning.class_names import ClassNames, class_name
from sess_lightning.metrics.objects import is_empty
from sess_lightning.render import MapRow, denormalize, drawn_channels, map_grid


class DisplayOptions(NamedTuple):
    """How samples are shown.

    Attributes:
        mean: per-channel mean that the images were normalised with.
        std: per-channel standard deviation, likewise.
        tolerance: of the pointing metric, in pixels.
        class_names: by class index; `None` shows the index.
        bands: channels drawn as red, green and blue, or one drawn in grey; `None` draws the first three.
    """

    mean: Sequence[float]
    std: Sequence[float]
    tolerance: float = 0.0
    class_names: ClassNames | Sequence[str] | None = None
    bands: Sequence[int] | None = None

    def name(self, target: int) -> str | None:
        """Class name, or `None` if unknown."""
        return None if target < 0 else class_name(target, self.class_names)


def draw_grid(found: Explained, display: DisplayOptions, title: str) -> Tensor:
    """Draw samples: the image with its boxes, the base map, the SESS map, and the second map of misclassified ones.

    Returns:
        `(3, H, W)` uint8.
    """
    return map_grid(map_rows(found, display), title, second_heading=_second_heading(found))


def map_rows(found: Explained, display: DisplayOptions) -> list[MapRow]:
    """Returns a row of the grid for each sample."""
    return [_row(found, i, display) for i in range(len(found))]


def _row(found: Explained, i: int, display: DisplayOptions) -> MapRow:
    target, objects = int(found.targets[i]), found.objects[i]
    return MapRow(
        image=picture_of(found.images[i], display),
        base=found.base_maps[i] if found.base_maps else None,
        sess=found.maps[i],
        boxes=_boxes(objects, target),
        label=display.name(int(found.labels[i])),
        prediction=display.name(int(found.predictions[i])) or "",
        score=float(found.scores[i]),
        hit=found.hits[i],
        explained=display.name(target),
        base_hit=found.base_hits[i] if found.base_hits else None,
        second=found.second_maps[i],
        tolerance=display.tolerance * _pixels_of_the_image(found.maps[i], objects),
    )


def picture_of(image: Tensor, display: DisplayOptions) -> Tensor:
    """The image of a sample as a picture `(3, H, W)` uint8."""
    (drawn,), mean, std = drawn_channels([image], display.mean, display.std, display.bands)
    return denormalize(drawn, mean, std)


def _second_heading(found: Explained) -> str:
    classes = second_classes(found.targets, found.labels, found.predictions)
    shown = [i for i, saliency in enumerate(found.second_maps) if saliency is not None]
    if all(classes[i] == found.predictions[i] for i in shown):
        return "SESS of prediction"
    return "SESS of label" if all(classes[i] == found.labels[i] for i in shown) else "SESS of label or prediction"


def _boxes(objects: dict[str, Tensor] | None, target: int) -> Tensor | None:
    if objects is None or "boxes" not in objects:
        return None
    return objects["boxes"].reshape(-1, 4)[objects["labels"].reshape(-1) == target]


def _pixels_of_the_image(saliency: Tensor, objects: dict[str, Tensor] | None) -> float:
    """How many of the image's pixels one pixel of the objects is: not 1 where masks have a size of their own."""
    if objects is None or is_empty(objects) or "masks" not in objects:
        return 1.0
    return saliency.shape[0] / objects["masks"].shape[-2]
