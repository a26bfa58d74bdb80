"""Row 42: a Trainer of `pytorch_lightning` takes the callback, beside callbacks and loggers of its own."""

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

PROGRAM = """
import json, sys
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader
from sess_lightning import SESS, SESSCallback
from tests.helpers.nets import seeded, small_cnn

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = small_cnn()

    def forward(self, images):
        return self.net(images)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("acc", 0.5)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

def fit(key):
    loader = DataLoader([(image, 1) for image in seeded(0, 4, 3, 24, 24)], batch_size=2)
    checkpoint = pl.callbacks.ModelCheckpoint(sys.argv[1], monitor=key, mode="max")
    logger = pl.loggers.TensorBoardLogger(sys.argv[1])
    callback = SESSCallback(SESS(num_scales=1, window_size=None), num_samples=2)
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", callbacks=[callback, checkpoint], logger=logger, enable_progress_bar=False
    )
    trainer.fit(Net(), loader, loader)
    return sorted(trainer.callback_metrics), checkpoint.best_model_path

import lightning.pytorch
try:
    pl.Trainer(accelerator="cpu", logger=False, callbacks=[lightning.pytorch.Callback()])
except (TypeError, ValueError) as error:
    print(json.dumps(["refused", str(error)]))
    sys.exit()

keys, best = fit("sess/overall")
try:
    fit("sess/overal")
except Exception as error:
    refused = str(error)
print(json.dumps([keys, best, refused]))
"""


@pytest.mark.skipif(find_spec("pytorch_lightning") is None, reason="pytorch_lightning is not installed")
def test_a_fit_by_the_other_package(tmp_path, root):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    if found[0] == "refused":
        pytest.skip(f"this release takes no callback of the twin package: {found[1]}")
    keys, best, refused = found
    assert {"sess/overall", "sess/base_insertion_auc", "acc"} <= set(keys)
    assert best.endswith(".ckpt")
    assert "Did you mean 'sess/overall'?" in refused
    assert list(tmp_path.rglob("sess_evolution.gif"))
