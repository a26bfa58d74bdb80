"""Keep the checkpoint that looks at the right place: ModelCheckpoint and EarlyStopping on what SESSCallback logs.

python examples/monitor_pointing.py
"""

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from sess_lightning import SESS, SESSCallback
from sess_lightning.classifier import LitClassifier
from sess_lightning.data import ShapeScenes
from sess_lightning.metrics import DeletionAUC, InsertionAUC, PointingGame


def main(data: pl.LightningDataModule | None = None, **trainer_options: object) -> ModelCheckpoint:
    pl.seed_everything(0)
    watch = SESSCallback(
        sess=SESS(num_scales=6, window_size=64),
        metrics={"insertion": InsertionAUC(), "deletion": DeletionAUC(), "pointing": PointingGame(tolerance=0)},
    )
    best = ModelCheckpoint(monitor="sess/pointing_acc", mode="max", filename="{epoch}-{sess/pointing_acc:.3f}",
                           auto_insert_metric_name=False)  # fmt: skip
    patience = EarlyStopping(monitor="sess/overall", mode="max", patience=3)
    options = {"max_epochs": 6, "accelerator": "cpu", "default_root_dir": "runs/monitor", "log_every_n_steps": 10}
    trainer = pl.Trainer(callbacks=[watch, best, patience], **{**options, **trainer_options})
    trainer.fit(LitClassifier("small_cnn", num_classes=6, input_size=64), datamodule=data or ShapeScenes())
    print(f"Pointing accuracy {float(best.best_model_score):.3f}: {best.best_model_path}")
    return best


if __name__ == "__main__":
    main()
