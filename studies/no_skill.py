"""What a random order of the pixels scores: symmetric relevance gain, and insertion minus deletion.

SESS_REAL_DATA=FOLDER python studies/no_skill.py

One random order for each photo. The gain should be 0 within 3 standard errors, whatever the baseline.
"""

from __future__ import annotations

import argparse

import torch
from photos import mean_colour, network_and_photos
from torch import Tensor

from sess_lightning.metrics import area_under_curve, noise_map, perturbation_curve
from sess_lightning.probing import probe

BASELINES = {
    "zeros": {"baseline": "zeros"},
    "mean colour": {"baseline": mean_colour},
    "blur, Group-CAM's": {"baseline": "blur"},
    "blur, RISE's": {"baseline": "blur", "protocol": "rise"},
    "ROAD": {"baseline": "road"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--steps", type=int, default=7, help="7, 14 and 28 divide the pixels of 224 x 224")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model, images, targets = network_and_photos(args.photos)
    maps = torch.stack([noise_map((224, 224), args.seed, index) for index in range(len(images))])

    def area(mode: str, order: str, **options: object) -> Tensor:
        with probe(model):
            return area_under_curve(
                perturbation_curve(model, images, maps, targets, mode, steps=args.steps, order=order, **options)
            ).double()

    print(
        f"{len(images)} photos, {args.steps} steps, seed {args.seed}\n"
        "\n| | mean x 100 | standard error | z |\n|---|---|---|---|"
    )
    deleted = {}
    for name, options in BASELINES.items():
        deleted[name] = area("deletion", "most", **options)
        line(f"SRG, {name}", area("deletion", "least", **options) - deleted[name])
    inserted = area("insertion", "most")
    line("insertion (blur)", inserted)
    line("deletion (zeros)", deleted["zeros"])
    line("overall: insertion (blur) - deletion (zeros)", inserted - deleted["zeros"])
    for name in ("zeros", "blur, Group-CAM's"):
        line(f"overall, both {name}", area("insertion", "most", **BASELINES[name]) - deleted[name])


def line(name: str, values: Tensor) -> None:
    mean, error = float(values.mean()), float(values.std() / len(values) ** 0.5)
    print(f"| {name} | {100 * mean:.2f} | {100 * error:.2f} | {mean / error:.1f} |", flush=True)


if __name__ == "__main__":
    main()
