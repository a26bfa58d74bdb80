"""Short fits that write a record."""

import torch

from sess_lightning import SESSCallback
from tests.helpers.training import Module, loader, small_sess, trainer


def ours(folder, kind=SESSCallback, **options):
    """Records every validation and draws the first alone: drawing takes longer than recording."""
    given = {"num_samples": 5, "num_images": 2, "save_dir": str(folder), "every_n_epochs": 99, **options}
    return kind(given.pop("sess", None) or small_sess(), **given)


def fit(folder, callback, validation=None, ckpt_path=None, module=None, **options):
    torch.manual_seed(3)
    t = trainer(folder, *(callback if isinstance(callback, list) else [callback]), **options)
    t.fit(module or Module(), loader(), loader("targets") if validation is None else validation, ckpt_path=ckpt_path)
    return t


class Keeping(SESSCallback):
    """Keeps what every validation found and logged."""

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            kept = self.__dict__.setdefault("kept", [])
            logged = {k.removeprefix("sess/"): float(v) for k, v in trainer.callback_metrics.items() if "sess/" in k}
            kept.append((self.last_result, logged, self.last_intervals[0]))
