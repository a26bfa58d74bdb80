"""Row 13: many validations leave nothing behind. Run by hand with -m slow."""

from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest

from sess_lightning import SESS, SESSCallback
from tests.helpers.training import Module, loader, trainer

STATM = Path("/proc/self/statm")


class Resident(pl.Callback):
    def __init__(self):
        self.megabytes = []

    def on_validation_end(self, trainer, pl_module):
        self.megabytes.append(int(STATM.read_text().split()[1]) * 4096 / 2**20)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in pl_module.modules())


@pytest.mark.slow
@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")
def test_two_hundred_validations_leave_memory_flat(tmp_path):
    resident = Resident()
    callback = SESSCallback(SESS(num_scales=3, window_size=None), num_samples=8, num_images=2,
                            save_dir=str(tmp_path / "maps"))  # fmt: skip
    t = trainer(tmp_path, callback, resident, max_epochs=200, num_sanity_val_steps=0)
    t.fit(Module(), loader(), loader("targets"))
    assert len(resident.megabytes) == 200
    half, end = np.median(resident.megabytes[95:105]), np.median(resident.megabytes[-10:])
    print(f"resident: {resident.megabytes[0]:.0f} MB first, {half:.0f} MB half-way, {end:.0f} MB at the end")
    assert end < 1.01 * half
