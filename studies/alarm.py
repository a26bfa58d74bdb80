"""Does the alarm foresee that accuracy falls where a shortcut is missing? Many short trainings with planted shortcuts.

python studies/alarm.py --out alarm_runs [--seeds 1 2 3 4] [--processes 2] [--report]

Each training is one of ShapeScenes: a cue of some kind goes with its class in a share of the scenes. A run takes about
a minute on a core and leaves a file in `--out`; what is there is not run again, so a study that was stopped goes on.
`--report` trains nothing and prints the tables of what is there:

- by kind and share, how far accuracy falls after the last epoch on the same scenes with random cues, and how many runs
  have an alarm in one of the validations up to epoch 3;
- the limit that one half of the runs would choose, and what it does on the other half: areas under ROC, hits, false
  alarms. Halves are of runs (every kind and share in both), and of kinds.
"""

from __future__ import annotations

import argparse
import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import torch

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.alarm import LIMIT, Evidence, judge
from sess_lightning.classifier import LitClassifier
from sess_lightning.data import ShapeScenes
from sess_lightning.data.shapes.cues import CUES
from sess_lightning.intervals import Interval, bootstrap, hit_interval
from sess_lightning.metrics import PointingGame

SHARES = (0.0, 0.5, 0.7, 0.9, 1.0)
EPOCHS, SEEN = 4, 3  # the alarm knows the validations of the first SEEN epochs
FALL = 0.2
ON_OBJECT = "colour"  # the cue that lies on the objects themselves, which no box can tell from them
LIMITS = tuple(round(0.01 * step, 2) for step in range(-30, 16))
MOST_FALSE = 0.05
SHOWN = (-0.3, -0.2, -0.1, -0.08, -0.06, -0.05, -0.04, -0.03, -0.02, -0.01, 0.0, 0.02, 0.05)


class Notes(pl.Callback):
    """Keeps both accuracies and the evidence of every validation."""

    def __init__(self, watch: SESSCallback) -> None:
        self.watch = watch
        self.acc: list[list[float]] = []
        self.rows: list[dict[str, list[Any]]] = []

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take note."""
        found = self.watch.last_results[0]
        values = self.watch._trackers[0].values
        self.acc.append([float(trainer.callback_metrics[f"val_acc/dataloader_idx_{number}"]) for number in (0, 1)])
        self.rows.append({
            "target": found.targets.tolist(),
            "pred": found.predictions.tolist(),
            "score": found.scores.tolist(),
            "hit": found.hits,
            "object_reliance": list(values["object_reliance"]),
            "background_reliance": list(values["background_reliance"]),
        })  # fmt: skip


def train(kind: str, share: float, seed: int, folder: Path) -> None:
    """One training on one thread; its notes go into a file."""
    path = folder / f"{kind}_{share}_{seed}.json"
    if path.exists():
        return
    torch.set_num_threads(1)
    pl.seed_everything(seed, verbose=False)
    data = ShapeScenes(train_size=3840, scene_size=96, shortcut=kind, shortcut_strength=share, seed=seed)
    watch = SESSCallback(
        SESS(num_scales=4, window_size=64), num_samples=96, num_images=0, compare_base=False, dataloaders=[0],
        metrics={"pointing": PointingGame(tolerance=0)},
    )  # fmt: skip
    notes = Notes(watch)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=EPOCHS, callbacks=[watch, notes], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(LitClassifier("small_cnn", num_classes=6, input_size=64), datamodule=data)
    run = {"kind": kind, "strength": share, "seed": seed, "acc": notes.acc, "rows": notes.rows}
    unfinished = path.with_suffix(".part")  # a file is there as a whole or not at all
    unfinished.write_text(json.dumps(run))
    unfinished.replace(path)


class Run(NamedTuple):
    """What is read of a training.

    Attributes:
        kind: of the cue.
        share: of the scenes in which it goes with its class.
        seed: of the training.
        fall: by how much accuracy is lower with random cues, after the last epoch.
        accuracy: after epoch 3, on the scenes of the kind that the training has.
        reliance: background minus object reliance after epoch 3, mean over the samples that are right.
        levels: of each validation seen, the lowest of `LIMITS` with which there is an alarm, infinite where none is.
        classes: `sess/alarms` after epoch 3.
    """

    kind: str
    share: float
    seed: int
    fall: float
    accuracy: float
    reliance: float
    levels: tuple[float, ...]
    classes: int

    @property
    def falls(self) -> bool:
        """Whether the alarm should foresee it."""
        return self.fall > FALL

    def told(self, limit: float) -> bool:
        """Whether there is an alarm in one of the validations seen."""
        return min(self.levels) <= limit


def read(notes: dict[str, Any]) -> Run:
    """What the tables need of the notes of a training."""
    seen = [evidence(row) for row in notes["rows"][:SEEN]]
    last = [one.on_background - one.on_object for one in seen[-1] if one.right]
    return Run(
        notes["kind"],
        notes["strength"],
        notes["seed"],
        fall=notes["acc"][-1][0] - notes["acc"][-1][1],
        accuracy=notes["acc"][SEEN - 1][0],
        reliance=float(np.nanmean(last)),
        levels=tuple(map(level, seen)),
        classes=judge(seen[-1], str).number or 0,
    )


def level(evidence: Sequence[Evidence]) -> float:
    """The lowest of `LIMITS` with which a validation has an alarm: every higher one has it too."""
    number = bisect_left(LIMITS, True, key=lambda limit: bool(judge(evidence, str, limit).alarms))
    return (*LIMITS, float("inf"))[number]


def evidence(row: dict[str, list[Any]]) -> list[Evidence]:
    """The samples of a validation as the alarm reads them; all were explained for their label."""
    names = ("target", "pred", "hit", "object_reliance", "background_reliance")
    return [Evidence(t, t == p, h, o, b) for t, p, h, o, b in zip(*(row[name] for name in names), strict=True)]


def roc(scores: Sequence[float], positive: Sequence[bool]) -> Interval:
    """Area under ROC, how often a positive scores above a negative, with its interval over the runs."""
    s, p = np.array(scores, dtype=float), np.array(positive, dtype=bool)
    above = (s[p][:, None] > s[~p]) + 0.5 * (s[p][:, None] == s[~p])

    def area(weights: np.ndarray) -> np.ndarray:
        pairs = weights[:, p].sum(1) * weights[:, ~p].sum(1)
        with np.errstate(invalid="ignore", divide="ignore"):
            area: np.ndarray = np.einsum("rp,pn,rn->r", weights[:, p], above, weights[:, ~p]) / pairs
        return area

    return bootstrap(len(s), area)


def hits(runs: Sequence[Run], limit: float) -> Interval:
    """Share of the runs whose accuracy falls that have an alarm in time."""
    return hit_interval(np.array([float(run.told(limit)) for run in runs if run.falls]))


def false_alarms(runs: Sequence[Run], limit: float) -> Interval:
    """Share of the runs without a shortcut that have an alarm in one of the validations seen."""
    return hit_interval(np.array([float(run.told(limit)) for run in runs if run.share == 0]))


def chosen_limit(runs: Sequence[Run]) -> float:
    """The middle of the limits with most hits among those with at most 5 % false alarms."""
    allowed = {limit: hits(runs, limit).value for limit in LIMITS if false_alarms(runs, limit).value <= MOST_FALSE}
    if not allowed:
        return LIMITS[0]
    best = [limit for limit, share in allowed.items() if share == max(allowed.values())]
    return best[len(best) // 2]


def in_first_half(run: Run) -> bool:
    """Of the halves of runs: by turns over kinds, shares and seeds, so that both have all of them."""
    return (CUES.index(run.kind) + SHARES.index(run.share) + run.seed) % 2 == 1


def has_first_kinds(run: Run) -> bool:
    """Of the halves of kinds."""
    return run.kind in CUES[:2]


def by_kind(runs: Sequence[Run]) -> list[str]:
    """A row for each kind: the falls and alarms of its runs, by share."""
    lines = []
    for kind in CUES:
        cells = []
        for share in SHARES:
            some = [run for run in runs if (run.kind, run.share) == (kind, share)]
            told = sum(run.told(LIMIT) for run in some)
            falls = f"{min(run.fall for run in some):.2f} to {max(run.fall for run in some):.2f}" if some else "-"
            cells.append(f"{falls}: {told} of {len(some)}")
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return lines


def figures(runs: Sequence[Run], limit: float) -> str:
    """Cells of a row: runs, falls, areas of reliance, of the number of classes and of accuracy, hits, false alarms."""
    falls = [run.falls for run in runs]
    areas = [roc([getattr(run, name) for run in runs], falls) for name in ("reliance", "classes", "accuracy")]
    shares = [
        f"{one:.2f} ({sum(run.told(limit) for run in some)} of {len(some)})"
        for one, some in (
            (hits(runs, limit), [run for run in runs if run.falls]),
            (false_alarms(runs, limit), [run for run in runs if run.share == 0]),
        )
    ]
    return " | ".join([str(len(runs)), str(sum(falls)), *(f"{area:.2f}" for area in areas), *shares])


def halves(runs: Sequence[Run]) -> list[str]:
    """A row for each half reported: with the limit that the other half chooses, and with the one that the alarm has."""
    lines = []
    splits: dict[str, Callable[[Run], bool]] = {"runs": in_first_half, "kinds": has_first_kinds}
    for (name, inside), first in product(splits.items(), (True, False)):
        chosen = chosen_limit([run for run in runs if inside(run) is first])
        reported = [run for run in runs if inside(run) is not first]
        who = f"{name}, {'second' if first else 'first'} half"
        lines.append(f"| {who} | {chosen:+.2f} | {figures(reported, chosen)} |")
        without = [run for run in reported if run.kind != ON_OBJECT]
        if len(without) < len(reported):
            lines.append(f"| {who} without {ON_OBJECT} | {chosen:+.2f} | {figures(without, chosen)} |")
    for who, some in (("all", runs), (f"all without {ON_OBJECT}", [run for run in runs if run.kind != ON_OBJECT])):
        lines.append(f"| {who} | {LIMIT:+.2f} | {figures(some, LIMIT)} |")
    return lines


def report(runs: Sequence[Run]) -> str:
    """All tables, in Markdown."""
    columns = "runs | falls | ROC, reliance | ROC, classes | ROC, accuracy | hits | false alarms"
    falling = [run.levels for run in runs if run.falls and run.kind != ON_OBJECT]
    clean = [run.levels for run in runs if run.share == 0]
    return "\n".join([
        f"{len(runs)} runs. Fall of accuracy: runs with an alarm ({LIMIT}) up to epoch {SEEN}",
        f"| kind | {' | '.join(map(str, SHARES))} |",
        "|---|" + "---|" * len(SHARES),
        *by_kind(runs),
        "",
        f"| reported | limit | {columns} |",
        "|---|---|" + "---|" * (columns.count("|") + 1),
        *halves(runs),
        "",
        f"Of {len(falling)} runs that fall, without {ON_OBJECT}, have an alarm by epoch: "
        + ", ".join(f"{end}: {sum(min(one[:end]) <= LIMIT for one in falling)}" for end in range(1, SEEN + 1)),
        f"Of {len(clean)} runs without a shortcut have an alarm, by limit: "
        + ", ".join(f"{limit:+.2f}: {sum(min(one) <= limit for one in clean)}" for limit in SHOWN),
        f"and of their {SEEN * len(clean)} validations: "
        + ", ".join(f"{limit:+.2f}: {sum(level <= limit for one in clean for level in one)}" for limit in SHOWN),
    ])  # fmt: skip


def main() -> None:
    """Train what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="train nothing")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if not options.report:
        jobs = [(kind, share, seed, options.out) for seed, share, kind in product(options.seeds, SHARES, CUES)]
        with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
            for _ in pool.map(train, *zip(*jobs, strict=True)):
                pass
    print(report([read(json.loads(path.read_text())) for path in sorted(options.out.glob("*.json"))]))


if __name__ == "__main__":
    main()
