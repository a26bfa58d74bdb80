"""Weights from a file: state_dicts and checkpoints, in any precision, under any prefix."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SUFFIXES = frozenset({".pth", ".pt", ".tar", ".ckpt", ".bin", ".safetensors"})  # .tar: as in .pth.tar


class StoredWeights(NamedTuple):
    """Content of a file of weights."""

    path: Path
    state: dict[str, Tensor]
    options: dict[str, Any]  # hyper-parameters of a Lightning checkpoint


def read_weights(path: Path) -> StoredWeights:
    """Read a state_dict, a dict that holds one as `state_dict`, a Lightning checkpoint or a safetensors file.

    No code in the file is executed: it is read with `weights_only=True`.

    Raises:
        ValueError: if there is no such file, or it holds no weights; names the way to save them.
    """
    if not path.is_file():
        raise ValueError(f"Expected argument `weights` to be the path of a state_dict, but found no file {path}.")
    try:
        content = _content(path)
    except (pickle.UnpicklingError, EOFError, RuntimeError, ImportError) as error:
        raise ValueError(
            f"Could not read {path} as a state_dict: {type(error).__name__} {error} Save the weights alone, with "
            "torch.save(network.state_dict(), path)."
        ) from error
    options: dict[str, Any] = {}
    if isinstance(content, dict) and "state_dict" in content:
        options = dict(content.get("hyper_parameters") or {})
        content = content["state_dict"]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(
            f"Expected {path} to hold a state_dict, names with tensors, but got {type(content).__name__}. Save one "
            "with torch.save(network.state_dict(), path)."
        )
    return StoredWeights(path, content, options)


def for_network(stored: StoredWeights, network: nn.Module) -> dict[str, Tensor]:
    """Returns the stored weights under the network's own names, without the prefix of a wrapper.

    A LightningModule puts e.g. `model.` before the names, `DataParallel` `module.`.
    """
    first = next(iter(network.state_dict()), "")
    if not first or first in stored.state:
        return stored.state
    prefixes = [key.removesuffix(first) for key in stored.state if key.endswith(f".{first}")]
    if len(prefixes) != 1:
        return stored.state
    return {key.removeprefix(prefixes[0]): v for key, v in stored.state.items() if key.startswith(prefixes[0])}


def load_weights(network: nn.Module, stored: StoredWeights, name: str) -> None:
    """Load stored weights into a network; half precision becomes the network's own.

    Raises:
        ValueError: if they do not fit the network; it is called `name` in the message.
    """
    try:
        network.load_state_dict(for_network(stored, network))
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"The weights in {stored.path} do not fit {name!r}; check `model` and `num_classes`. {error}"
        ) from error


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # comes with timm, whose models are published in this format

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
