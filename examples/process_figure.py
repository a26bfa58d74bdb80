"""How SESS comes to its map of one photo, as in Fig. 2 of the paper: scales, windows, patches, maps, weights, fusion.

python examples/process_figure.py PHOTO process.png --model mobilenet_v2 --weights DEFAULT

scene:N in the place of PHOTO is scene N of ShapeScenes, for a network that was trained on drawn shapes:

sess-lightning fit --config configs/quickstart.yaml
python examples/process_figure.py scene:0 process.png --model small_cnn --weights CHECKPOINT
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from sess_lightning import SESS
from sess_lightning.data import ShapeScenes
from sess_lightning.data.reading import read_photo
from sess_lightning.networks import load_network
from sess_lightning.render import process_figure


def read_picture(photo: str) -> tuple[Tensor, int | None]:
    """The picture (3, H, W) uint8, and its class where it is known."""
    if not photo.startswith("scene:"):
        return read_photo(photo, max_side=1024).picture, None
    scenes = ShapeScenes().val_scenes
    scene = scenes[int(photo.removeprefix("scene:"))]
    return torch.from_numpy(scene.image).permute(2, 0, 1), scene.label


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", metavar="PHOTO")
    parser.add_argument("out", metavar="OUT.png")
    parser.add_argument("--model", default="mobilenet_v2", help="name of a torchvision or timm network, or small_cnn")
    parser.add_argument("--weights", default="DEFAULT", help="path of a state_dict or checkpoint, or DEFAULT")
    parser.add_argument("--target", type=int, help="class index; that of a scene, of a photo the predicted one")
    parser.add_argument("--num-scales", type=int, default=12)
    parser.add_argument("--ratio", type=float, default=0.0, help="pre-filter: share of the patches left out")
    parser.add_argument("--shown-scales", type=int, default=3)
    parser.add_argument("--shown-patches", type=int, default=2, help="of each scale shown")
    parser.add_argument("--height", type=int, default=112, help="of a patch in the figure, in pixels")
    args = parser.parse_args(words)

    network = load_network(args.model, args.weights)
    picture, label = read_picture(args.photo)
    image = TF.normalize(picture / 255, list(network.mean), list(network.std))
    target = label if args.target is None else args.target
    sess = SESS(num_scales=args.num_scales, window_size=network.input_size, prefilter_ratio=args.ratio)
    result = sess(network.module.eval(), [image], None if target is None else torch.tensor([target]), keep_patches=True)

    found = int(result.targets)
    names = dict(enumerate(ShapeScenes().class_names)) if args.photo.startswith("scene:") else network.class_names
    title = f"How SESS finds the {names[found]}" if names else f"How SESS finds class {found}"
    figure = process_figure(
        picture,
        result,
        num_scales=args.shown_scales,
        num_patches=args.shown_patches,
        title=title,
        panel_height=args.height,
    )
    Image.fromarray(figure.permute(1, 2, 0).numpy()).save(args.out, optimize=True)
    print(f"Wrote {args.out}")


if __name__ == "__main__":
    main()
