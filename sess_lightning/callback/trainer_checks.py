"""Checks of the trainer before it starts: strategies that cannot work, monitors that would not get a value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

# A strategy that shards weights needs all processes in every forward; the number of forwards of a probe differs.
_SHARDING = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy", "XLAFSDPStrategy")


def refuse_sharding(strategy: Any) -> None:
    """Refuse strategies that shard the model's weights, by name.

    Raises:
        MisconfigurationException: if it does; names the strategies that work.
    """
    if any(kind.__name__ in _SHARDING for kind in type(strategy).__mro__):
        raise MisconfigurationException(
            f"SESSCallback does not work with {type(strategy).__name__}, which shards the model's weights: "
            "processes explain different numbers of patches. Use a single device or strategy='ddp'."
        )


def refuse_empty_loaders(trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
    """Refuse several processes of which one may have no batch: it would skip validations, and the others wait for it.

    Raises:
        MisconfigurationException: if the module or the data module allows it.
    """
    name = "allow_zero_length_dataloader_with_multiple_devices"
    for owner in (pl_module, getattr(trainer, "datamodule", None)):
        if trainer.world_size > 1 and getattr(owner, name, False):
            raise MisconfigurationException(
                f"SESSCallback does not work with {type(owner).__name__}.{name}=True on {trainer.world_size} "
                "processes: one without a batch skips the validation, and the others wait for it. Leave it False "
                "and give every process at least one batch, e.g. by Lightning's distributed sampler, or use one device."
            )


def monitor_warnings(trainer: pl.Trainer, prefix: str) -> Iterator[str]:
    """Yields a warning for every monitor of this callback's keys that would not work in this `fit`.

    Args:
        trainer: at the start of `fit`, after optimizers and callbacks are set up.
        prefix: first part of the keys.
    """
    monitors = [
        callback
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, (EarlyStopping, ModelCheckpoint)) and (callback.monitor or "").startswith(f"{prefix}/")
    ]
    if trainer.limit_val_batches == 0:
        keys = ", ".join(sorted({repr(callback.monitor) for callback in monitors}))
        yield (
            "SESSCallback works during validation, but this fit has none (limit_val_batches=0): nothing is shown or "
            "logged" + (f", and {keys} will never exist." if keys else ".")
        )
        return
    every = trainer.check_val_every_n_epoch or 1
    for callback in monitors:
        if every > 1 and isinstance(callback, EarlyStopping) and callback._check_on_train_epoch_end:
            yield (
                f"EarlyStopping checks {callback.monitor!r} at the end of every epoch, but a validation comes every "
                f"{every} epochs: it would compare stale values. Pass check_on_train_epoch_end=False."
            )
    for config in trainer.lr_scheduler_configs:
        if config.reduce_on_plateau and (config.monitor or "").startswith(f"{prefix}/") and config.frequency % every:
            yield (
                f"A plateau scheduler looks at {config.monitor!r} every {config.frequency} epochs, but a validation "
                f"comes every {every}: it would compare stale values. Set its frequency to {every}."
            )
