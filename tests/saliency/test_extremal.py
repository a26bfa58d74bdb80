"""Extremal perturbations: the masks pixel by pixel, the blur, the area constraint, and where the mask must land."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from sess_lightning.pixels import gaussian_blur
from sess_lightning.saliency import ExtremalPerturbation
from sess_lightning.saliency.extremal_mask import SmoothMasks, blend, blur_levels
from tests.helpers.nets import METRICS_GOLDEN, seeded


def mask_value(parameters, y, x):
    """The smooth maximum at one pixel, as the formula says."""
    values = []
    for j in range(y // 7 - 4, y // 7 + 5):
        for i in range(x // 7 - 4, x // 7 + 5):
            inside = 0 <= j < parameters.shape[0] and 0 <= i < parameters.shape[1]
            spread = math.exp(-2 * max(math.hypot(y - 7 * j, x - 7 * i) / 21 - 0.5, 0) ** 2)
            values.append(float(parameters[j, i]) * spread if inside else 0.0)
    weights = [math.exp(20 * value) for value in values]
    total = sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
    return min(max(total, 0), 1)


@pytest.mark.parametrize("size", [(63, 80), (40, 33)])
@pytest.mark.parametrize("sparse", [False, True])
def test_masks_are_the_smooth_maximum(size, sparse):
    generator = SmoothMasks(size, torch.zeros(1))
    drawn = torch.rand(2, *generator.grid, generator=torch.Generator().manual_seed(1))
    parameters = (drawn > 0.9).float() if sparse else drawn
    masks, _ = generator(parameters)
    assert masks.shape == (2, *size)
    for n in range(2):
        for y in range(0, size[0], 9):
            for x in range(0, size[1], 11):
                assert float(masks[n, y, x]) == pytest.approx(mask_value(parameters[n], y, x), abs=0.03)


def test_blur_levels_go_from_20_pixels_to_none():
    point = torch.zeros(1, 161, 161)
    point[0, 80, 80] = 1
    levels = blur_levels(point)
    assert torch.equal(levels[-1], point)
    offsets = (torch.arange(161) - 80.0) ** 2
    for level, sigma in zip(levels[:-1], torch.linspace(20, 0, 8), strict=False):
        profile = level[0].sum(0)  # its variance is sigma squared, but for what is cut at 4 sigma
        assert float((profile * offsets).sum() / profile.sum()) == pytest.approx(float(sigma) ** 2, rel=0.01, abs=0.01)


@pytest.mark.parametrize(("border", "sigma", "name"), [("replicate", 1.0, "s0.02"), ("constant", 3.6, "s3.6")])
def test_blur_equals_the_published_one(border, sigma, name):
    case = np.load(METRICS_GOLDEN / "base_ops.npz")
    given = torch.from_numpy(case["imsmooth_in"])
    blurred = gaussian_blur(given, 2 * math.ceil(4 * sigma) + 1, sigma, border=border)
    np.testing.assert_allclose(blurred.numpy(), case[f"imsmooth_{border}_{name}"], rtol=0, atol=1e-6)


def test_blend_interpolates_between_levels():
    levels = seeded(0, 8, 3, 5, 6)
    masks = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(2))
    masks[0, 0, 0], masks[0, 0, 1] = 0, 1
    images = blend(levels, masks)
    for n, y, x in np.ndindex(2, 5, 6):
        position = 7 * float(masks[n, y, x])
        low = min(int(position), 6)
        expected = levels[low, :, y, x] * (low + 1 - position) + levels[low + 1, :, y, x] * (position - low)
        torch.testing.assert_close(images[n, :, y, x], expected)


class Bright(nn.Module):
    """The class is the contrast within the upper third: blur there lowers it, elsewhere it changes nothing."""

    def forward(self, x):
        z = x[:, 0, :21].flatten(1).std(1) * 5
        return torch.stack([z, -z], 1)


def test_the_mask_lands_where_the_class_is_and_has_its_area():
    image = seeded(3, 1, 3, 64, 64)
    method = ExtremalPerturbation(areas=(0.25,), num_steps=300)
    (mask,) = method._masks(Bright(), image, torch.tensor([0]))[0]
    assert float(mask.mean()) == pytest.approx(0.25, abs=0.08)
    assert mask[:16].mean() > 4 * mask[32:].mean()
    saliency = ExtremalPerturbation(num_steps=100)(Bright(), image, torch.tensor([0])).maps[0]
    assert int(saliency.argmax()) // 64 < 21


def test_each_image_has_its_own_mask():
    images = torch.stack([seeded(3, 3, 40, 40), seeded(4, 3, 40, 40)])
    method, targets = ExtremalPerturbation(areas=(0.1, 0.3), num_steps=5), torch.tensor([0, 1])
    together = method(Bright(), images, targets).maps
    alone = [method(Bright(), images[i : i + 1], targets[i : i + 1]).maps[0] for i in range(2)]
    small_batches = ExtremalPerturbation(areas=(0.1, 0.3), num_steps=5, batch_size=2)(Bright(), images, targets).maps
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-4)
    torch.testing.assert_close(together, small_batches, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"areas": ()}, "`areas`"), ({"areas": (0.1, 1.0)}, "`areas`"), ({"num_steps": 0}, "`num_steps`")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExtremalPerturbation(**arguments)
