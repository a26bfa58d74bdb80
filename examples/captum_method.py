"""A method of captum, enhanced by SESS: one line, and a figure of a drawn scene.

pip install captum
python examples/captum_method.py
"""

from pathlib import Path

import lightning.pytorch as pl
import torch
from captum.attr import DeepLift

from sess_lightning import SESS
from sess_lightning.classifier import LitClassifier
from sess_lightning.data import ShapeScenes
from sess_lightning.saliency import from_captum


def main(out: str = "runs/captum", train_size: int = 4096, **trainer_options: object) -> Path:
    pl.seed_everything(0)
    data = ShapeScenes(train_size=train_size, val_size=4, batch_size=64)
    classifier = LitClassifier("small_cnn", num_classes=6, input_size=64)
    options = {"max_epochs": 3, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    pl.Trainer(**{**options, **trainer_options}).fit(classifier, data.train_dataloader())

    images, targets = next(iter(data.val_dataloader()))
    labels = torch.stack([target["label"] for target in targets])
    # DeepLift needs a forward and a backward pass for each patch, so only the best tenth of the patches is explained.
    sess = SESS(from_captum(DeepLift), num_scales=6, window_size=64, prefilter_ratio=0.9)
    result = sess(classifier.model, images, labels)

    file = Path(out) / "deeplift.png"
    file.parent.mkdir(parents=True, exist_ok=True)
    result.figure(images, class_names=data.class_names).save(file)
    print(f"Wrote {file}")
    return file


if __name__ == "__main__":
    main()
