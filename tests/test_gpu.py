"""What only a CUDA device can show; skipped where there is none."""

import warnings

import pytest
import torch

from sess_lightning import SESS
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import seeded, small_cnn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
IMAGES, TARGETS = seeded(0, 4, 3, 60, 80), torch.tensor([0, 1, 2, 3])


def sess_of(**options):
    return SESS(GradCAM("4"), num_scales=4, window_size=32, **options)


@pytest.mark.parametrize("method", ["gradcam", "guidedbp", "groupcam"])
def test_the_device_changes_nothing(method):
    on_cpu = SESS(method, num_scales=3, window_size=32)(small_cnn(), IMAGES, TARGETS)
    on_gpu = SESS(method, num_scales=3, window_size=32)(small_cnn().cuda(), IMAGES.cuda(), TARGETS.cuda())
    torch.testing.assert_close(on_gpu.maps.cpu(), on_cpu.maps, rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast(dtype):
    """Row 8."""
    with torch.autocast("cuda", dtype):
        maps = sess_of()(small_cnn().cuda(), IMAGES.cuda(), TARGETS.cuda()).maps
    assert torch.isfinite(maps).all()


def test_memory_is_flat_over_twenty_calls():
    """Row 13."""
    model, images, targets, sess = small_cnn().cuda(), IMAGES.cuda(), TARGETS.cuda(), sess_of()
    used = []
    for _ in range(20):
        sess(model, images, targets)
        used.append(torch.cuda.memory_allocated())
    assert len(set(used[1:])) == 1


def test_the_host_does_not_wait_in_the_patch_loop():
    model, images, targets = small_cnn().cuda(), IMAGES.cuda(), TARGETS.cuda()
    waits = []
    for num_scales in (3, 6):
        sess = SESS(GradCAM("4"), num_scales=num_scales, window_size=32, batch_size=8)
        sess(model, images, targets)  # geometry is cached from here on
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as record:
                warnings.simplefilter("always")
                sess(model, images, targets)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(len(record))
    assert waits[0] == waits[1]
