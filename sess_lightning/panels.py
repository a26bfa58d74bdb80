"""The picture of one validation: what was found about the first samples, as rows of `render.map_grid`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from sess_lightning.explaining import Explained
from sess_lightning.metrics.objects import class_objects, is_empty
from sess_lightning.render import MapRow, denormalize, map_grid

ClassNames = Sequence[str] | Mapping[int, str]


def draw_grid(
    found: Explained,
    count: int,
    mean: Sequence[float],
    std: Sequence[float],
    title: str,
    class_names: ClassNames | None = None,
) -> Tensor:
    """Draw the first `count` samples: the image with its boxes, the base map, the SESS map.

    Returns:
        `(3, H, W)` uint8.
    """
    rows = [_row(found, i, mean, std, class_names) for i in range(min(count, len(found)))]
    return map_grid(rows, title)


def _row(
    found: Explained, i: int, mean: Sequence[float], std: Sequence[float], class_names: ClassNames | None
) -> MapRow:
    target, objects = int(found.targets[i]), found.objects[i]
    base = found.base_maps[i] if found.base_maps else None
    return MapRow(
        image=denormalize(found.images[i], mean, std),
        base=base,
        sess=found.maps[i],
        boxes=_boxes(objects, target),
        label=_name(int(found.labels[i]), class_names),
        prediction=_name(int(found.predictions[i]), class_names) or "",
        score=float(found.scores[i]),
        hit=_hit(found.maps[i], objects, target, bool(found.valid[i])),
        explained=_name(target, class_names),
        base_hit=None if base is None else _hit(base, objects, target, bool(found.base_valid[i])),
    )


def _name(target: int, class_names: ClassNames | None) -> str | None:
    if target < 0:
        return None
    try:
        return str(target) if class_names is None else class_names[target]
    except (KeyError, IndexError):
        return str(target)


def _boxes(objects: dict[str, Tensor] | None, target: int) -> Tensor | None:
    if objects is None or "boxes" not in objects:
        return None
    return objects["boxes"].reshape(-1, 4)[objects["labels"].reshape(-1) == target]


def _hit(saliency: Tensor, objects: dict[str, Tensor] | None, target: int, valid: bool) -> bool | None:
    """Whether the peak lies on an object of the class, exactly: a tolerance is the metric's, not the picture's."""
    if objects is None or not valid or is_empty(objects):
        return None
    found = class_objects(objects, target)
    if found is None:
        return None
    fitted = found.fit(saliency)
    return bool(found.region(fitted).flatten()[fitted.argmax()])
