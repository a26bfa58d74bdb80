"""Log one number of a validation under the key that it is given, in every Lightning from 2.5 on."""

from __future__ import annotations

import re
import warnings

import lightning.pytorch as pl
from packaging.version import Version
from torch import Tensor

# Until 2.5.2 `LightningModule.log` refuses a key with `/dataloader_idx_` in it, also with `add_dataloader_idx=False`.
_REFUSES_LOADER_SUFFIX = Version(pl.__version__) < Version("2.5.3")


def log_value(trainer: pl.Trainer, pl_module: pl.LightningModule, key: str, value: Tensor) -> None:
    """Log a number at the end of an evaluation epoch that is the same on all processes: nothing is synchronised again.

    Lightning puts `/dataloader_idx_i` behind a key by itself only in the hooks of that loader's batches. The numbers
    of all loaders are known only at the end of the epoch, as a process may see no batch of a loader, so their keys
    come with the suffix. Releases that refuse such a key are given the number where `LightningModule.log` would put
    it: in the trainer's collection of results, which those releases, unlike later ones, will not change any more.

    Args:
        trainer: in `on_validation_epoch_end` or `on_test_epoch_end`.
        pl_module: that is evaluated.
        key: with prefix and suffix, e.g. `"sess/insertion_auc/dataloader_idx_1"`.
        value: a scalar on the device of the strategy.
    """
    if trainer.world_size > 1:  # Lightning would advise to synchronise this key
        warnings.filterwarnings("ignore", message=re.escape(f"It is recommended to use `self.log({key!r},"))
    if not (_REFUSES_LOADER_SUFFIX and "/dataloader_idx_" in key):
        pl_module.log(key, value, add_dataloader_idx=False)
    elif trainer._results is not None and not trainer.barebones:  # which logs nothing
        connector, hook = trainer._logger_connector, pl_module._current_fx_name
        # As `log` does with its first key in a hook; a later call of it would else take the numbers away again.
        if connector.should_reset_tensors(hook):  # type: ignore[arg-type]
            trainer._results.reset(metrics=False, fx=hook)
        trainer._results.log(hook, key, value, logger=True, on_step=False, on_epoch=True, add_dataloader_idx=False)
        connector._current_fx = hook
