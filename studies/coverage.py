"""How often 95 % intervals of means hold the true mean, for values of several kinds and few samples.

python studies/coverage.py

Each line is one population with a known mean: `--draws` samples of n values, and the share of their intervals that hold
the mean. With SESS_REAL_DATA also populations of gains measured on photos, drawn with replacement. Monte Carlo error at
1000 draws: 0.7 %.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

import numpy as np

from sess_lightning.intervals import Interval, hit_interval, mean_interval

Draw = Callable[[np.random.Generator, int], np.ndarray]


def populations() -> dict[str, tuple[float, Draw]]:
    """The mean and how to draw n values."""
    normal = {
        "normal": (0.0, lambda rng, n: rng.normal(size=n)),
        "exponential": (1.0, lambda rng, n: rng.exponential(size=n)),
    }
    beta = {"areas, Beta(2, 6)": (0.25, lambda rng, n: rng.beta(2, 6, size=n))}
    gains = {
        f"paired hits, +{up:g} -{down:g}": (
            up - down,
            lambda rng, n, up=up, down=down: rng.choice([1.0, -1.0, 0.0], n, p=[up, down, 1 - up - down]),
        )
        for up, down in ((0.15, 0.05), (0.3, 0.1), (0.05, 0.05))
    }
    hits = {f"hits, {p:g}": (p, lambda rng, n, p=p: (rng.random(n) < p).astype(float)) for p in (0.5, 0.8, 0.95)}
    return {**normal, **beta, **gains, **hits}


def measured() -> dict[str, tuple[float, Draw]]:
    """Symmetric relevance gains of Grad-CAM on 64 photos, and its gain over the input gradient, paired."""
    from photos import network_and_photos

    from sess_lightning.metrics import SymmetricRelevanceGain
    from sess_lightning.probing import probe
    from sess_lightning.saliency import GradCAM, InputGradient

    model, images, targets = network_and_photos(64)
    values = []
    for method in (GradCAM(), InputGradient()):
        metric = SymmetricRelevanceGain(steps=7)
        found = []
        with probe(model):
            for image, target in zip(images, targets, strict=True):
                metric.update(model, image[None], method(model, image[None], target[None]).maps, target[None])
                found.append(float(metric.last_areas))
        values.append(np.array(found))

    def drawn(own: np.ndarray) -> tuple[float, Draw]:
        return float(own.mean()), lambda rng, n: rng.choice(own, n)

    return {"SRG, Grad-CAM": drawn(values[0]), "SRG, Grad-CAM - gradient": drawn(values[0] - values[1])}


def coverage(mean: float, draw: Draw, n: int, draws: int, interval: Callable[[np.ndarray], Interval]) -> float:
    rng = np.random.default_rng(1)
    found = [interval(draw(rng, n)) for _ in range(draws)]
    return 100 * float(np.mean([one.low - 1e-12 <= mean <= one.high + 1e-12 for one in found]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 32, 100])
    args = parser.parse_args()
    sizes = args.sizes
    print("| interval | values | " + " | ".join(f"n = {n}" for n in sizes) + " |\n|" + "---|" * (len(sizes) + 2))
    known = populations() | (measured() if "SESS_REAL_DATA" in os.environ else {})
    for name, (mean, draw) in known.items():
        kinds = {"mean_interval": mean_interval} | ({"hit_interval": hit_interval} if name.startswith("hits") else {})
        for kind, interval in kinds.items():
            cells = [f"{coverage(mean, draw, n, args.draws, interval):.1f}" for n in sizes]
            print(f"| `{kind}` | {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
