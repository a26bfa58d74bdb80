"""RISE: its masks against scipy, its map against the sum written down, and its expectation in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sess_lightning.saliency import RISE
from tests.helpers.nets import seeded, small_cnn


def published_mask(grid, offsets, size):
    """Bilinear enlargement with mirrored border, sampled pixel by pixel, then the crop."""
    cells = len(grid)
    mirrored = np.pad(grid, 1, mode="reflect")
    out = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            position = []
            for index, offset, length in ((y, offsets[0], size[0]), (x, offsets[1], size[1])):
                enlarged = (cells + 1) * math.ceil(length / cells)
                position.append((index + offset + 0.5) * cells / enlarged - 0.5 + 1)  # + 1: the padding
            (y0, fy), (x0, fx) = ((int(p), p - int(p)) for p in position)
            block = mirrored[y0 : y0 + 2, x0 : x0 + 2]
            out[y, x] = (1 - fy) * ((1 - fx) * block[0, 0] + fx * block[0, 1]) + fy * (
                (1 - fx) * block[1, 0] + fx * block[1, 1]
            )
    return out


def test_masks_are_the_published_ones():
    method, size = RISE(cells=5, probability=0.4), (23, 31)
    masks = method.masks(4, size, torch.Generator().manual_seed(3)).numpy()
    generator = torch.Generator().manual_seed(3)
    for mask in masks:
        grid = (torch.rand(5, 5, generator=generator) < 0.4).float().numpy()
        offsets = [int(torch.randint(math.ceil(n / 5), (1,), generator=generator)) for n in size]
        np.testing.assert_allclose(mask, published_mask(grid, offsets, size), atol=1e-6)


def test_the_map_is_the_weighted_sum_of_the_masks():
    model, images, targets = small_cnn().eval(), seeded(0, 3, 3, 20, 28), torch.tensor([0, 3, 1])
    method = RISE(num_masks=50, probability=0.3, seed=7)
    masks = method.masks(50, (20, 28), torch.Generator().manual_seed(7))
    maps = method(model, images, targets).maps
    for image, target, one in zip(images, targets, maps, strict=True):
        with torch.no_grad():
            p = model(image * masks[:, None]).softmax(1)[:, target]
        expected = (p[:, None, None] * masks).sum(0) / (50 * 0.3)
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-6)


def test_it_finds_the_only_pixels_that_count():
    """A model that sees one corner: the map peaks there, by far."""

    class Corner(nn.Module):
        def forward(self, x):
            z = 8 * (x[:, 0, :6, :6].mean((1, 2)) - 0.5)
            return torch.stack([z, -z], 1)

    saliency = RISE(num_masks=400)(Corner(), torch.ones(1, 3, 42, 42), torch.tensor([0])).maps[0]
    y, x = divmod(int(saliency.argmax()), 42)
    assert max(x, y) < 9
    assert saliency[:6, :6].mean() > 1.3 * saliency[20:, 20:].mean()


@pytest.mark.parametrize("other", [{"batch_size": 1}, {"batch_size": 7}, {"batch_size": 100}])
def test_batches_change_nothing(other):
    model, images, targets = small_cnn(), seeded(0, 2, 3, 20, 28), torch.tensor([0, 3])
    expected = RISE(num_masks=20)(model, images, targets).maps
    torch.testing.assert_close(RISE(num_masks=20, **other)(model, images, targets).maps, expected, rtol=0, atol=1e-6)
    torch.random.manual_seed(5)  # the masks are the method's own, whatever the global state
    assert torch.equal(RISE(num_masks=20)(model, images, targets).maps, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_masks": 0}, "`num_masks` to be a positive int"),
        ({"cells": -1}, "`cells`"),
        ({"probability": 1.0}, r"`probability` to be in \(0, 1\)"),
        ({"activation": None}, "`activation`"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        RISE(**arguments)
