"""Fine-tune a network on class folders and watch, on a few boxed photos of your own, whether it looks at the objects.

python examples/finetune_class_folders.py CROPS PHOTOS --model resnet18 --weights DEFAULT

CROPS holds train/ and val/, each with a folder a class. PHOTOS is a folder in COCO format, images/ and
annotations.json, of whole photos at any size; twenty are enough. The names of its categories are those of the class
folders, in any order. The usual 224 px crops have no boxes and no small objects: the photos show what the network looks
at where there are both.
"""

import argparse

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from sess_lightning import SESSCallback
from sess_lightning.classifier import LitClassifier
from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD


class FineTuned(LitClassifier):
    """A trained network whose last layer is replaced by a new one."""

    def __init__(self, model: str, num_classes: int, weights: str | None, learning_rate: float = 3e-4) -> None:
        super().__init__(model, weights=weights, learning_rate=learning_rate)
        name, head = [(n, m) for n, m in self.model.named_modules() if isinstance(m, nn.Linear)][-1]
        self.model.set_submodule(name, nn.Linear(head.in_features, num_classes))


class Crops(pl.LightningDataModule):
    """Crops out of class folders, as any tutorial makes them. The callback finds the names in `ImageFolder.classes`."""

    def __init__(self, root: str, size: int = 224, batch_size: int = 32, num_workers: int = 0) -> None:
        super().__init__()
        floats = v2.ToDtype(torch.float32, scale=True)
        to_tensor = [v2.ToImage(), v2.RGB(), floats, v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
        self.train = ImageFolder(f"{root}/train", v2.Compose([v2.RandomResizedCrop(size), *to_tensor]))
        self.val = ImageFolder(f"{root}/val", v2.Compose([v2.Resize(size * 8 // 7), v2.CenterCrop(size), *to_tensor]))
        self.options = {"batch_size": batch_size, "num_workers": num_workers}

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, shuffle=True, **self.options)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, **self.options)


def main(crops: Crops, photos: str, model: str, weights: str | None, **options: object) -> ModelCheckpoint:
    pl.seed_everything(0)
    best = ModelCheckpoint(monitor="sess/pointing_acc", mode="max", filename="best")
    defaults = {"max_epochs": 5, "default_root_dir": "runs/class_folders", "log_every_n_steps": 5}
    trainer = pl.Trainer(callbacks=[SESSCallback(photos=photos), best], **{**defaults, **options})
    trainer.fit(FineTuned(model, len(crops.val.classes), weights), datamodule=crops)
    print(f"Pointing accuracy {float(best.best_model_score):.3f}: {best.best_model_path}")
    return best


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", metavar="CROPS")
    parser.add_argument("photos", metavar="PHOTOS")
    parser.add_argument("--model", default="resnet18", help="a torchvision or timm network that ends in a linear layer")
    parser.add_argument("--weights", default="DEFAULT", help="path of a state_dict, or DEFAULT, which downloads them")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5)
    args = parser.parse_args()
    main(Crops(args.crops, batch_size=args.batch_size), args.photos, args.model, args.weights, max_epochs=args.epochs)
