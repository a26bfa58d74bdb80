"""One photo, every method: a row for each, without and with SESS, as in Fig. 8 of the paper.

python examples/compare_methods.py PHOTO --model resnet50 --weights DEFAULT --out methods.png

The class is the predicted one, or --target. Methods that a network cannot have are left out and named. The dearest ones
run with less work than by default, which --full switches off.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from PIL import Image
from torchvision.transforms.v2 import functional as TF
from tqdm import tqdm

from sess_lightning import SESS
from sess_lightning.networks import load_network
from sess_lightning.pixels import minmax
from sess_lightning.probing import probe
from sess_lightning.render import filmstrip, overlay
from sess_lightning.saliency import RISE, AugmentedGradCAM, ExtremalPerturbation, method_names

QUICK = {
    "augmented_gradcam": AugmentedGradCAM(num_copies=40),
    "extremal_perturbation": ExtremalPerturbation(num_steps=150),
    "rise": RISE(num_masks=800),
}


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("--model", default="resnet50", help="name of a torchvision classifier")
    parser.add_argument("--weights", default="DEFAULT", help="path of a state_dict, or DEFAULT")
    parser.add_argument("--methods", default=",".join(method_names()))
    parser.add_argument("--target", type=int, help="class index; the predicted class by default")
    parser.add_argument("--scales", default="352,544,736", help="short sides of the scaled photo")
    parser.add_argument("--ratio", type=float, default=0.9, help="pre-filter for methods of more than one pass")
    parser.add_argument("--full", action="store_true", help="every method at its full cost")
    parser.add_argument("--out", default="methods.png")
    args = parser.parse_args(words)

    network = load_network(args.model, args.weights)
    model = network.module.eval()
    picture = TF.pil_to_tensor(Image.open(args.photo).convert("RGB"))
    image = TF.normalize(TF.to_dtype(picture, torch.float32, scale=True), list(network.mean), list(network.std))
    squashed = TF.resize(image[None], list(network.input_size), antialias=True)
    with probe(model):
        target = model(squashed).argmax(1) if args.target is None else torch.tensor([args.target])

    scales = [int(side) for side in args.scales.split(",")]
    rows, names = [], []
    for name in tqdm(args.methods.split(","), unit="method"):
        sess = SESS(name if args.full else QUICK.get(name, name), scales=scales, window_size=network.input_size)
        sess.prefilter_ratio = 0.0 if getattr(sess.method, "single_pass", False) else args.ratio
        try:
            alone = sess.method(model, squashed, target).maps
        except (ValueError, ImportError) as reason:
            tqdm.write(f"{name} is left out: {reason}")
            continue
        alone = minmax(TF.resize(alone[:, None].float(), list(picture.shape[1:]), antialias=False)[0, 0])[0]
        rows.append([picture, overlay(picture, alone), overlay(picture, sess(model, [image], target).maps[0])])
        names.append(name)
    title = f"{args.model}, class {(network.class_names or {}).get(int(target), int(target))}"
    figure = filmstrip(rows, ["photo", "alone", "with SESS"], names, title, panel_height=160)
    TF.to_pil_image(figure).save(args.out)
    print(f"Wrote {args.out}")


if __name__ == "__main__":
    main()
