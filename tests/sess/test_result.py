"""Pictures of a result: `SESSResult.overlay` and `figure`."""

import numpy as np
import pytest
import torch

from sess_lightning import SESS
from tests.helpers.nets import seeded, small_cnn


@pytest.fixture(scope="module")
def pictures():
    return (seeded(0, 2, 3, 40, 48).sigmoid() * 255).byte()


@pytest.fixture(scope="module")
def result(pictures):
    return SESS("gradient", num_scales=2, window_size=32)(small_cnn(), pictures / 255.0, torch.tensor([0, 1]))


def test_an_overlay_is_65_percent_colour(result, pictures):
    grey, colour, mixed = (
        np.stack([np.asarray(one, float) for one in result.overlay(pictures, **options)])
        for options in ({"opacity": 0.0}, {"opacity": 1.0}, {})
    )
    assert grey.shape == (2, 40, 48, 3)
    assert (grey == grey[..., :1]).all()
    np.testing.assert_allclose(mixed, 0.35 * grey + 0.65 * colour, atol=1.01)  # each is rounded


def test_a_normalised_image_is_shown_as_its_picture(result, pictures):
    mean, std = (0.2, 0.3, 0.4), (0.5, 0.6, 0.7)
    images = (pictures / 255.0 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    for shown, expected in zip(result.overlay(images, mean, std), result.overlay(pictures), strict=True):
        np.testing.assert_allclose(np.asarray(shown, float), np.asarray(expected, float), atol=1)


def test_other_images_are_refused(result, pictures):
    with pytest.raises(ValueError, match=r"of sizes \[\(40, 48\), \(40, 48\)\], but got \[\(40, 47\), \(40, 47\)\]"):
        result.overlay(pictures[..., 1:])


def test_a_figure_is_as_high_as_its_panels(result, pictures):
    """One row of pictures for each image; what is around them does not grow with the panels."""
    small, large = (result.figure(pictures, panel_height=height).height for height in (64, 128))
    assert large - small >= 2 * 64


def test_panels_of_a_figure_are_320_pixels_high(result, pictures):
    assert result.figure(pictures).size == result.figure(pictures, panel_height=320).size
