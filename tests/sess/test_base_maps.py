"""The base method alone: its maps at the window, normalised, then brought to each image."""

import pytest
import torch
from torch.nn import functional as F

from sess_lightning import SESS
from sess_lightning.saliency.base import Explanation
from sess_lightning.sess.base_maps import base_maps
from tests.helpers.nets import seeded, small_cnn


@pytest.mark.parametrize("batch_size", [None, 2])
def test_maps_equal_those_made_step_by_step(batch_size):
    """Against plain torch calls, for a window that is not square and images of several sizes."""
    squashed, targets = seeded(0, 3, 3, 12, 20), torch.tensor([2, 0, 1])
    images = [seeded(i, 3, 16 + i, 25 - i) for i in range(3)]
    sizes = []

    def method(model, batch, classes):
        sizes.append(len(batch))
        return batch.sum(1)[:, ::3, ::2] + classes[:, None, None] * batch[:, 0, ::3, ::2]

    sess = SESS(method, num_scales=1, window_size=(12, 20), batch_size=batch_size)
    found, valid = base_maps(sess, small_cnn(), squashed, targets, images)
    for one, image, own, target in zip(found, images, squashed, targets, strict=True):
        coarse = own.sum(0)[::3, ::2] + target * own[0, ::3, ::2]
        at_window = F.interpolate(coarse[None, None], size=(12, 20), mode="bilinear")
        at_window = (at_window - at_window.min()) / (at_window.max() - at_window.min())
        expected = F.interpolate(at_window, size=image.shape[1:], mode="bilinear")[0, 0]
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-6)
    assert valid.tolist() == [True] * 3
    assert sizes == ([3] if batch_size is None else [2, 1])


def test_constant_and_broken_maps_are_flagged():
    def method(model, batch, classes):
        maps = batch[:, 0].clone()
        maps[1] = 3.0
        maps[2, 0, 0] = torch.nan
        return Explanation(maps)

    images = seeded(0, 3, 3, 16, 16)
    sess = SESS(method, num_scales=1, window_size=16)
    found, valid = base_maps(sess, small_cnn(), images, torch.zeros(3, dtype=torch.long), list(images))
    assert valid.tolist() == [True, False, False]
    assert not found[1].any()
    assert not found[2].any()
