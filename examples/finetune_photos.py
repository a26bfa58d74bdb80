"""Fine-tune a network on your own photos and watch whether it looks at the objects.

python examples/finetune_photos.py PHOTOS --model resnet18 --weights DEFAULT

PHOTOS is a folder in COCO format: images/ and annotations.json, where category ids count the classes from 0. The class
of a photo is that of its largest object; every fifth photo is kept for validation. The best checkpoint, whose path is
printed, can then be explained:

sess-lightning explain NEW.jpg --model resnet18 --weights CHECKPOINT --classes PHOTOS/annotations.json
"""

import argparse
from collections.abc import Sequence

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, Subset

from sess_lightning import SESS, SESSCallback
from sess_lightning.classifier import LitClassifier
from sess_lightning.data import CocoPhotos


class FineTuned(LitClassifier):
    """A trained network whose last layer is replaced by a new one."""

    def __init__(self, model: str, num_classes: int, weights: str | None, learning_rate: float = 3e-4) -> None:
        super().__init__(model, weights=weights, learning_rate=learning_rate)
        name, head = [(n, m) for n, m in self.model.named_modules() if isinstance(m, nn.Linear)][-1]
        self.model.set_submodule(name, nn.Linear(head.in_features, num_classes))


class Photos(pl.LightningDataModule):
    """Every fifth photo of a COCO-format folder for validation, the others for training."""

    def __init__(self, root: str, batch_size: int) -> None:
        super().__init__()
        photos = CocoPhotos(root)
        photos.setup()
        self.photos = photos.val_dataloader().dataset
        self.class_names = photos.class_names  # the callback writes them into its pictures
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader:
        return self._loader([i for i in range(len(self.photos)) if i % 5], shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader(range(0, len(self.photos), 5))

    def _loader(self, indices: Sequence[int], **options: object) -> DataLoader:
        return DataLoader(Subset(self.photos, indices), self.batch_size, collate_fn=collate, **options)


def collate(samples: list) -> tuple[list, list]:
    """A list of images of any sizes, and the list of their detection targets."""
    return [image for image, _ in samples], [target for _, target in samples]


def main(data: Photos, model: str, weights: str | None, sess: SESS | None = None, **options: object) -> ModelCheckpoint:
    pl.seed_everything(0)
    best = ModelCheckpoint(monitor="sess/pointing_acc", mode="max", filename="best")
    watch = SESSCallback(sess or SESS(num_scales=4))  # photos at their own resolution, windows of 224
    defaults = {"max_epochs": 5, "default_root_dir": "runs/finetune", "log_every_n_steps": 5}
    trainer = pl.Trainer(callbacks=[watch, best], **{**defaults, **options})
    trainer.fit(FineTuned(model, max(data.class_names) + 1, weights), datamodule=data)
    print(f"Pointing accuracy {float(best.best_model_score):.3f}: {best.best_model_path}")
    return best


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", metavar="PHOTOS")
    parser.add_argument("--model", default="resnet18", help="a torchvision or timm network that ends in a linear layer")
    parser.add_argument("--weights", default="DEFAULT", help="path of a state_dict, or DEFAULT, which downloads them")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    main(Photos(args.root, args.batch_size), args.model, args.weights, max_epochs=args.epochs)
