"""Table 1 of the paper on the user's photos: insertion and deletion of base methods, alone and with SESS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from sess_lightning.benchmark.compared_maps import Compared, compared_maps
from sess_lightning.benchmark.intervals import mean_interval
from sess_lightning.benchmark.job import Job
from sess_lightning.benchmark.plots import Bars, draw_bars
from sess_lightning.benchmark.tables import Row, markdown, pairs
from sess_lightning.logits import predicted_classes, read_logits
from sess_lightning.metrics.insertion_deletion import area_under_curve, perturbation_curve
from sess_lightning.probing import probe
from sess_lightning.sess import SESS

NAME = "insertion-deletion"
FIGURES = ("insertion", "deletion", "overall")
_SHORT_SIDE = 256 / 224  # of the photo over the crop, as in ImageNet's usual evaluation


def insertion_deletion(
    data: str,
    model: str = "resnet50",
    weights: str = "DEFAULT",
    methods: str = "gradcam,guidedbp,groupcam",
    limit: int | None = None,
    seed: int = 0,
    num_scales: int = 10,
    scales: str | None = None,
    ratio: float = 0.9,
    window: int = 224,
    batch_size: int | None = None,
    devices: int = 1,
    accelerator: str = "auto",
    precision: str = "32",
    root: str | None = None,
    out: str = NAME,
) -> None:
    """Table 1: insertion, deletion and their difference, of base methods alone and with SESS, x 100.

    As in the paper: the photo's short side becomes 256, a crop of 224 is cut from its centre, and the class predicted
    for the crop is explained; 28 steps; SESS works on the crop, without smoothing. A photo whose map is constant has no
    figure. Rows are written as they come: a killed run, started again, goes on where it was.

    Args:
        data: a folder of photos in COCO format, or imagenet, voc07, coco14.
        model: networks by name, separated by commas.
        weights: a path or DEFAULT for each, separated by commas.
        methods: base methods by name, separated by commas.
        limit: so many photos, chosen by the seed; all if left out.
        seed: of the choice.
        num_scales: scales of SESS; the paper has 10.
        scales: the short sides in pixels instead, separated by commas.
        ratio: of the pre-filter; the paper has 0.9.
        window: in pixels, the size of the crop too.
        batch_size: patches per forward; the device's default if left out.
        devices: processes, one a device.
        accelerator: of Lightning: auto, cpu, gpu.
        precision: "32", or "bf16" for autocast: faster where the device can, the last digits differ.
        root: where the named data set lies.
        out: folder for insertion-deletion.csv, .md and .png.
    """
    job = Job(NAME, data, root, limit, seed, model, weights, devices, accelerator, precision, out)
    compared = Compared(methods, num_scales, scales, ratio, window, batch_size)
    rows = job.walk(_Measure(compared.build(), window, batch_size), compared.settings())
    if rows is None:
        return
    bars = [Bars(figure, "x 100", _bar_values(rows, figure)) for figure in FIGURES]
    draw_bars(Path(out) / f"{NAME}.png", bars)
    job.finish(f"{job.described()}, {compared.described()}.\n\n{table(rows)}\n")


@dataclass(frozen=True)
class _Measure:
    algorithms: dict[str, SESS]
    window: int
    batch_size: int | None

    def __call__(self, models: Mapping[str, nn.Module], image: Tensor, target: Mapping[str, Any]) -> list[Row]:
        crop = centre_crop(image, self.window)
        return [row for name, model in models.items() for row in self._rows(name, model, crop)]

    def _rows(self, name: str, model: nn.Module, crop: Tensor) -> list[Row]:
        predicted = predicted_class(model, crop)
        (maps,) = compared_maps(self.algorithms, model, crop, [predicted])
        figures = measured(model, crop, torch.stack([one.saliency for one in maps]), predicted, self.batch_size)
        return [
            {"model": name, "method": one.method, "sess": one.sess, "class": predicted}
            | (found if one.valid else dict.fromkeys(FIGURES))
            for one, found in zip(maps, figures, strict=True)
        ]


def centre_crop(image: Tensor, window: int) -> Tensor:
    """The photo `(3, H, W)` with a short side of 8/7 the window, and of that the window at the centre."""
    return TF.center_crop(TF.resize(image, [round(window * _SHORT_SIDE)], antialias=True), [window, window])


def predicted_class(model: nn.Module, image: Tensor) -> int:
    """The class with the highest logit."""
    with probe(model):
        return int(predicted_classes(read_logits(model(image[None]))))


def measured(
    model: nn.Module, image: Tensor, maps: Tensor, target: int, batch_size: int | None
) -> list[dict[str, float]]:
    """Insertion, deletion and overall of one image for each of the maps `(M, H, W)`, all in one stream of batches."""
    images = image.expand(len(maps), -1, -1, -1)
    targets = torch.full((len(maps),), target, device=image.device)
    areas = []
    with probe(model):
        for mode in ("insertion", "deletion"):
            curves = perturbation_curve(model, images, maps, targets, mode, batch_size=batch_size)
            areas.append(area_under_curve(torch.stack(list(curves)).double()).tolist())
    return [{"insertion": i, "deletion": d, "overall": i - d} for i, d in zip(*areas, strict=True)]


def table(rows: list[Row]) -> str:
    """Table 1 as Markdown: means x 100 with their intervals, and the paired difference that SESS makes."""
    lines = []
    for (model, method), base, sess in pairs(rows):
        for with_sess, own in ((False, base), (True, sess)):
            values = {figure: percent(own, figure) for figure in FIGURES}
            lines.append(
                {
                    "method": method,
                    "model": model,
                    "SESS": "yes" if with_sess else "no",
                    "photos": int(np.isfinite(values["overall"]).sum()),
                    **{figure: mean_interval(values[figure]) for figure in FIGURES},
                    "overall, SESS - base": _difference(base, sess) if with_sess else None,
                }
            )
    formats = {"method": "", "model": "", "SESS": "", "photos": "d"}
    return markdown(lines, {**formats, **dict.fromkeys([*FIGURES, "overall, SESS - base"], ".1f")})


def percent(rows: list[Row], figure: str) -> np.ndarray:
    """A figure of each row, x 100; NaN where there is none."""
    return np.array([np.nan if row[figure] is None else 100 * float(row[figure]) for row in rows])  # type: ignore[arg-type]


def _difference(base: list[Row], sess: list[Row]) -> Any:
    return mean_interval(percent(sess, "overall") - percent(base, "overall"))


def _bar_values(rows: list[Row], figure: str) -> dict[str, list[Any]]:
    return {
        f"{method}\n{model}": [mean_interval(percent(own, figure)) for own in (base, sess)]
        for (model, method), base, sess in pairs(rows)
    }
