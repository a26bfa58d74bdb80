"""Networks by name: this package's own, torchvision's, timm's; and what they expect of an image."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torchvision
from torch import nn

from sess_lightning.data.normalisation import CAFFE_MEAN, CAFFE_STD, IMAGENET_MEAN, IMAGENET_STD
from sess_lightning.networks.pointing import POINTING_NETWORKS, POINTING_SIDE, from_published, label_names
from sess_lightning.networks.small_cnn import small_cnn
from sess_lightning.networks.weights import SUFFIXES, StoredWeights, for_network, load_weights, read_weights
from sess_lightning.pixels import Size

SMALL_CNN = "small_cnn"
_TIMM = "timm:"
_SMALL_CNN_SIDE = 64


class Network(NamedTuple):
    """A network with weights, and what it expects of an image."""

    module: nn.Module
    input_size: Size  # height and width that it was trained on
    mean: Sequence[float]
    std: Sequence[float]
    class_names: Mapping[int, str] | None


def build_network(name: str, num_classes: int, weights: str | None) -> nn.Module:
    """The network `name` with `num_classes` outputs.

    Args:
        name: `"small_cnn"`, `"pointing_vgg16"`, `"pointing_resnet50"`, a torchvision classifier, or a timm model, which
            may be written `timm:NAME`; of a name that both know, torchvision's is taken.
        num_classes: outputs.
        weights: path of a state_dict or checkpoint; `"DEFAULT"` or the name of any of torchvision's own, which are
            downloaded at their first use; `None` for random ones.

    Raises:
        ValueError: if the name is unknown, or the weights are missing or do not fit.
        ModuleNotFoundError: for `timm:NAME` without timm.
    """
    name = _known(name)
    if weights is not None and not _is_path(weights):
        return _published(name, num_classes, weights)
    network = _random(name, num_classes)
    if weights is not None:
        load_weights(network, _stored(name, weights), name)
    return network


def load_network(name: str, weights: str, num_classes: int | None = None) -> Network:
    """A network with weights, as many outputs as these have, and the size and normalisation that it was trained with.

    Args:
        name: as in `build_network`.
        weights: as in `build_network`; of a Lightning checkpoint the hyper-parameter `input_size` is heeded.
        num_classes: outputs; `None` for those of the weights.

    Raises:
        ValueError, ModuleNotFoundError: as in `build_network`.
    """
    name = _known(name)
    if not _is_path(weights):
        module = _published(name, num_classes, weights)
        return _with_expectations(name, module, weights, {})
    stored = _stored(name, weights)
    module = _random(name, num_classes)
    if num_classes is None:
        found = _outputs_of(stored, module)
        module = module if found is None else _random(name, found)
    load_weights(module, stored, name)
    return _with_expectations(name, module, "DEFAULT", stored.options)


def _known(name: str) -> str:
    """The name with `timm:` before it where it is timm's, or an error that says which come near."""
    own = [SMALL_CNN, *POINTING_NETWORKS, *torchvision.models.list_models(module=torchvision.models)]
    if name in own:
        return name
    has_timm = find_spec("timm") is not None
    if name.startswith(_TIMM) and not has_timm:
        raise ModuleNotFoundError(f"{name!r} needs the package timm. Install it with pip install timm.")
    if has_timm:
        import timm

        if timm.is_model(name.removeprefix(_TIMM)):
            return _TIMM + name.removeprefix(_TIMM)
        own += timm.list_models()
    near = ", ".join(difflib.get_close_matches(name.removeprefix(_TIMM), own, n=5, cutoff=0.3))
    raise ValueError(
        f"Expected argument `model` to be '{SMALL_CNN}' or a torchvision classifier or timm model, but got {name!r}. "
        f"Nearest: {near}.{'' if has_timm else ' For the models of timm: pip install timm.'}"
    )


def _stored(name: str, weights: str) -> StoredWeights:
    """Weights from a file, as the network `name` has them."""
    stored = read_weights(Path(weights))
    return stored._replace(state=from_published(stored.state)) if name in POINTING_NETWORKS else stored


def _is_path(weights: str) -> bool:
    return os.path.exists(weights) or Path(weights).suffix in SUFFIXES


def _random(name: str, num_classes: int | None) -> nn.Module:
    """The network with random weights; `None` for the number of outputs that it has by default."""
    if name == SMALL_CNN:
        return small_cnn(num_classes or 1000)
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if name in POINTING_NETWORKS:
        return POINTING_NETWORKS[name](**options)
    if not name.startswith(_TIMM):
        return torchvision.models.get_model(name, **options)
    import timm

    return timm.create_model(name.removeprefix(_TIMM), **options)


def _published(name: str, num_classes: int | None, weights: str) -> nn.Module:
    """The network with the weights that torchvision or timm offers."""
    options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    offered = _offered(name)
    if weights.rpartition(".")[2] not in offered:
        where = " docs/data.md says where its weights are." if name in POINTING_NETWORKS else ""
        raise ValueError(
            "Expected argument `weights` to be the path of a state_dict, None, or one that is offered "
            f"for {name!r} ({', '.join(offered) or 'none'}), but got {weights!r}, which is no file either.{where}"
        )
    try:
        if name.startswith(_TIMM):
            import timm

            return timm.create_model(name.removeprefix(_TIMM), pretrained=True, **options)
        return torchvision.models.get_model(name, weights=weights.rpartition(".")[2], **options)
    except (OSError, RuntimeError) as error:  # no connection; no such weights
        raise ValueError(
            f"Could not get the weights {weights!r} of {name!r}: {type(error).__name__} {error} Pass `weights` the "
            "path of a file that is there already."
        ) from error


def _offered(name: str) -> list[str]:
    if name == SMALL_CNN or name in POINTING_NETWORKS:
        return []
    if name.startswith(_TIMM):
        return ["DEFAULT"]
    return ["DEFAULT", *(w.name for w in torchvision.models.get_model_weights(name))]


def _outputs_of(stored: StoredWeights, network: nn.Module) -> int | None:
    """How many outputs the stored weights have, where it is another number than the network's.

    The last entry of a classifier's state_dict belongs to its head, for all of torchvision's and nearly all of timm's.
    """
    key, own = next(reversed(network.state_dict().items()))
    found = for_network(stored, network).get(key)
    if found is None or found.ndim == 0 or found.shape[1:] != own.shape[1:] or len(found) == len(own):
        return None
    return len(found)


def _with_expectations(name: str, module: nn.Module, weights: str, options: Mapping[str, Any]) -> Network:
    """The network with its input size, mean, standard deviation and, where they are known, class names."""
    mean: Sequence[float] = IMAGENET_MEAN
    std: Sequence[float] = IMAGENET_STD
    if name == SMALL_CNN:
        size = (_SMALL_CNN_SIDE, _SMALL_CNN_SIDE)
    elif name in POINTING_NETWORKS:
        size, mean, std = (POINTING_SIDE, POINTING_SIDE), CAFFE_MEAN, CAFFE_STD
    elif name.startswith(_TIMM):
        import timm

        config = timm.data.resolve_model_data_config(module)
        size, mean, std = tuple(config["input_size"][1:]), config["mean"], config["std"]
    else:
        published = torchvision.models.get_model_weights(name)[weights.rpartition(".")[2]].transforms()
        side = getattr(module, "image_size", published.crop_size[0])  # a vision transformer has one size only
        size, mean, std = (side, side), published.mean, published.std
    trained = options.get("input_size")
    if isinstance(trained, int):
        size, mean, std = (trained, trained), IMAGENET_MEAN, IMAGENET_STD
    return Network(module, size, tuple(mean), tuple(std), _class_names(name, module))


def _class_names(name: str, module: nn.Module) -> Mapping[int, str] | None:
    """The names of the classes, told from their number: the last parameter is as long as that."""
    last = next(reversed(list(module.parameters())), None)
    if last is None:
        return None
    if name in POINTING_NETWORKS:
        return label_names(len(last))
    names = torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"]
    return dict(enumerate(names)) if len(last) == len(names) else None
