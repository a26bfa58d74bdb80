"""Table 3 of the paper on the user's photos: the pointing game of base methods, alone and with SESS."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from sess_lightning.benchmark.compared_maps import Compared, compared_maps
from sess_lightning.benchmark.intervals import Interval, class_mean_interval
from sess_lightning.benchmark.job import Job
from sess_lightning.benchmark.plots import Bars, draw_bars
from sess_lightning.benchmark.tables import Row, markdown, pairs
from sess_lightning.metrics.objects import ClassObjects, class_objects
from sess_lightning.sess import SESS

NAME = "pointing"
SMALL, DIFFICULT = 0.15, 0.25  # of the image

Rule = Callable[[Row], bool]
SUBSETS: dict[str, Rule] = {
    "all": lambda row: True,
    "difficult": lambda row: float(row["area"]) < DIFFICULT and bool(row["distractor"]),  # type: ignore[arg-type]
    "small": lambda row: float(row["area"]) < SMALL,  # type: ignore[arg-type]
    "several": lambda row: int(row["instances"]) > 1,  # type: ignore[call-overload]
    "distractor": lambda row: bool(row["distractor"]),
}


def pointing(
    data: str,
    model: str = "resnet50",
    weights: str = "DEFAULT",
    methods: str = "gradcam,guidedbp,groupcam",
    limit: int | None = None,
    seed: int = 0,
    tolerance: float = 15,
    num_scales: int = 10,
    scales: str | None = None,
    ratio: float = 0.99,
    window: int = 224,
    activation: str = "softmax",
    batch_size: int | None = None,
    devices: int = 1,
    accelerator: str = "auto",
    precision: str = "32",
    root: str | None = None,
    out: str = NAME,
) -> None:
    """Table 3: pointing accuracy of base methods alone and with SESS, in percent.

    One question for each photo and class present in it: does the peak of the map lie on, or within the tolerance of, an
    object of the class? Classes whose objects are all marked difficult (VOC) are not asked. Figures are means over
    classes, of all questions and of those that are `difficult` (the class covers less than a quarter of the image, and
    another class is present), `small` (less than 15 %), `several` (more than one object of the class) and `distractor`
    (another class is present). SESS works on the photo itself, the method alone on the photo squashed to the window.
    Rows are written as they come: a killed run, started again, goes on where it was.

    Args:
        data: a folder of photos in COCO format, or voc07, coco14.
        model: networks by name, separated by commas.
        weights: a path or DEFAULT for each, separated by commas.
        methods: base methods by name, separated by commas.
        limit: so many photos, chosen by the seed; all if left out.
        seed: of the choice.
        tolerance: in pixels; 15 is the benchmark's, 0 the strictest. The rows hold distances, so a finished run is
            judged again by another tolerance at no cost.
        num_scales: scales of SESS; the paper has 10.
        scales: the short sides in pixels instead, separated by commas.
        ratio: of the pre-filter; the paper has 0.99.
        window: in pixels.
        activation: softmax, or sigmoid for multi-label networks.
        batch_size: patches per forward; the device's default if left out.
        devices: processes, one a device.
        accelerator: of Lightning: auto, cpu, gpu.
        precision: "32", or "bf16" for autocast: faster where the device can, the last digits differ.
        root: where the named data set lies.
        out: folder for pointing.csv, .md and .png.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"Expected argument `tolerance` to be a number of pixels, at least 0, but got {tolerance!r}.")
    if data.lower() == "imagenet":
        raise ValueError(
            "Expected argument `data` to be photos with objects: a folder, voc07 or coco14. imagenet has labels only."
        )
    job = Job(NAME, data, root, limit, seed, model, weights, devices, accelerator, precision, out)
    compared = Compared(methods, num_scales, scales, ratio, window, batch_size, activation)
    rows = job.walk(_Measure(compared.build()), compared.settings())
    if rows is None:
        return
    shown = {name: rule for name, rule in SUBSETS.items() if any(map(rule, rows))}
    panels = [Bars(name, "accuracy, %", _bar_values(rows, rule, tolerance)) for name, rule in shown.items()]
    draw_bars(Path(out) / f"{NAME}.png", panels)
    heading = f"{job.described()}, {compared.described()}, tolerance {tolerance:g} pixels."
    job.finish(f"{heading}\n\n{table(rows, tolerance)}\n{remarks(rows)}")


@dataclass(frozen=True)
class _Measure:
    algorithms: dict[str, SESS]

    def __call__(self, models: Mapping[str, nn.Module], image: Tensor, target: Mapping[str, Any]) -> list[Row]:
        asked = {c: class_objects(target, c) for c in sorted(set(target["labels"].tolist()))}
        questions = {c: objects for c, objects in asked.items() if objects is not None}
        if not questions:
            return []
        rows: list[Row] = []
        for name, model in models.items():
            found = compared_maps(self.algorithms, model, image, list(questions))
            for (label, objects), maps in zip(questions.items(), found, strict=True):
                rows += [
                    {
                        "model": name,
                        "method": one.method,
                        "sess": one.sess,
                        "class": label,
                        **_judged(one.saliency, objects),
                    }
                    for one in maps
                ]
        return rows


def _judged(saliency: Tensor, objects: ClassObjects) -> dict[str, Any]:
    """How far the peak is from the objects, and what kind of question it was; a constant map points to its corner."""
    fitted = objects.fit(saliency)
    region = objects.region(fitted).cpu()
    return {
        "distance": peak_distance(fitted.cpu(), region),
        "area": float(region.double().mean()),
        "instances": len(objects.boxes),
        "distractor": objects.distractor,
    }


def peak_distance(saliency: Tensor, region: Tensor) -> float | None:
    """Pixels from the highest point of the map (the first of equals) to the nearest pixel of the region; 0 inside it.

    Args:
        saliency: `(H, W)`.
        region: `(H, W)` bool.

    Returns:
        None where the region is empty, e.g. objects outside of the image.
    """
    if not region.any():
        return None
    index = int(saliency.argmax())
    y, x = divmod(index, saliency.shape[1])
    rows, columns = region.nonzero(as_tuple=True)
    return math.sqrt(int(((rows - y) ** 2 + (columns - x) ** 2).min()))


def is_hit(distance: object, tolerance: float) -> bool:
    """Whether a peak at this distance hits: strictly nearer than the tolerance, or inside, as in `pointing_hits`."""
    return distance is not None and (distance == 0 or float(distance) < tolerance)  # type: ignore[arg-type]


def table(rows: list[Row], tolerance: float) -> str:
    """Table 3 as Markdown: mean over classes in percent with its interval; the paired difference; questions counted."""
    lines = []
    for (model, method), base, sess in pairs(rows):
        for with_sess, own in ((False, base), (True, sess)):
            line: dict[str, Any] = {"method": method, "model": model, "SESS": "yes" if with_sess else "no"}
            for name, rule in SUBSETS.items():
                line[_column(rows, name)] = accuracy([row for row in own if rule(row)], tolerance)
            line["all, SESS - base"] = difference(base, sess, tolerance) if with_sess else None
            lines.append(line)
    formats = {"method": "", "model": "", "SESS": ""}
    columns = [*(_column(rows, name) for name in SUBSETS), "all, SESS - base"]
    return markdown(lines, {**formats, **dict.fromkeys(columns, ".1f")})


def _column(rows: list[Row], subset: str) -> str:
    """A subset's name and how many questions it has."""
    asked = {(row["photo"], row["class"]) for row in rows if SUBSETS[subset](row)}
    return f"{subset} ({len(asked)})"


def remarks(rows: list[Row]) -> str:
    """What a reader of the table should know about its columns."""
    if any(SUBSETS["difficult"](row) for row in rows):
        return ""
    return "\n`difficult` is empty: no photo has a class of less than a quarter of the image beside another class.\n"


def accuracy(rows: list[Row], tolerance: float) -> Interval:
    """Mean over classes of the share of hits, in percent, with its interval over photos."""
    return class_mean_interval(*_counts(rows, lambda row: 100.0 * is_hit(row["distance"], tolerance)))


def difference(base: list[Row], sess: list[Row], tolerance: float) -> Interval:
    """What SESS adds to the accuracy, question by question."""
    before = {(row["photo"], row["class"]): is_hit(row["distance"], tolerance) for row in base}

    def gain(row: Row) -> float:
        return 100.0 * (is_hit(row["distance"], tolerance) - before[row["photo"], row["class"]])

    return class_mean_interval(*_counts(sess, gain))


def _counts(rows: list[Row], value: Callable[[Row], float]) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the values and numbers of questions, `(photos, classes)` each."""
    photos = {photo: i for i, photo in enumerate(dict.fromkeys(row["photo"] for row in rows))}
    classes = {label: i for i, label in enumerate(dict.fromkeys(row["class"] for row in rows))}
    sums, counts = np.zeros((2, len(photos), len(classes)))
    for row in rows:
        place = photos[row["photo"]], classes[row["class"]]
        sums[place] += value(row)
        counts[place] += 1
    return sums, counts


def _bar_values(rows: list[Row], rule: Rule, tolerance: float) -> dict[str, list[Interval]]:
    return {
        f"{method}\n{model}": [accuracy([row for row in own if rule(row)], tolerance) for own in (base, sess)]
        for (model, method), base, sess in pairs(rows)
    }
