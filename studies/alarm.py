"""Does the alarm foresee that accuracy falls where a shortcut is missing? Many short trainings with planted shortcuts.

python studies/alarm.py --out alarm_runs [--seeds 1 2] [--processes 2]

Each training is one of ShapeScenes: a cue of some kind goes with its class in a share of the scenes. A run takes one to
two minutes on a core and leaves a file in `--out`; what is there is not run again. The table at the end: by kind and
share, how far accuracy falls on the same scenes with random cues after the last epoch, and the alarms after three.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from sess_lightning import SESS, SESSCallback
from sess_lightning.callback.alarm import Evidence, judge
from sess_lightning.classifier import LitClassifier
from sess_lightning.data import ShapeScenes
from sess_lightning.data.shapes.cues import CUES
from sess_lightning.metrics import PointingGame

SHARES = (0.0, 0.5, 0.7, 0.9, 1.0)
EPOCHS, JUDGED = 4, 2  # the alarm is judged after epoch JUDGED, counted from 0
FALL = 0.2

Run = dict[str, Any]


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
    """One training; its notes go into a file."""
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
    path.write_text(json.dumps(run))


def evidence(row: dict[str, list[Any]]) -> list[Evidence]:
    """The samples of a validation as the alarm reads them."""
    names = ("target", "pred", "hit", "object_reliance", "background_reliance")
    return [Evidence(t, t == p, h, o, b) for t, p, h, o, b in zip(*(row[name] for name in names), strict=True)]


def fall(run: Run) -> float:
    """By how much accuracy is lower with random cues, after the last epoch."""
    first, second = run["acc"][-1]
    return float(first - second)


def against_objects(run: Run) -> float:
    """Mean of background minus object reliance over the samples predicted right."""
    return float(np.mean([one.on_background - one.on_object for one in evidence(run["rows"][JUDGED]) if one.right]))


def roc(scores: list[float], positive: list[bool]) -> float:
    """Area under ROC: how often a positive scores above a negative."""
    pairs = list(
        product(*([s for s, p in zip(scores, positive, strict=True) if p is wanted] for wanted in (True, False)))
    )
    return float(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs])) if pairs else float("nan")


def report(runs: list[Run]) -> None:
    """Print the table."""
    for kind, share in product(CUES, SHARES):
        some = [run for run in runs if (run["kind"], run["strength"]) == (kind, share)]
        if some:
            told = [len(judge(evidence(run["rows"][JUDGED]), str).alarms) for run in some]
            falls = ", ".join(f"{fall(run):.2f}" for run in some)
            print(f"{kind:11}{share:4}  accuracy falls by {falls}; sentences {told}")
    clean = [row for run in runs if run["strength"] == 0 for row in run["rows"][: JUDGED + 1]]
    false = sum(bool(judge(evidence(row), str).alarms) for row in clean)
    print(f"{false} of {len(clean)} validations without a shortcut have an alarm")
    for name, kinds in (("all kinds", CUES), ("without colour", CUES[:3])):
        some = [run for run in runs if run["kind"] in kinds]
        falls = [fall(run) > FALL for run in some]
        area = roc([against_objects(run) for run in some], falls)
        plain = roc([run["acc"][JUDGED][0] for run in some], falls)
        print(
            f"{name}: {len(some)} runs, {sum(falls)} fall by more than {FALL}; ROC {area:.3f}, of accuracy {plain:.3f}"
        )


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    jobs = [(kind, share, seed, options.out) for seed, share, kind in product(options.seeds, SHARES, CUES)]
    with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
        for _ in pool.map(train, *zip(*jobs, strict=True)):
            pass
    report([json.loads(path.read_text()) for path in sorted(options.out.glob("*.json"))])


if __name__ == "__main__":
    main()
