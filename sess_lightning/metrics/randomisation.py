"""Randomisation checks: does a map change when the network's weights are replaced by random ones?"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sess_lightning.checks import check_count
from sess_lightning.metrics.saliency_input import check_pairs, check_same_count, split_maps
from sess_lightning.probing import model_device, random_states

BINS = 100  # of the histogram, as in the authors' code


def map_entropy(saliency: Tensor | Sequence[Tensor], bins: int = BINS) -> Tensor:
    """Returns the entropy of each map's values: `-sum p_i ln p_i`, `p_i` the share of pixels in bin i.

    The bins are equally wide and reach from the lowest value of the map to its highest.

    Args:
        saliency: `(N, H, W)` or a list of `(H, W)` in any range.
        bins: their number.

    Returns:
        `(N,)` in [0, ln bins], float64 on the CPU, in nats: 0 for a constant map, NaN for one that is not finite.

    Raises:
        ValueError: if `bins` is no positive number.

    Source: Hedstroem et al., "A fresh look at sanity checks for saliency maps", xAI 2024, and `discrete_entropy` of the
    authors' Quantus.

    Example:
        >>> map_entropy(torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])).exp()  # 1 / (0.75 ** 0.75 * 0.25 ** 0.25)
        tensor([1.7548], dtype=torch.float64)
    """
    check_count("bins", bins)
    found = [_entropy(one.double().cpu(), bins) for one in split_maps(saliency)]
    return torch.tensor(found, dtype=torch.float64)


def _entropy(saliency: Tensor, bins: int) -> float:
    if not torch.isfinite(saliency).all():
        return torch.nan
    low, high = saliency.aminmax()
    if low == high:
        return 0.0  # all pixels in one bin
    # On [0, 1], as the limits of bins between huge or tiny numbers may overflow or coincide.
    shares = torch.histc((saliency - low) / (high - low), bins, 0, 1) / saliency.numel()
    return float(torch.special.entr(shares).sum())


def entropy_rise(saliency: Tensor | Sequence[Tensor], randomised: Tensor | Sequence[Tensor]) -> Tensor:
    """Returns `(H(randomised) - H(saliency)) / H(saliency)`, H being `map_entropy` (efficient MPRT).

    The maps of a network that knows nothing should be the more complex ones. A method that does not look at the network
    scores 0. The entropy counts values and not places: a map may move altogether and keep it, see `rank_correlation`.

    Args:
        saliency: of the network, `(N, H, W)` or a list of `(H, W)`.
        randomised: of the network with random weights, likewise.

    Returns:
        `(N,)`, at least -1, float64 on the CPU; NaN where either map is constant or not finite.

    Raises:
        ValueError: if the maps differ in number.

    Source: see `map_entropy`.

    Example:
        >>> entropy_rise(torch.tensor([[[0.0, 0.0, 1.0, 1.0]]]), torch.tensor([[[0.0, 1.0, 2.0, 3.0]]]))
        tensor([1.], dtype=torch.float64)
    """
    before, after = map_entropy(saliency), map_entropy(randomised)
    check_same_count("randomised", len(after), len(before))
    return torch.where((before > 0) & (after > 0), after / before - 1, torch.nan)


def rank_correlation(saliency: Tensor | Sequence[Tensor], other: Tensor | Sequence[Tensor]) -> Tensor:
    """Returns Spearman's rank correlation of each pair of maps; equal pixels share the mean of their ranks.

    Args:
        saliency: `(N, H, W)` or a list of `(H, W)`.
        other: maps of the same samples, of the same sizes.

    Returns:
        `(N,)` in [-1, 1], float64 on the CPU; NaN where either map is constant or not finite.

    Raises:
        ValueError: if the maps differ in number or size.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018, compare the maps of a network and of a
    random one in this way.

    Example:
        >>> rank_correlation(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[[1.0, 3.0, 2.0, 4.0]]]))
        tensor([0.8000], dtype=torch.float64)
    """
    maps, others = split_maps(saliency), split_maps(other, "other")
    check_pairs("other", others, maps)
    found = [_correlation(_ranks(one), _ranks(two)) for one, two in zip(maps, others, strict=True)]
    return torch.tensor(found, dtype=torch.float64)


def _ranks(saliency: Tensor) -> Tensor:
    """Returns the rank of each pixel less the mean rank, float64 on the CPU; NaN for a map that is not finite."""
    if not torch.isfinite(saliency).all():
        return torch.full((saliency.numel(),), torch.nan, dtype=torch.float64)
    _, place, count = saliency.flatten().cpu().unique(return_inverse=True, return_counts=True)
    mean_rank = count.cumsum(0).double() - (count - 1) / 2  # of the pixels of one value: the middle of their ranks
    return (mean_rank - (saliency.numel() + 1) / 2)[place]


def _correlation(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt())


def randomised(model: nn.Module, seed: int = 0) -> nn.Module:
    """Returns a copy of a network with random weights; the network itself is left as it is, and so are random states.

    Every module that can (`reset_parameters`) draws its weights anew, as before a training; batch norms forget their
    statistics. Other parameters (class tokens, tables of positions, weights behind a parametrization) have their values
    permuted. Drawn on the CPU, so the same on every device.

    Args:
        model: any network; its copy is on the same device.
        seed: of the weights.

    Raises:
        ValueError: if the network has no parameter that changes, as quantised ones.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> bool((randomised(model).weight == model.weight).any())
        False
    """
    device = model_device(model, torch.device("cpu"))
    drawn = copy.deepcopy(model).cpu()
    with random_states(), torch.no_grad():
        torch.default_generator.manual_seed(seed)  # unlike torch.manual_seed, not those of other devices
        for module in drawn.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        pairs = zip(drawn.parameters(), model.parameters(), strict=True)
        changed = [_permuted_unless_new(new, old.cpu()) for new, old in pairs]
    if not any(changed):
        raise ValueError(
            f"Expected argument `model` to have weights that can be randomised, but {type(model).__name__} has none. "
            "Quantised networks keep theirs elsewhere: check the network before it is quantised."
        )
    return drawn.to(device)


def _permuted_unless_new(new: Tensor, old: Tensor) -> bool:
    """Permutes the values of a parameter that no module has drawn anew; returns whether it differs from before."""
    if torch.equal(new, old):
        new.copy_(new.flatten()[torch.randperm(new.numel())].view_as(new))
    return not torch.equal(new, old)


class RandomisationCheck(NamedTuple):
    """What becomes of maps when the network's weights are random; means over seeds, NaN where no seed has a value.

    Attributes:
        rise: `(N,)` of `entropy_rise`.
        correlation: `(N,)` of `rank_correlation`.
    """

    rise: Tensor
    correlation: Tensor


def randomisation_check(
    explain: Callable[[nn.Module, Tensor, Tensor], Tensor | Sequence[Tensor]],
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    seeds: Sequence[int] = (0, 1, 2),
) -> RandomisationCheck:
    """Compare the maps of a network with those of the same network with random weights.

    Args:
        explain: any method, from network, images and targets to maps `(N, H, W)` or a list of `(H, W)`.
        model: any network; left as it is.
        images: `(N, C, H, W)`, or what `explain` takes.
        targets: `(N,)` long, the classes to explain.
        seeds: one network with random weights each.

    Raises:
        ValueError: if there is no seed, or the network cannot be randomised.

    Source: see `entropy_rise` and `rank_correlation`.

    Example:
        >>> model, images = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), torch.rand(1, 3, 2, 2)
        >>> brightness = lambda model, images, targets: images.mean(1)
        >>> randomisation_check(brightness, model, images, torch.tensor([0]))
        RandomisationCheck(rise=tensor([0.], dtype=torch.float64), correlation=tensor([1.], dtype=torch.float64))
    """
    if not len(seeds):
        raise ValueError("Expected argument `seeds` to hold at least one seed, but got none.")
    before = explain(model, images, targets)
    after = [explain(randomised(model, seed), images, targets) for seed in seeds]
    rises = torch.stack([entropy_rise(before, maps) for maps in after])
    correlations = torch.stack([rank_correlation(before, maps) for maps in after])
    return RandomisationCheck(rises.nanmean(0), correlations.nanmean(0))
