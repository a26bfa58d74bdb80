"""Do baselines agree on the order of methods? Rank correlations of eight methods' scores under four baselines.

SESS_REAL_DATA=FOLDER python studies/rankings.py

Few steps and photos, for speed. As the steps divide the pixels, the area with the least salient pixels deleted first is
that of insertion with the same baseline, so two curves a map and baseline give both scores.
"""

from __future__ import annotations

import argparse
from itertools import combinations

import torch
from photos import mean_colour, network_and_photos
from torch import Tensor

from sess_lightning.metrics import area_under_curve, perturbation_curve, rank_correlation
from sess_lightning.probing import probe
from sess_lightning.sess import SESS
from sess_lightning.sess.base_maps import base_maps

METHODS = (
    "gradcam", "gradcam++", "excitation_bp", "contrastive_excitation_bp", "groupcam", "gradient", "guidedbp",
    "smoothgrad",
)  # fmt: skip
SIZE = 160  # pixels: with 224, ROAD alone takes a quarter of an hour
BASELINES = {"zeros": "zeros", "mean colour": mean_colour, "blur": "blur", "ROAD": "road"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=20)
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    if SIZE**2 % args.steps:
        parser.error(f"--steps has to divide {SIZE} * {SIZE}")
    model, images, targets = network_and_photos(args.photos, SIZE)

    def area(maps: Tensor, baseline: object, order: str) -> Tensor:
        with probe(model):
            return area_under_curve(
                perturbation_curve(
                    model, images, maps, targets, "deletion", steps=args.steps, baseline=baseline, order=order
                )
            ).double()

    # (methods, baselines, photos)
    inserted, deleted = torch.zeros(2, len(METHODS), len(BASELINES), len(images), dtype=torch.float64)
    for i, method in enumerate(METHODS):
        sess = SESS(method, window_size=SIZE)
        maps = torch.stack(base_maps(sess, model, images, targets, list(images))[0])
        for j, baseline in enumerate(BASELINES.values()):
            inserted[i, j], deleted[i, j] = area(maps, baseline, "least"), area(maps, baseline, "most")
        print(f"{method} done", flush=True)
    scores = {"SRG": inserted - deleted, "overall (deletion to zeros)": inserted - deleted[:, :1]}
    print(f"\n{len(images)} photos, {args.steps} steps, x 100")
    for name, values in scores.items():
        print(f"\n| {name} | " + " | ".join(BASELINES) + " |\n|" + "---|" * (1 + len(BASELINES)))
        means = 100 * values.mean(-1)
        for method, row in zip(METHODS, means.tolist(), strict=True):
            print(f"| `{method}` | " + " | ".join(f"{value:.1f}" for value in row) + " |")
        for a, b in combinations(range(len(BASELINES)), 2):
            found = float(rank_correlation(means[None, :, a, None], means[None, :, b, None]))
            print(f"Spearman, {name}, {list(BASELINES)[a]} and {list(BASELINES)[b]}: {found:.2f}")


if __name__ == "__main__":
    main()
