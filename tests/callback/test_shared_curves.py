"""The callback measures a curve that deletion and relevance gain have in common once for each map."""

import pytest

from sess_lightning.metrics import DeletionAUC, SymmetricRelevanceGain
from tests.helpers.boards import callback, scenes
from tests.helpers.training import Module, trainer

SAMPLES, POINTS = 3, 8  # of a curve of 7 steps


def images_seen(folder, metrics):
    """How many images the network gets in a validation."""
    seen = 0

    def count(module, args, output):
        nonlocal seen
        seen += len(output)

    module = Module(num_classes=3)
    module.register_forward_hook(count)
    watch = callback(num_samples=SAMPLES, num_images=0, metrics=metrics)
    trainer(folder, watch).validate(module, datamodule=scenes(), verbose=False)
    return seen


@pytest.mark.parametrize(("blurred", "curves"), [(False, 1), (True, 2)])
def test_forwards_of_the_relevance_gain(tmp_path, blurred, curves):
    deletion, gain = DeletionAUC(7), SymmetricRelevanceGain(7, baseline="blur" if blurred else None)
    alone = images_seen(tmp_path, {"deletion": deletion})
    both = images_seen(tmp_path, {"deletion": deletion, "srg": gain})
    maps = 2 * SAMPLES  # of SESS and of its base method
    assert both - alone == maps * curves * POINTS
