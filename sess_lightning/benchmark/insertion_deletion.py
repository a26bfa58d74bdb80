"""Table 1 of the paper on the user's photos: insertion and deletion of base methods, alone and with SESS."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from sess_lightning.benchmark.compared_maps import Compared, Map, compared_maps
from sess_lightning.benchmark.job import Job
from sess_lightning.benchmark.plots import Bars, draw_bars
from sess_lightning.benchmark.tables import Row, markdown, pairs, values_of
from sess_lightning.forwarding import model_logits
from sess_lightning.intervals import mean_interval
from sess_lightning.jobs.options import PhotoOptions
from sess_lightning.logits import predicted_classes
from sess_lightning.metrics.controls import blurred, centre_map, noise_map
from sess_lightning.metrics.perturbation import Mode, Order, area_under_curve, perturbation_curve
from sess_lightning.pixels import Size
from sess_lightning.probing import probe
from sess_lightning.sess import SESS

NAME = "insertion-deletion"
FIGURES = ("insertion", "deletion", "overall")
CENTRE, RANDOM, BLURRED = "the centre", "random order", ", blurred"  # names of controls; the last follows a method's
_SHORT_SIDE = 256 / 224  # short side of the photo relative to the crop, as in ImageNet's usual evaluation


def insertion_deletion(
    options: PhotoOptions,
    methods: str = "gradcam,guidedbp,groupcam",
    num_scales: int = 10,
    scales: str | None = None,
    ratio: float = 0.9,
    controls: bool = False,
    out: str = NAME,
) -> None:
    """Table 1: insertion, deletion and their difference, of base methods alone and with SESS, x 100.

    As in the paper, the photo's short side is resized to 256, the central 224 x 224 pixels are cropped, and the class
    predicted for the crop is explained. Curves have 28 steps. SESS runs on the crop, without smoothing. A photo with a
    constant map has no figure. Each row is written when it is measured: an interrupted run resumes where it stopped.

    Args:
        options: photos, networks and devices.
        methods: base methods by name, separated by commas.
        num_scales: scales of SESS; the paper has 10.
        scales: the short sides in pixels instead, or multiples of the window (1.0,1.5), separated by commas.
        ratio: of the pre-filter; the paper has 0.9.
        controls: also measure maps without information (a random order of the pixels, the centre) and the base maps
            under SESS's smoothing, and the symmetric relevance gain of all. One half more forwards for each map, and
            one map more for each method and two for each network.
        out: folder for insertion-deletion.csv, .md and .png.
    """
    job = Job(NAME, out, options)
    compared = Compared(methods, num_scales, scales, ratio, options.window, options.batch_size)
    algorithms = compared.build()
    settings = {**compared.settings(), **({"controls": True} if controls else {})}
    measure = _Measure(algorithms, options.window, options.batch_size, controls)
    everything = job.walk(measure, algorithms, settings, same_for_all)
    if everything is None:
        return
    rows = [row for row in everything if not row.get("control")]
    bars = [Bars(figure, "x 100", _bar_values(rows, figure)) for figure in FIGURES]
    draw_bars(Path(out) / f"{NAME}.png", bars)
    sections = [f"{job.described()}, {compared.described()}.", table(rows)]
    job.finish("\n\n".join([*sections, control_table(everything)] if controls else sections) + "\n")


@dataclass(frozen=True)
class _Measure:
    algorithms: dict[str, SESS]
    window: int
    batch_size: int | None
    controls: bool

    def __call__(
        self, models: Mapping[str, nn.Module], images: list[Tensor], targets: list[Mapping[str, Any]]
    ) -> list[list[Row]]:
        crops = [centre_crop(image, self.window) for image in images]
        found: list[list[Row]] = [[] for _ in images]
        for name, model in models.items():
            predicted = [predicted_class(model, crop) for crop in crops]
            compared = compared_maps(self.algorithms, model, crops, predicted)
            maps = [
                own + (control_maps(own, crop) if self.controls else [])
                for own, crop in zip(compared, crops, strict=True)
            ]
            many = Judged(crops, predicted, [torch.stack([one.saliency for one in own]) for own in maps])
            all_figures = measured(model, many, self.batch_size, with_srg=self.controls)
            first_control = 2 * len(self.algorithms)  # behind the maps of each method, alone and with SESS
            for rows, label, own, figures in zip(found, predicted, maps, all_figures, strict=True):
                rows += [
                    {"model": name, "method": one.method, "sess": one.sess, "class": label}
                    | ({"control": number >= first_control} if self.controls else {})
                    | (values if one.valid else dict.fromkeys(values))
                    for number, (one, values) in enumerate(zip(own, figures, strict=True))
                ]
        return found


def same_for_all(size: Size, target: Mapping[str, Any]) -> float:
    """The work for a photo of which a crop is measured."""
    return 1.0


def control_maps(maps: list[Map], crop: Tensor) -> list[Map]:
    """Returns the controls of one image `(3, H, W)`: base maps under SESS's smoothing, the centre, a random order."""
    size = (crop.shape[-2], crop.shape[-1])
    # By the pixels, so that a photo has its own order wherever it stands among the others.
    digest = hashlib.blake2b(crop.cpu().contiguous().numpy().tobytes(), digest_size=8).hexdigest()
    without = {CENTRE: centre_map(size), RANDOM: noise_map(size, index=digest)}
    smoothed = [Map(one.method + BLURRED, False, blurred(one.saliency), one.valid) for one in maps if not one.sess]
    return smoothed + [Map(name, False, one.to(maps[0].saliency), True) for name, one in without.items()]


def centre_crop(image: Tensor, window: int) -> Tensor:
    """Resize a photo `(3, H, W)` to a short side of 8/7 of the window, and crop the window at its centre."""
    return TF.center_crop(TF.resize(image, [round(window * _SHORT_SIDE)], antialias=True), [window, window])


def predicted_class(model: nn.Module, image: Tensor) -> int:
    """Returns the class with the highest logit for an image `(3, H, W)`."""
    with probe(model):
        return int(predicted_classes(model_logits(model, image[None].clone())))


class Judged(NamedTuple):
    """Images, and the maps of each that are to be judged."""

    images: Sequence[Tensor]  # each (3, H, W), all of one size
    targets: Sequence[int]  # a class for each
    maps: Sequence[Tensor]  # (M, H, W) for each


def measured(
    model: nn.Module, judged: Judged, batch_size: int | None, with_srg: bool = False
) -> list[list[dict[str, float]]]:
    """Returns insertion, deletion and overall of each map, image by image.

    The perturbed images of all share batches. With `with_srg` also the symmetric relevance gain, with zeros.
    """
    counts = [len(maps) for maps in judged.maps]
    pairs = zip(judged.images, counts, strict=True)
    images = torch.cat([image.expand(count, -1, -1, -1) for image, count in pairs])
    targets = torch.tensor(judged.targets).repeat_interleave(torch.tensor(counts)).to(images.device)
    maps = torch.cat(list(judged.maps))

    def areas(mode: Mode, order: Order = "most") -> list[float]:
        curves = perturbation_curve(model, images, maps, targets, mode, batch_size=batch_size, order=order)
        return area_under_curve(torch.stack(list(curves)).double()).tolist()

    with probe(model):
        inserted, deleted = areas("insertion"), areas("deletion")
        last = areas("deletion", "least") if with_srg else []
    figures = [{"insertion": i, "deletion": d, "overall": i - d} for i, d in zip(inserted, deleted, strict=True)]
    if last:
        figures = [one | {"srg": late - one["deletion"]} for one, late in zip(figures, last, strict=True)]
    whole = iter(figures)
    return [list(islice(whole, count)) for count in counts]


def table(rows: list[Row]) -> str:
    """Returns Table 1 in Markdown: means x 100 with intervals, and the paired difference between SESS and base."""
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


def control_table(rows: list[Row]) -> str:
    """Returns all maps and the controls in Markdown: means x 100, and what they have more than the base method."""
    lines = []
    by_map: dict[tuple[str, str, bool], list[Row]] = {}
    for row in rows:
        by_map.setdefault((str(row["model"]), str(row["method"]), bool(row["sess"])), []).append(row)
    for (model, method, sess), own in by_map.items():
        base = by_map.get((model, method.removesuffix(BLURRED), False), own)
        gains = {f"{figure}, - base": percent(own, figure) - percent(base, figure) for figure in ("overall", "srg")}
        lines.append(
            {
                "map": f"{method}, SESS" if sess else method,
                "model": model,
                "photos": int(np.isfinite(percent(own, "overall")).sum()),
                **{figure: mean_interval(percent(own, figure)) for figure in (*FIGURES, "srg")},
                **{name: None if base is own else mean_interval(gain) for name, gain in gains.items()},
            }
        )
    columns = [*FIGURES, "srg", "overall, - base", "srg, - base"]
    return markdown(lines, {"map": "", "model": "", "photos": "d", **dict.fromkeys(columns, ".1f")})


def percent(rows: list[Row], figure: str) -> np.ndarray:
    """Returns a figure of each row `(R,)`, x 100; NaN where the row has none."""
    return 100 * values_of(rows, figure)


def _difference(base: list[Row], sess: list[Row]) -> Any:
    return mean_interval(percent(sess, "overall") - percent(base, "overall"))


def _bar_values(rows: list[Row], figure: str) -> dict[str, list[Any]]:
    return {
        f"{method}\n{model}": [mean_interval(percent(own, figure)) for own in (base, sess)]
        for (model, method), base, sess in pairs(rows)
    }
