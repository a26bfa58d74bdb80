"""How well are photos dealt to 8 and 64 processes? By the work that their sizes and classes promise, or in turn.

Every photo of two folders is explained for each of its classes (MobileNetV2, Grad-CAM, 10 scales), and its time in the
processor measured, which includes reading it. 5,000 photos are then drawn from those measured, with replacement, and
dealt; the efficiency is the work of all processes over that of the busiest times their number.

    SESS_REAL_DATA=FOLDER python studies/ranks.py
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sess_lightning import SESS
from sess_lightning.jobs.dealing import dealt
from sess_lightning.jobs.photos import JobPhotos
from sess_lightning.networks import grouped, load_network, read_groups
from sess_lightning.pixels import Size

PHOTOS, DRAWS, RANKS = 5_000, 20, (8, 64)
SESS_OF_STUDY = SESS("gradcam", num_scales=10, window_size=224, prefilter_ratio=0.99, smooth=False)


def classes_of(target: dict[str, Tensor]) -> list[int]:
    return sorted({label for label in target["labels"].tolist() if label >= 0})


def cost(size: Size, target: dict[str, Tensor]) -> float:
    """As `benchmark pointing` counts it."""
    return 1 + len(classes_of(target)) * len(SESS_OF_STUDY.windows_for(size, (224, 224)))


def measured(folder: Path, name: str) -> tuple[list[float], list[float]]:
    """The work expected for each photo of a folder, and the seconds that it took."""
    network = load_network("mobilenet_v2", str(folder / "mobilenet_v2.pth"))
    file = folder / name / "groups.json"
    groups = read_groups(str(file)) if file.exists() else None
    model = (network if groups is None else grouped(network, groups, (224, 224))).module.eval()
    photos = JobPhotos(str(folder / name), None, None, 0, network, groups)
    expected, seconds = [], []
    for index in range(len(photos)):
        start = time.thread_time()
        photo = photos[index]
        target = {part: torch.from_numpy(value) for part, value in photo.target.items()}
        image, asked = photos.normalised(torch.from_numpy(photo.picture)), classes_of(target)
        if asked:
            SESS_OF_STUDY(model, [image] * len(asked), torch.tensor(asked))
        seconds.append(time.thread_time() - start)
        expected.append(photos.cost(index, cost))
    return expected, seconds


def efficiency(hands: list[list[int]], seconds: np.ndarray) -> float:
    loads = [seconds[hand].sum() for hand in hands]
    return float(sum(loads) / (len(loads) * max(loads)))


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(os.environ["SESS_REAL_DATA"])
    expected, seconds = [], []
    for name in ("ilsvrc_boxed", "indoor"):
        more_expected, more_seconds = measured(folder, name)
        expected += more_expected
        seconds += more_seconds
    known, took = np.array(expected), np.array(seconds)
    print(
        f"{len(took)} photos: {took.mean():.2f} s each, from {took.min():.2f} to {took.max():.2f}; correlation with "
        f"the expected work {np.corrcoef(known, took)[0, 1]:.3f}\n"
    )
    print("| processes | photos each | dealt by work: efficiency | least of the draws | dealt in turn | least |")
    print("|---|---|---|---|---|---|")
    for ranks in RANKS:
        found = []
        for draw in range(DRAWS):
            chosen = np.random.default_rng(draw).integers(len(took), size=PHOTOS)
            in_turn = [list(range(rank, PHOTOS, ranks)) for rank in range(ranks)]
            hands = (dealt(known[chosen].tolist(), ranks), in_turn)
            found.append([efficiency(hand, took[chosen]) for hand in hands])
        mean, least = np.mean(found, axis=0), np.min(found, axis=0)
        each = f"{PHOTOS / ranks:.0f}"
        print(f"| {ranks} | {each} | {mean[0]:.1%} | {least[0]:.1%} | {mean[1]:.1%} | {least[1]:.1%} |")


if __name__ == "__main__":
    main()
