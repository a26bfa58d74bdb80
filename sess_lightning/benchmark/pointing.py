"""Table 3 of the paper on the user's photos: pointing accuracy of base methods, alone and with SESS."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn

from sess_lightning.benchmark.compared_maps import Compared, compared_maps, num_patches
from sess_lightning.benchmark.job import Job
from sess_lightning.benchmark.plots import Bars, draw_bars
from sess_lightning.benchmark.tables import Row, markdown, pairs
from sess_lightning.intervals import Interval, class_mean_interval
from sess_lightning.jobs.options import PhotoOptions
from sess_lightning.metrics.controls import centre_map, hit_area
from sess_lightning.metrics.objects import ClassObjects, class_objects
from sess_lightning.metrics.pointing_game import check_tolerance
from sess_lightning.pixels import Size
from sess_lightning.sess import SESS

NAME = "pointing"
_GAIN = "all, SESS - base"
SMALL, DIFFICULT = 0.15, 0.25  # upper bounds of the area of the objects, as fractions of the image

Rule = Callable[[Row], bool]
SUBSETS: dict[str, Rule] = {
    "all": lambda row: True,
    "difficult": lambda row: float(row["area"]) < DIFFICULT and bool(row["distractor"]),  # type: ignore[arg-type]
    "small": lambda row: float(row["area"]) < SMALL,  # type: ignore[arg-type]
    "several": lambda row: int(row["instances"]) > 1,  # type: ignore[call-overload]
    "distractor": lambda row: bool(row["distractor"]),
}


def pointing(
    options: PhotoOptions,
    methods: str = "gradcam,guidedbp,groupcam",
    tolerance: float = 15,
    num_scales: int = 10,
    scales: str | None = None,
    ratio: float = 0.99,
    activation: str = "softmax",
    controls: bool = True,
    out: str = NAME,
) -> None:
    """Table 3: pointing accuracy of base methods alone and with SESS, in percent.

    There is one question for each photo and each class in it: does the peak of the map lie on an object of the class,
    or within the tolerance of one? Classes whose objects are all marked difficult (VOC) are skipped. Figures are means
    over classes, for all questions and for the subsets `difficult` (the class covers less than a quarter of the image,
    and another class is present), `small` (less than 15 %), `several` (more than one object of the class) and
    `distractor` (another class is present). SESS runs on the photo itself, the method alone on the photo resized to the
    window. Each row is written when it is measured: an interrupted run resumes where it stopped.

    Args:
        options: photos, networks and devices.
        methods: base methods by name, separated by commas.
        tolerance: in pixels; 15 is the benchmark's, 0 the strictest. The rows hold distances, so a finished run is
            judged again by another tolerance at no cost.
        num_scales: scales of SESS; the paper has 10.
        scales: the short sides in pixels instead, or multiples of the window (1.0,1.5), separated by commas.
        ratio: of the pre-filter; the paper has 0.99.
        activation: softmax, or sigmoid for multi-label networks.
        controls: also what the centre of the image and any of its pixels score: some milliseconds a question. Any pixel
            is known for this tolerance and for 0 only, when rows are judged again.
        out: folder for pointing.csv, .md and .png.
    """
    check_tolerance(tolerance)
    if options.data.lower() == "imagenet":
        raise ValueError(
            "Expected argument `data` to be photos with objects: a folder, voc07 or coco14. imagenet has labels only."
        )
    job = Job(NAME, out, options)
    compared = Compared(methods, num_scales, scales, ratio, options.window, options.batch_size, activation)
    algorithms = compared.build()
    settings = {**compared.settings(), **({"controls": True} if controls else {})}
    measure = _Measure(algorithms, tolerance if controls else None)
    rows = job.walk(measure, algorithms, settings, measure.cost, labels=True)
    if rows is None:
        return
    shown = {name: rule for name, rule in SUBSETS.items() if any(map(rule, rows))}
    panels = [Bars(name, "accuracy, %", _bar_values(rows, rule, tolerance)) for name, rule in shown.items()]
    draw_bars(Path(out) / f"{NAME}.png", panels)
    heading = f"{job.described()}, {compared.described()}, tolerance {tolerance:g} pixels."
    job.finish(f"{heading}\n\n{table(rows, tolerance)}\n{remarks(rows)}")


class _Question(NamedTuple):
    """A class in a photo."""

    photo: int  # among those that are measured together
    label: int
    objects: ClassObjects


@dataclass(frozen=True)
class _Measure:
    algorithms: dict[str, SESS]
    tolerance: float | None  # that of the controls; `None` for none

    def __call__(
        self, models: Mapping[str, nn.Module], images: list[Tensor], targets: list[Mapping[str, Any]]
    ) -> list[list[Row]]:
        asked = list(_questions(images, targets))
        found: list[list[Row]] = [[] for _ in images]
        if not asked:
            return found
        own_images, labels = [images[one.photo] for one in asked], [one.label for one in asked]
        controls = [
            {} if self.tolerance is None else _controls(one.objects, image, self.tolerance)
            for one, image in zip(asked, own_images, strict=True)
        ]
        for name, model in models.items():
            compared = compared_maps(self.algorithms, model, own_images, labels)
            for one, maps, control in zip(asked, compared, controls, strict=True):
                found[one.photo] += [
                    {
                        "model": name,
                        "method": each.method,
                        "sess": each.sess,
                        "class": one.label,
                        **_judged(each.saliency, one.objects),
                        **control,
                    }
                    for each in maps
                ]
        return found

    def cost(self, size: Size, target: Mapping[str, Tensor]) -> float:
        """The work for a photo: every class in it is explained. A photo without any has to be read."""
        classes = {label for label in target["labels"].tolist() if label >= 0}
        return 1 + len(classes) * num_patches(self.algorithms, size)


def _questions(images: list[Tensor], targets: list[Mapping[str, Any]]) -> Iterator[_Question]:
    for photo, (image, target) in enumerate(zip(images, targets, strict=True)):
        for label in sorted(set(target["labels"].tolist())):
            objects = class_objects(target, label, (image.shape[-2], image.shape[-1])) if label >= 0 else None
            if objects is not None:
                yield _Question(photo, label, objects)


def _judged(saliency: Tensor, objects: ClassObjects) -> dict[str, Any]:
    """Returns the distance of the peak to the objects and the properties that define the subsets.

    The peak of a constant map is its top left corner.
    """
    fitted = objects.fit(saliency)
    region = objects.region(fitted).cpu()
    return {
        "distance": peak_distance(fitted.cpu(), region),
        "area": float(region.double().mean()),
        "instances": len(objects.boxes),
        "distractor": objects.distractor,
    }


def _controls(objects: ClassObjects, image: Tensor, tolerance: float) -> dict[str, Any]:
    """Returns what a question is worth without a map: `centre` is a distance, `any_pixel` the chance of a hit."""
    fitted = objects.fit(image[0]).cpu()
    region = objects.region(fitted)
    return {
        "centre": peak_distance(centre_map((fitted.shape[0], fitted.shape[1])), region),
        "any_pixel": float(hit_area(region, tolerance).double().mean()),
        "any_pixel_tolerance": float(tolerance),
    }


def peak_distance(saliency: Tensor, region: Tensor) -> float | None:
    """Returns the distance in pixels from the peak of the map to the nearest pixel of the region; 0 inside it.

    Args:
        saliency: `(H, W)`; of several maxima the first in row-major order is the peak.
        region: `(H, W)` bool.

    Returns:
        The distance, or `None` if the region is empty, e.g. because the objects lie outside the image.
    """
    if not region.any():
        return None
    index = int(saliency.argmax())
    y, x = divmod(index, saliency.shape[1])
    rows, columns = region.nonzero(as_tuple=True)
    return math.sqrt(int(((rows - y) ** 2 + (columns - x) ** 2).min()))


def is_hit(distance: object, tolerance: float) -> bool:
    """Whether a peak at this distance is a hit: inside or strictly nearer than the tolerance, as in `pointing_hits`."""
    return distance is not None and (distance == 0 or float(distance) < tolerance)  # type: ignore[arg-type]


def table(rows: list[Row], tolerance: float) -> str:
    """Returns Table 3 in Markdown: means over classes in percent with intervals, and the paired difference.

    Headings contain the number of questions.
    """
    lines = []
    for (model, method), base, sess in pairs(rows):
        for with_sess, own in ((False, base), (True, sess)):
            line: dict[str, Any] = {"method": method, "model": model, "SESS": "yes" if with_sess else "no"}
            for name, rule in SUBSETS.items():
                line[_column(rows, name)] = accuracy([row for row in own if rule(row)], tolerance)
            line[_GAIN] = difference(base, sess, tolerance) if with_sess else None
            lines.append(line)
    lines += _control_lines(rows, tolerance)
    formats = {"method": "", "model": "", "SESS": ""}
    columns = [*(_column(rows, name) for name in SUBSETS), _GAIN]
    return markdown(lines, {**formats, **dict.fromkeys(columns, ".1f")})


def _control_lines(rows: list[Row], tolerance: float) -> list[dict[str, Any]]:
    """Returns the lines of the centre and of any pixel, which no network or method changes; none if not stored."""
    asked = list({(row["photo"], row["class"]): row for row in rows}.values())
    if not all("centre" in row for row in asked):
        return []

    def centre(row: Row) -> float:
        return 100.0 * is_hit(row["centre"], tolerance)

    lines = []
    for name, value in (("the centre", centre), ("any pixel", lambda row: 100.0 * _chance(row, tolerance))):
        means = {
            _column(rows, subset): class_mean_interval(*_counts([row for row in asked if rule(row)], value))
            for subset, rule in SUBSETS.items()
        }
        lines.append({"method": name, "model": "", "SESS": "", **means, _GAIN: None})
    return lines


def _chance(row: Row, tolerance: float) -> float:
    """Returns the chance of any pixel to hit; NaN if the row was measured with another tolerance than is asked for."""
    if tolerance == 0:
        return float(row["area"])  # type: ignore[arg-type]
    return float(row["any_pixel"]) if row["any_pixel_tolerance"] == tolerance else math.nan  # type: ignore[arg-type]


def _column(rows: list[Row], subset: str) -> str:
    """Returns the name of a subset with its number of questions."""
    asked = {(row["photo"], row["class"]) for row in rows if SUBSETS[subset](row)}
    return f"{subset} ({len(asked)})"


def remarks(rows: list[Row]) -> str:
    """Returns a remark below the table if the subset `difficult` is empty, else an empty string."""
    if any(SUBSETS["difficult"](row) for row in rows):
        return ""
    return "\n`difficult` is empty: no photo has a class of less than a quarter of the image beside another class.\n"


def accuracy(rows: list[Row], tolerance: float) -> Interval:
    """Returns the mean over classes of the hit rate in percent, with its interval over photos."""
    return class_mean_interval(*_counts(rows, lambda row: 100.0 * is_hit(row["distance"], tolerance)))


def difference(base: list[Row], sess: list[Row], tolerance: float) -> Interval:
    """Returns the paired difference in accuracy between SESS and the base method, in percent."""
    before = {(row["photo"], row["class"]): is_hit(row["distance"], tolerance) for row in base}

    def gain(row: Row) -> float:
        return 100.0 * (is_hit(row["distance"], tolerance) - before[row["photo"], row["class"]])

    return class_mean_interval(*_counts(sess, gain))


def _counts(rows: list[Row], value: Callable[[Row], float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sums of the values and the numbers of questions, each `(photos, classes)`."""
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
