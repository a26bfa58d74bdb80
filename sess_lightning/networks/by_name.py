"""Networks by name, with weights, and the images that they expect."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from sess_lightning.data.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.networks.sources import SMALL_CNN, SOURCES, TIMM, TIMM_SOURCE, Expected, Source, has_timm
from sess_lightning.networks.weights import SUFFIXES, StoredWeights, for_network, load_weights, read_weights
from sess_lightning.pixels import Size


class Network(NamedTuple):
    """A network with weights, and the images that it expects."""

    module: nn.Module
    input_size: Size  # height and width that it was trained on
    mean: Sequence[float]
    std: Sequence[float]
    class_names: Mapping[int, str] | None


def build_network(name: str, num_classes: int, weights: str | None) -> nn.Module:
    """Build the network `name` with `num_classes` outputs.

    Args:
        name: `"small_cnn"`, `"pointing_vgg16"`, `"pointing_resnet50"`, a torchvision classifier, or a timm model, which
            may be written `timm:NAME`; a name that both have means torchvision's.
        num_classes: number of outputs.
        weights: path of a state_dict or checkpoint; `"DEFAULT"`, or the name of any of torchvision's weights, which are
            downloaded at their first use; `None` for random ones.

    Raises:
        ValueError: if the name is unknown, or the weights are missing or do not fit.
        ModuleNotFoundError: for `timm:NAME` without timm.
    """
    source, name = _find(name)
    if weights is None:
        return source.build(name, num_classes=num_classes)
    if not _is_path(weights):
        return _published(source, name, num_classes, weights)
    network = source.build(name, num_classes=num_classes)
    load_weights(network, _stored(source, weights), name)
    return network


def load_network(name: str, weights: str, num_classes: int | None = None) -> Network:
    """Load a network with weights, and find the size and normalisation of the images that it was trained on.

    Args:
        name: as in `build_network`.
        weights: as in `build_network`. The hyper-parameter `input_size` of a Lightning checkpoint overrides the size.
        num_classes: number of outputs; `None` for that of the weights.

    Raises:
        ValueError, ModuleNotFoundError: as in `build_network`.
    """
    source, name = _find(name)
    if not _is_path(weights):
        module = _published(source, name, num_classes, weights)
        return _network(source, module, source.expected(name, module, _member(weights)))
    stored = _stored(source, weights)
    module = source.build(name, **_options(num_classes))
    if num_classes is None:
        found = _outputs_of(stored, module)
        module = module if found is None else source.build(name, num_classes=found)
    load_weights(module, stored, name)
    trained = stored.options.get("input_size")
    if isinstance(trained, int):
        return _network(source, module, Expected((trained, trained), IMAGENET_MEAN, IMAGENET_STD))
    return _network(source, module, source.expected(name, module, "DEFAULT"))


def _find(name: str) -> tuple[Source, str]:
    """Returns the source of a network and its name there, which for timm begins with `timm:`.

    Raises:
        ValueError, ModuleNotFoundError: if no source knows the name; says which come near.
    """
    if name.startswith(TIMM) and not has_timm():
        raise ModuleNotFoundError(f"{name!r} needs the package timm. Install it with pip install timm.")
    for source in SOURCES:
        if source.knows(name):
            return source, TIMM + name.removeprefix(TIMM) if source is TIMM_SOURCE else name
    known = dict.fromkeys(other for source in SOURCES for other in source.names())  # some stand in two sources
    near = ", ".join(difflib.get_close_matches(name.removeprefix(TIMM), known, n=5, cutoff=0.3))
    raise ValueError(
        f"Expected argument `model` to be '{SMALL_CNN}' or a torchvision classifier or timm model, but got {name!r}. "
        f"Nearest: {near}.{'' if has_timm() else ' For the models of timm: pip install timm.'}"
    )


def _stored(source: Source, weights: str) -> StoredWeights:
    """Returns the weights in a file, as the networks of this source have them."""
    stored = read_weights(Path(weights))
    return stored._replace(state=source.convert(stored.state))


def _is_path(weights: str) -> bool:
    return os.path.exists(weights) or Path(weights).suffix in SUFFIXES


def _options(num_classes: int | None) -> dict[str, Any]:
    """Returns the options of a network; `None` keeps the number of outputs that it has by default."""
    return {} if num_classes is None else {"num_classes": num_classes}


def _member(weights: str) -> str:
    """Returns the last part of the name of weights: torchvision's may be written `ResNet50_Weights.DEFAULT`."""
    return weights.rpartition(".")[2]


def _published(source: Source, name: str, num_classes: int | None, weights: str) -> nn.Module:
    """Returns the network with the weights that its source offers for download."""
    offered = source.offered(name)
    if _member(weights) not in offered:
        raise ValueError(
            "Expected argument `weights` to be the path of a state_dict, None, or one that is offered "
            f"for {name!r} ({', '.join(offered) or 'none'}), but got {weights!r}, which is no file either."
            f"{source.advice}"
        )
    try:
        return source.published(name, _member(weights), **_options(num_classes))
    except (OSError, RuntimeError) as error:  # no connection; no such weights
        raise ValueError(
            f"Could not get the weights {weights!r} of {name!r}: {type(error).__name__} {error} Pass `weights` the "
            "path of a file that is there already."
        ) from error


def _outputs_of(stored: StoredWeights, network: nn.Module) -> int | None:
    """Returns the number of outputs of the stored weights if it differs from the network's, else `None`.

    The last entry of a classifier's state_dict belongs to its head, for all of torchvision's and nearly all of timm's
    networks.
    """
    key, own = next(reversed(network.state_dict().items()))
    found = for_network(stored, network).get(key)
    if found is None or found.ndim == 0 or found.shape[1:] != own.shape[1:] or len(found) == len(own):
        return None
    return len(found)


def _network(source: Source, module: nn.Module, expected: Expected) -> Network:
    """Returns the network with what it expects and, where they are known, the names of its classes.

    The number of classes is the length of the last parameter, the bias or weight of the classifier.
    """
    last = next(reversed(list(module.parameters())), None)
    names = None if last is None else source.class_names(len(last))
    return Network(module, expected.size, tuple(expected.mean), tuple(expected.std), names)
