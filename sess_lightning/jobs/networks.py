"""Loads the networks of a command from its arguments, and tries them before work starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from sess_lightning.jobs.options import PhotoOptions
from sess_lightning.networks import Network, OutputGroups, grouped, load_network, read_groups
from sess_lightning.networks.weights import weights_digest
from sess_lightning.sess import SESS
from sess_lightning.sess.base_maps import base_maps


class Networks(NamedTuple):
    """The networks of a command, ready to be measured."""

    models: dict[str, nn.Module]  # by name, in eval mode, without gradients of the weights
    groups: OutputGroups | None  # classes that they tell apart
    num_classes: int  # that all of them tell apart
    first: Network  # all have its mean and deviation
    settings: dict[str, Any]  # what of them, and of this package, decides about the results

    @classmethod
    def of(cls, options: PhotoOptions, algorithms: Mapping[str, SESS]) -> Networks:
        """Load the networks, and try each on an image of the window's size.

        Args:
            options: those of the command.
            algorithms: SESS as it is used, by the name of the base method.

        Raises:
            ValueError: if a network is not found, cannot see a window, or a callable of the user's fails on it.
        """
        found = networks(options.model, options.weights)
        groups = None if options.groups is None else read_groups(options.groups)
        if groups is not None:
            window = (options.window, options.window)
            found = {name: grouped(network, groups, window) for name, network in found.items()}
        outputs = [_try_network(name, network.module, algorithms) for name, network in found.items()]
        settings = {
            "version": sys.modules[__name__.partition(".")[0]].__version__,
            "model": options.model,
            "weights": {name: weights_digest(network.module) for name, network in found.items()},
            "normalisation": [[list(network.mean), list(network.std)] for network in found.values()],
            "precision": options.precision,
            "groups": None if groups is None else dict(zip(groups.names, groups.members, strict=True)),
        }
        models = {name: network.module.eval().requires_grad_(False) for name, network in found.items()}
        return cls(models, groups, min(outputs), same_normalisation(list(found.values())), settings)


def networks(models: str, weights: str) -> dict[str, Network]:
    """Load networks with their weights, by name.

    If a name occurs with several weights, the stem of the weights' file is added to it.

    Args:
        models: names of networks, separated by commas.
        weights: for each network a path or `DEFAULT`, separated by commas; a single one is used for all.

    Raises:
        ValueError: if the numbers of names and weights differ, or a network or its weights cannot be found.
    """
    names, files = models.split(","), weights.split(",")
    files = files * len(names) if len(files) == 1 else files
    if len(names) != len(files):
        raise ValueError(
            f"Expected argument `weights` to name weights for each of {len(names)} models, but got {len(files)}."
        )
    labels = [
        name if names.count(name) == 1 else f"{name} ({Path(file).stem})"
        for name, file in zip(names, files, strict=True)
    ]
    if len(set(labels)) < len(labels):
        raise ValueError(f"Expected argument `model` to name each network with its weights once, but got {models!r}.")
    return {label: load_network(*chosen) for label, chosen in zip(labels, zip(names, files, strict=True), strict=True)}


def same_normalisation(found: Sequence[Network]) -> Network:
    """Returns the first network after checking that all have the same mean and standard deviation.

    A benchmark reads and normalises each photo only once.

    Raises:
        ValueError: if they differ.
    """
    first = found[0]
    if any((list(n.mean), list(n.std)) != (list(first.mean), list(first.std)) for n in found):
        raise ValueError(
            "Expected all models of argument `model` to have one normalisation (mean and std), but they differ. "
            "Measure them one at a time, each with its own --out."
        )
    return first


def _try_network(name: str, model: nn.Module, algorithms: Mapping[str, SESS]) -> int:
    """Returns the number of a network's outputs.

    Raises:
        ValueError: if it cannot see a window, or a callable of the user's fails on it.
    """
    outputs = 0
    device = torch.device("cpu")
    model.eval()
    for method, sess in algorithms.items():
        window = sess.window_for([])
        try:
            outputs = sess.whole_image_logits(model, [torch.zeros(3, *window)], window).shape[1]
        except Exception as error:
            raise ValueError(
                f"Expected argument `window` to be a size that {name!r} accepts, but it fails on an image of "
                f"{window[0]} x {window[1]} pixels: {type(error).__name__} {error}"
            ) from error
        if "." in method:
            try_method(sess, model, method, device)
    return outputs


def try_method(sess: SESS, model: nn.Module, method: str, device: torch.device) -> None:
    """Explain noise before work starts: what a callable of the user's cannot do is said once, not for every photo.

    Args:
        sess: with a `window_size`.
        model: any classifier, on `device`.
        method: dotted path of its base method.
        device: of the noise.

    Raises:
        ValueError: if the method fails.
    """
    noise = torch.rand(3, *sess.window_for([]), generator=torch.Generator().manual_seed(0)).to(device)
    try:
        base_maps(sess, model, noise[None], torch.zeros(1, dtype=torch.long, device=device), [noise])
    except Exception as error:
        raise ValueError(
            f"Expected argument `method` to be the path of a callable (model, images, targets) -> maps, but {method!r} "
            f"fails on an image of noise: {type(error).__name__} {error}"
        ) from error
