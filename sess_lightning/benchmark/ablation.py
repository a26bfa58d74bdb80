"""The paper's ablations on the user's photos: the effect of each setting of SESS on insertion and deletion.

The settings share patches. Each patch is explained once, and each setting fuses the subset it uses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sess_lightning.benchmark.insertion_deletion import (
    FIGURES,
    Judged,
    centre_crop,
    measured,
    percent,
    predicted_class,
    same_for_all,
)
from sess_lightning.benchmark.job import Job
from sess_lightning.benchmark.plots import Curve, draw_curves
from sess_lightning.benchmark.tables import Row, markdown
from sess_lightning.checks import check_count
from sess_lightning.intervals import Interval, mean_interval
from sess_lightning.jobs.options import PhotoOptions
from sess_lightning.probing import probe
from sess_lightning.sess import SESS
from sess_lightning.sess.patches import Patches

NAME = "ablation"


@dataclass(frozen=True)
class Ablation:
    """One figure of the paper: an option of SESS and its values; all other options are those of `fixed`."""

    title: str
    option: str
    values: tuple[Any, ...]
    fixed: Mapping[str, Any]

    def algorithms(self, method: str, window: int, batch_size: int | None) -> dict[str, SESS]:
        """Returns SESS for each value of the option, by the value as text."""
        common = {"window_size": window, "batch_size": batch_size, "smooth": False}
        return {str(value): SESS(method, **{**common, **self.fixed, self.option: value}) for value in self.values}


def ablations(num_scales: int, window: int) -> dict[str, Ablation]:
    """Returns the paper's ablations by name, limited to `num_scales` scales (Figs. 6 to 10 use ten or six)."""
    ten, six = min(10, num_scales), min(6, num_scales)
    steps = (window, window // 2, window // 4)
    return {
        "scales": Ablation("number of scales (Fig. 5)", "num_scales", tuple(range(1, num_scales + 1)), {}),
        "ratio": Ablation(
            f"pre-filter r, {ten} scales (Fig. 6)",
            "prefilter_ratio",
            tuple(i / 10 for i in range(10)),
            {"num_scales": ten},
        ),
        "weights": Ablation(
            f"weights of the patches, {ten} scales (Fig. 7)", "weight_by_score", (True, False), {"num_scales": ten}
        ),
        "average": Ablation(f"average, {ten} scales (Fig. 9)", "pool", ("mean", "plain_mean"), {"num_scales": ten}),
        "step": Ablation(f"step in pixels, {six} scales (Fig. 10)", "step_size", steps, {"num_scales": six}),
    }


def ablation(
    options: PhotoOptions,
    method: str = "gradcam",
    num_scales: int = 12,
    out: str = NAME,
) -> None:
    """Figures 5, 6, 7, 9 and 10: insertion, deletion and their difference, x 100, for each setting of SESS.

    Photos and figures are those of `insertion-deletion`. Patches shared by settings are explained once, so the
    pre-filter is applied to maps that exist already and its figures say nothing about time (see `runtime`). Each row is
    written when it is measured: an interrupted run resumes where it stopped.

    Args:
        options: photos, networks and devices.
        method: one base method by name.
        num_scales: the most scales.
        out: folder for ablation.csv, .md and .png.
    """
    check_count("num_scales", num_scales)
    options.check_one_network()
    job = Job(NAME, out, options)
    window, batch_size = options.window, options.batch_size
    wanted = ablations(num_scales, window)
    settings = {name: one.algorithms(method, window, batch_size) for name, one in wanted.items()}
    own = {"method": method, "num_scales": num_scales, "window": window}
    rows = job.walk(_Measure(settings, window, batch_size), {method: settings["scales"]["1"]}, own, same_for_all)
    if rows is None:
        return
    sections = [f"{job.described()}, {method}, `{options.model}`."]
    panels = []
    for name, one in wanted.items():
        found = figures(rows, name, [str(value) for value in one.values])
        sections.append(f"## {one.title}\n\n{_table(one, found)}")
        panels.append(Curve(one.title, one.option, one.values, {figure: found[figure] for figure in FIGURES}))
    draw_curves(Path(out) / f"{NAME}.png", panels)
    job.finish("\n\n".join(sections) + "\n")


@dataclass(frozen=True)
class _Measure:
    settings: Mapping[str, Mapping[str, SESS]]
    window: int
    batch_size: int | None

    def __call__(
        self, models: Mapping[str, nn.Module], images: list[Tensor], targets: list[Mapping[str, Any]]
    ) -> list[list[Row]]:
        (model,) = models.values()
        return [self._rows(model, centre_crop(image, self.window)) for image in images]

    def _rows(self, model: nn.Module, crop: Tensor) -> list[Row]:
        predicted = predicted_class(model, crop)
        flat = [(name, value, sess) for name, options in self.settings.items() for value, sess in options.items()]
        maps, valid = shared_maps([sess for *_, sess in flat], model, crop, predicted)
        (found,) = measured(model, Judged([crop], [predicted], [maps]), self.batch_size)
        return [
            {"setting": name, "value": value, "class": predicted, **(own if ok else dict.fromkeys(FIGURES))}
            for (name, value, _), own, ok in zip(flat, found, valid, strict=True)
        ]


def shared_maps(settings: list[SESS], model: nn.Module, image: Tensor, target: int) -> tuple[Tensor, list[bool]]:
    """Compute the map of one image with every setting, explaining each patch once.

    Args:
        settings: `S` configurations with the same base method, window and activation.
        model: any classifier.
        image: `(3, H, W)`, on the model's device.
        target: index of the class to explain.

    Returns:
        Maps `(S, H, W)`, and for each whether it is valid (neither constant nor NaN).
    """
    first = settings[0]
    size = (image.shape[1], image.shape[2])
    own = [sess.windows_for(size, sess.window_for([image])) for sess in settings]
    numbers = {window: i for i, window in enumerate(dict.fromkeys(w for windows in own for w in windows))}
    classes = torch.tensor([target], device=image.device)
    with probe(model):
        patches = Patches(model, [image], [list(numbers)], classes, first.activation, first.batch_size)
        ((maps, scores),) = patches.explanations(first.method)
        probabilities = (patches.scores()[0] if scores is None else scores).probability
    fused = []
    for sess, windows in zip(settings, own, strict=True):
        chosen = torch.tensor([numbers[window] for window in windows])
        fused.append(sess.fused(windows, probabilities[chosen.to(maps.device)], maps[chosen.to(maps.device)], size))
    return torch.stack([saliency for saliency, _ in fused]), [bool(valid) for _, valid in fused]


def figures(rows: list[Row], setting: str, values: Sequence[str]) -> dict[str, list[Interval]]:
    """Returns insertion, deletion and overall, x 100, for each value, and `gain`, that of overall over the first."""
    own = [[row for row in rows if (row["setting"], row["value"]) == (setting, value)] for value in values]
    found = {figure: [mean_interval(percent(part, figure)) for part in own] for figure in FIGURES}
    first = percent(own[0], "overall")
    return {**found, "gain": [mean_interval(percent(part, "overall") - first) for part in own]}


def _table(one: Ablation, found: Mapping[str, list[Interval]]) -> str:
    gain = f"overall, against {one.values[0]}"
    lines = []
    for i, value in enumerate(one.values):
        line = {one.option: value, **{figure: found[figure][i] for figure in FIGURES}}
        lines.append({**line, gain: found["gain"][i] if i else None})
    return markdown(lines, {one.option: "", **dict.fromkeys([*FIGURES, gain], ".2f")})
