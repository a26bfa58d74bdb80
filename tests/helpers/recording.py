"""Short fits that write a record."""

import torch

from sess_lightning import SESSCallback
from tests.helpers.training import Module, loader, small_sess, trainer


def ours(folder, **options):
    return SESSCallback(
        options.pop("sess", None) or small_sess(),
        **{"num_samples": 5, "num_images": 2, "save_dir": str(folder), **options},
    )


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
