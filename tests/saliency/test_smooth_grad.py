"""SmoothGrad: closed forms and the average written down."""

import pytest
import torch
from torch import nn

from sess_lightning.saliency import InputGradient, SmoothGrad
from sess_lightning.saliency.gradient import grey
from tests.helpers.nets import seeded, small_cnn

IMAGES, TARGETS = seeded(0, 3, 3, 20, 28), torch.tensor([0, 3, 1])


class Square(nn.Module):
    """z_0 = sum x^2 / 2, so the gradient is x itself."""

    def forward(self, x):
        z = (x**2).flatten(1).sum(1) / 2
        return torch.stack([z, -z], 1)


def test_of_a_linear_model_it_is_the_gradient():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 28, 4))
    expected = InputGradient()(net, IMAGES, TARGETS).maps
    torch.testing.assert_close(SmoothGrad(num_samples=3)(net, IMAGES, TARGETS).maps, expected, rtol=1e-4, atol=1e-5)


def test_the_average_and_the_noise_are_as_documented():
    """The mean gradient of sum x^2 / 2 is x plus the mean noise, whose deviation is a share of the image's range."""
    images = IMAGES * torch.tensor([1.0, 10.0, 0.1])[:, None, None, None]
    generator = torch.Generator().manual_seed(3)
    noise = torch.stack([torch.randn(3, 20, 28, generator=generator) for _ in range(5)]).mean(0)
    spread = 0.2 * torch.stack([image.max() - image.min() for image in images])[:, None, None, None]
    maps = SmoothGrad(num_samples=5, spread=0.2, seed=3)(Square(), images, torch.tensor([0, 0, 1])).maps
    torch.testing.assert_close(maps, grey(images + spread * noise), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
def test_batches_change_nothing(batch_size):
    expected = SmoothGrad(num_samples=6)(small_cnn(), IMAGES, TARGETS).maps
    maps = SmoothGrad(num_samples=6, batch_size=batch_size)(small_cnn(), IMAGES, TARGETS).maps
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-5)
    one = SmoothGrad(num_samples=6, batch_size=batch_size)(small_cnn(), IMAGES[1:2], TARGETS[1:2]).maps
    torch.testing.assert_close(one, expected[1:2], rtol=0, atol=1e-5)


def test_agrees_with_captum_on_the_average():
    """Other noise, so the two agree as two runs of one method do: far better than with the plain gradient."""
    captum = pytest.importorskip("captum.attr")
    model = small_cnn(norm=False).eval()
    deviation = 0.15 * float(IMAGES[0].max() - IMAGES[0].min())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tunnel = captum.NoiseTunnel(captum.Saliency(model))
        average = tunnel.attribute(IMAGES[:1], nt_samples=600, stdevs=deviation, target=0, abs=False)
    expected = grey(average.detach())
    ours = SmoothGrad(num_samples=600)(model, IMAGES[:1], TARGETS[:1]).maps
    plain = InputGradient()(model, IMAGES[:1], TARGETS[:1]).maps
    assert (ours - expected).abs().mean() < 0.25 * (plain - expected).abs().mean()
