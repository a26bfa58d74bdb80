"""Several devices: nothing changes for the callback, which shares the samples out among the processes.

python examples/multi_gpu.py --devices 2
python examples/multi_gpu.py --devices 2 --accelerator cpu

`num_samples` and `num_images` are totals over all processes, and the numbers logged are those of all samples.
"""

import argparse

import lightning.pytorch as pl

from sess_lightning import SESS, SESSCallback
from sess_lightning.classifier import LitClassifier
from sess_lightning.data import ShapeScenes


def main(
    devices: int, accelerator: str = "auto", data: pl.LightningDataModule | None = None, **options: object
) -> dict:
    pl.seed_everything(0, workers=True)
    watch = SESSCallback(sess=SESS(num_scales=6, window_size=64), num_samples=32)
    defaults = {"max_epochs": 6, "default_root_dir": "runs/multi_gpu", "log_every_n_steps": 10}
    trainer = pl.Trainer(
        devices=devices,
        accelerator=accelerator,
        strategy="ddp" if devices > 1 else "auto",
        callbacks=[watch],
        **{**defaults, **options},
    )
    trainer.fit(LitClassifier("small_cnn", num_classes=6, input_size=64), datamodule=data or ShapeScenes())
    found = {key: float(value) for key, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero:
        print(f"{found['sess/num_samples']:.0f} samples of {trainer.world_size} processes, "
              f"pointing accuracy {found['sess/pointing_acc']:.3f}")  # fmt: skip
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=2)
    parser.add_argument("--accelerator", default="auto")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--train-size", type=int, default=8192)
    parser.add_argument("--val-size", type=int, default=128)
    args = parser.parse_args()
    scenes = ShapeScenes(train_size=args.train_size, val_size=args.val_size)
    main(args.devices, args.accelerator, scenes, max_epochs=args.epochs)
