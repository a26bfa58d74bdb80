"""Sanity checks on the user's photos: do the maps of base methods, alone and with SESS, depend on the network?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sess_lightning.benchmark.compared_maps import Compared, Map, compared_maps
from sess_lightning.benchmark.insertion_deletion import centre_crop, predicted_class, same_for_all
from sess_lightning.benchmark.job import Job
from sess_lightning.benchmark.plots import Bars, draw_bars
from sess_lightning.benchmark.tables import Row, markdown, pairs, values_of
from sess_lightning.checks import check_count
from sess_lightning.intervals import mean_interval
from sess_lightning.jobs.options import PhotoOptions
from sess_lightning.metrics.randomisation import entropy_rise, map_entropy, randomised, rank_correlation
from sess_lightning.sess import SESS

NAME = "sanity"
FIGURES = ("entropy", "rise", "correlation")
_TITLES = {"entropy": "entropy of the map", "rise": "rise of the entropy", "correlation": "rank correlation"}
_GAIN = "rise, SESS - base"


def sanity(
    options: PhotoOptions,
    methods: str = "gradcam,guidedbp,gradient",
    draws: int = 3,
    num_scales: int = 10,
    scales: str | None = None,
    ratio: float = 0.9,
    out: str = NAME,
) -> None:
    """Sanity checks: how maps change when the network's weights are random, of base methods alone and with SESS.

    Photos and classes are those of `insertion-deletion`: the central crop, the class predicted for it. `rise` is the
    relative rise of the entropy of the map's values (efficient MPRT, higher is better, 0 for a method that does not
    look at the network), `correlation` the rank correlation of the two maps (1 for such a method). Both are means over
    networks with random weights. A photo with a constant map has no figure. Each row is written when it is measured: an
    interrupted run resumes where it stopped.

    Args:
        options: photos, networks and devices.
        methods: base methods by name, separated by commas.
        draws: networks with random weights; each costs what the maps themselves cost.
        num_scales: scales of SESS.
        scales: the short sides in pixels instead, or multiples of the window (1.0,1.5), separated by commas.
        ratio: of the pre-filter.
        out: folder for sanity.csv, .md and .png.
    """
    check_count("draws", draws)
    job = Job(NAME, out, options)
    compared = Compared(methods, num_scales, scales, ratio, options.window, options.batch_size)
    algorithms = compared.build()
    measure = _Measure(algorithms, options.window, draws)
    rows = job.walk(measure, algorithms, {**compared.settings(), "draws": draws}, same_for_all)
    if rows is None:
        return
    bars = [Bars(_TITLES[figure], "", _bar_values(rows, figure)) for figure in FIGURES[1:]]
    draw_bars(Path(out) / f"{NAME}.png", bars)
    job.finish(f"{job.described()}, {compared.described()}, {draws} networks with random weights.\n\n{table(rows)}\n")


@dataclass(frozen=True)
class _Measure:
    algorithms: dict[str, SESS]
    window: int
    draws: int
    drawn: dict[str, list[nn.Module]] = field(default_factory=dict)  # made once, on the device of the first photo

    def __call__(
        self, models: Mapping[str, nn.Module], images: list[Tensor], targets: list[Mapping[str, Any]]
    ) -> list[list[Row]]:
        crops = [centre_crop(image, self.window) for image in images]
        found: list[list[Row]] = [[] for _ in images]
        for name, model in models.items():
            if name not in self.drawn:
                self.drawn[name] = [randomised(model, seed) for seed in range(self.draws)]
            predicted = [predicted_class(model, crop) for crop in crops]
            before = compared_maps(self.algorithms, model, crops, predicted)
            after = [compared_maps(self.algorithms, other, crops, predicted) for other in self.drawn[name]]
            for rows, label, maps, *others in zip(found, predicted, before, *after, strict=True):
                rows += [
                    {"model": name, "method": one.method, "sess": one.sess, "class": label, **_figures(one, same)}
                    for one, *same in zip(maps, *others, strict=True)
                ]
        return found


def _figures(before: Map, after: list[Map]) -> dict[str, float | None]:
    """Returns the figures of a map; `None` where no network with random weights gives one."""
    maps, others = before.saliency.expand(len(after), -1, -1), torch.stack([one.saliency for one in after])
    found = {
        "entropy": map_entropy(before.saliency[None]),
        "rise": entropy_rise(maps, others),
        "correlation": rank_correlation(maps, others),
    }
    means = {figure: float(values.nanmean()) for figure, values in found.items()}
    return {figure: value if before.valid and np.isfinite(value) else None for figure, value in means.items()}


def table(rows: list[Row]) -> str:
    """Returns the figures in Markdown: means over photos with intervals, and the paired difference of the rise."""
    lines = []
    for (model, method), base, sess in pairs(rows):
        for with_sess, own in ((False, base), (True, sess)):
            lines.append(
                {
                    "method": method,
                    "model": model,
                    "SESS": "yes" if with_sess else "no",
                    "photos": int(np.isfinite(values_of(own, "rise")).sum()),
                    **{figure: mean_interval(values_of(own, figure)) for figure in FIGURES},
                    _GAIN: mean_interval(values_of(sess, "rise") - values_of(base, "rise")) if with_sess else None,
                }
            )
    formats = {"method": "", "model": "", "SESS": "", "photos": "d", "entropy": ".2f"}
    return markdown(lines, {**formats, **dict.fromkeys(["rise", "correlation", _GAIN], ".3f")})


def _bar_values(rows: list[Row], figure: str) -> dict[str, list[Any]]:
    return {
        f"{method}\n{model}": [mean_interval(values_of(own, figure)) for own in (base, sess)]
        for (model, method), base, sess in pairs(rows)
    }
