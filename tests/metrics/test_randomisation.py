"""Entropy of maps, networks with random weights, and what methods score that look at the network or do not."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional import spearman_corrcoef

from sess_lightning import SESS
from sess_lightning.metrics import entropy_rise, map_entropy, randomisation_check, randomised, rank_correlation
from sess_lightning.saliency import GradCAM
from tests.helpers.nets import assert_untouched, fingerprint, seeded, small_cnn


@pytest.mark.parametrize("values", [2, 5, 100])
def test_equally_many_pixels_in_k_bins_have_the_entropy_ln_k(values):
    """`values` numbers that are far enough apart for bins of their own, each equally often, at any scale."""
    levels = torch.linspace(-3, 7, values).repeat(4, 1)
    for scale in (1.0, 1e-30, 1e30):
        assert float(map_entropy(scale * levels[None])) == pytest.approx(math.log(values))


def test_one_pixel_of_n_stands_out():
    """p = 1/n and (n - 1)/n, whatever the number of bins."""
    saliency = torch.zeros(1, 5, 8)
    saliency[0, 2, 3] = 0.3
    expected = math.log(40) / 40 - 39 / 40 * math.log(39 / 40)
    for bins in (2, 7, 100):
        assert float(map_entropy(saliency, bins)) == pytest.approx(expected)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 200))
def test_the_entropy_is_that_of_numpys_histogram(seed, bins):
    saliency = seeded(seed, 1, 20, 30).double()
    count, _ = np.histogram(saliency.numpy(), bins)
    p = count[count > 0] / 600
    assert float(map_entropy(saliency, bins)) == pytest.approx(-(p * np.log(p)).sum(), abs=2e-3)  # rounding at limits


def test_a_constant_map_has_none_and_one_that_is_not_finite_is_undefined():
    maps = [torch.full((3, 4), 7.0), torch.tensor([[0.0, torch.nan]]), torch.tensor([[0.0, torch.inf]])]
    assert map_entropy(maps)[0] == 0
    assert map_entropy(maps)[1:].isnan().all()
    assert entropy_rise(maps, [torch.rand(3, 4)] * 3).isnan().all()
    assert entropy_rise([torch.rand(3, 4)] * 3, maps).isnan().all()
    assert rank_correlation([torch.rand(3, 4)], maps[:1]).isnan().all()


def test_the_rise_is_relative():
    """From two equally frequent values to eight: ln 8 / ln 2 - 1."""
    two, eight = torch.arange(8).view(1, 2, 4) % 2, torch.arange(8).view(1, 2, 4)
    assert float(entropy_rise(two, eight)) == pytest.approx(2)
    assert float(entropy_rise(eight, two)) == pytest.approx(1 / 3 - 1)
    assert float(entropy_rise(two, 5 - 3 * two)) == 0


@settings(deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0, 1]))
def test_ranks_correlate_as_torchmetrics_says(seed, digits):
    """Rounded to few values, so that many pixels are equal."""
    a, b = (seeded(seed + i, 1, 9, 11).round(decimals=digits) for i in range(2))
    expected = float(spearman_corrcoef(a.flatten(), b.flatten()))
    assert float(rank_correlation(a, b)) == pytest.approx(expected, abs=1e-4)
    assert float(rank_correlation(a, 2 * a - 1)) == pytest.approx(1)
    assert float(rank_correlation(a, -a)) == pytest.approx(-1)


def test_maps_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="map 0 of argument `other` to have the size"):
        rank_correlation(torch.rand(1, 3, 4), torch.rand(1, 4, 3))
    with pytest.raises(ValueError, match="argument `other` to have one entry for each of the 2 maps"):
        rank_correlation(torch.rand(2, 3, 4), torch.rand(1, 3, 4))
    with pytest.raises(ValueError, match="argument `bins`"):
        map_entropy(torch.rand(1, 3, 4), 0)


class WithToken(nn.Module):
    """A parameter of its own, an attention whose reset has another name, and a weight behind a parametrization."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.arange(6.0))
        self.attention = nn.MultiheadAttention(6, 2)
        self.linear = nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))
        self.norm = nn.BatchNorm1d(3)


def trained(model):
    """No parameter or statistic is what a module begins with."""
    with torch.no_grad():
        for number, tensor in enumerate([*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]):
            tensor.add_(0.5 + seeded(number, *tensor.shape).abs())
    return model


def test_every_weight_becomes_another_and_the_network_stays():
    model = trained(WithToken())
    model.linear.weight.sum().backward()
    before = fingerprint(model)
    other = randomised(model, 3)
    assert_untouched(model, before)
    for (name, new), old in zip(other.named_parameters(), model.parameters(), strict=True):
        assert not torch.equal(new, old), name
        assert new.data_ptr() != old.data_ptr(), name
    assert torch.equal(other.token.sort().values, model.token.sort().values)  # permuted
    assert torch.equal(other.norm.running_mean, torch.zeros(3))
    assert torch.equal(other.norm.running_var, torch.ones(3))


def test_the_seed_alone_decides():
    model = trained(small_cnn())
    torch.manual_seed(1)
    first = randomised(model, 3).state_dict()
    torch.manual_seed(2)
    again, other = randomised(model, 3).state_dict(), randomised(model, 4).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["0.weight"], other["0.weight"])
    model[0].weight.data += 1  # nor do the weights that it replaces
    assert torch.equal(randomised(model, 3)[0].weight, first["0.weight"])


def test_a_network_without_weights_is_refused():
    with pytest.raises(ValueError, match="to have weights that can be randomised, but Flatten has none"):
        randomised(nn.Flatten())
    with pytest.raises(ValueError, match="argument `seeds`"):
        randomisation_check(edges, small_cnn(), torch.rand(1, 3, 8, 8), torch.tensor([0]), seeds=())


def edges(model, images, targets):
    """Looks at the pixels alone."""
    grey = images.mean(1)
    return F.pad(grey.diff(dim=1).abs(), (0, 0, 0, 1)) + F.pad(grey.diff(dim=2).abs(), (0, 1))


def squares(count):
    """Noise with a bright square somewhere, whose colour is the class."""
    images, labels = 0.3 * seeded(0, count, 3, 32, 32), torch.arange(count) % 3
    for number, label in enumerate(labels.tolist()):
        x, y = 8 * (number % 4), 8 * (number // 4 % 4)
        images[number, label, y : y + 8, x : x + 8] += 3
    return images, labels


@pytest.fixture(scope="module")
def network():
    """Learns to tell the colours of `squares` apart."""
    images, labels = squares(96)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = small_cnn(3)
        optimiser = torch.optim.Adam(model.parameters(), 0.01)
        for _ in range(60):
            optimiser.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimiser.step()
    model.eval()
    assert (model(images).argmax(1) == labels).float().mean() > 0.95
    return model


def test_an_edge_detector_is_found_out(network):
    images, labels = squares(12)
    found = randomisation_check(edges, network, images, labels)
    assert torch.equal(found.rise, torch.zeros(12, dtype=torch.float64))
    assert found.correlation == pytest.approx(torch.ones(12))


@pytest.mark.parametrize("sess", [False, True])
def test_grad_cam_looks_at_the_network(network, sess):
    images, labels = squares(12)
    algorithm = SESS("gradcam", num_scales=2, window_size=32)
    before = fingerprint(network)

    def explain(model, images, targets):
        return (algorithm if sess else GradCAM())(model, images, targets).maps

    found = randomisation_check(explain, network, images, labels, seeds=range(6))
    assert_untouched(network, before)
    assert found.rise.nanmean() > 0.1
    assert found.correlation.nanmean() < 0.5
