"""Augmented Grad-CAM: the motions against scipy, the minimum in closed form, finer than what it is made of."""

import pytest
import torch
from scipy import ndimage
from torch import nn
from torch.nn import functional as F

from sess_lightning.saliency import AugmentedGradCAM, GradCAM
from sess_lightning.saliency import augmented as module
from tests.helpers.nets import seeded, small_cnn


def test_a_copy_is_the_image_turned_then_shifted():
    size = (40, 60)
    method = AugmentedGradCAM(num_copies=3, seed=2)
    drawn = torch.rand(3, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1
    image = torch.zeros(size)
    image[12:26, 20:44] = 1
    image = torch.from_numpy(ndimage.gaussian_filter(image.numpy(), 2.0))
    grid = F.affine_grid(method.motions(size), [3, 1, *size], align_corners=False)
    copies = F.grid_sample(image.expand(3, 1, *size), grid, align_corners=False)[:, 0]
    for (turn, right, down), copy in zip(drawn.tolist(), copies, strict=True):
        # scipy turns from the first axis to the second, in degrees, about the centre
        turned = ndimage.rotate(image.numpy(), -turn * 0.5 * 180 / torch.pi, reshape=False, order=1)
        shifted = ndimage.shift(turned, (down * 30 / 224 * 40, right * 30 / 224 * 60), order=1)
        assert (copy - torch.from_numpy(shifted)).abs().max() < 0.05
        assert (copy - image).abs().max() > 0.2  # it did move


def test_unmoved_copies_give_the_coarse_map_back(monkeypatch):
    """Without motion, variation and energy the cells' means of the fine map must become the coarse map."""
    monkeypatch.setattr(module, "_ANGLE", 0.0)
    monkeypatch.setattr(module, "_SHIFT", 0.0)
    monkeypatch.setattr(module, "_VARIATION", 0.0)
    monkeypatch.setattr(module, "_ENERGY", 0.0)
    monkeypatch.setattr(module, "_RATE", 0.02)
    model, images, targets = small_cnn(), seeded(0, 2, 3, 32, 32), torch.tensor([0, 3])
    fine = AugmentedGradCAM("4", num_copies=2, num_steps=300)(model, images, targets).maps
    coarse = GradCAM("4")(model, images, targets).maps
    expected = coarse / coarse.amax((1, 2), keepdim=True)
    torch.testing.assert_close(F.adaptive_avg_pool2d(fine, (16, 16)), expected, rtol=0, atol=0.02)


class Spot(nn.Module):
    """A layer of 4 x 4 cells that sees where the image is bright."""

    def __init__(self):
        super().__init__()
        self.cells = nn.AvgPool2d(16)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
        nn.init.ones_(self.head[2].weight)

    def forward(self, x):
        return self.head(self.cells(x))


def test_it_is_finer_than_its_cells():
    """A spot in one corner of a cell: Grad-CAM can only say which cell, the turned copies say where in it."""
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 33:37, 33:37] = 1
    saliency = AugmentedGradCAM("cells", num_copies=60)(Spot(), image, torch.tensor([0])).maps[0]
    weights = saliency / saliency.sum()
    rows = torch.arange(64.0)
    found = torch.stack([(weights.sum(1) * rows).sum(), (weights.sum(0) * rows).sum()])
    assert (found - 34.5).abs().max() < 3  # the cell's own centre is 39.5
    y, x = divmod(int(saliency.argmax()), 64)
    assert max(abs(y - 34.5), abs(x - 34.5)) < 5


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_change_nothing(batch_size):
    model, images, targets = small_cnn(), seeded(0, 2, 3, 20, 28), torch.tensor([0, 3])
    expected = AugmentedGradCAM(num_copies=4, num_steps=10)(model, images, targets).maps
    maps = AugmentedGradCAM(num_copies=4, num_steps=10, batch_size=batch_size)(model, images, targets).maps
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5)
    one = AugmentedGradCAM(num_copies=4, num_steps=10)(model, images[1:], targets[1:]).maps
    torch.testing.assert_close(one, expected[1:], rtol=0, atol=1e-5)
