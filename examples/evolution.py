"""The picture at the top of the README: the same scenes, epoch by epoch, from a run of quickstart.py.

python examples/evolution.py evolution.png
"""

import sys

import lightning.pytorch as pl
from quickstart import main
from torchvision.transforms.v2 import functional as TF

from sess_lightning import SESSCallback
from sess_lightning.data import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.render import denormalize, draw_boxes, filmstrip, overlay


class Film(pl.Callback):
    """Keeps the first samples' maps of every validation; stands behind SESSCallback in the list of callbacks."""

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        self.rows: list[list] = [[] for _ in range(num_images)]

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        watch = next(c for c in trainer.callbacks if isinstance(c, SESSCallback))
        found = watch.last_result
        for i, row in enumerate(self.rows):
            image = denormalize(found.images[i], IMAGENET_MEAN, IMAGENET_STD)
            boxes = found.objects[i]["boxes"]
            if not row:
                row.append(draw_boxes(image, boxes))
            row.append(draw_boxes(overlay(image, found.maps[i]), boxes))


if __name__ == "__main__":
    film = Film(num_images=4)
    main(film)
    titles = ["image", *(f"epoch {i}" for i in range(len(film.rows[0]) - 1))]
    TF.to_pil_image(filmstrip(film.rows, titles, panel_height=160)).save(sys.argv[1])
