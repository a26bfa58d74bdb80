"""Weights from a file: state_dicts and checkpoints of many trainers, in any precision, under any prefix."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SUFFIXES = frozenset({".pth", ".pt", ".tar", ".ckpt", ".bin", ".safetensors"})  # .tar: as in .pth.tar

# Where checkpoints keep the weights: averaged ones first, as timm reads its own files.
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "ema")
_TRAINED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "module", "weights")
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_SAVE_ALONE = "Save the weights alone, with torch.save(network.state_dict(), path)."
_NAMED = 3


class StoredWeights(NamedTuple):
    """Content of a file of weights."""

    path: Path
    state: dict[str, Tensor]
    options: dict[str, Any]  # hyper-parameters of a Lightning checkpoint


def read_weights(path: Path) -> StoredWeights:
    """Read a state_dict, a checkpoint that holds one, or a safetensors file.

    A checkpoint is a dict with the state_dict as `state_dict` (Lightning), `model`, `model_state_dict`, `net` or
    another entry of its own. Where an average over the training (`state_dict_ema`, `model_ema`) lies beside it, that is
    taken, with a warning. Nothing in the file is run: it is read with `weights_only=True`.

    Raises:
        ValueError: if there is no such file, or it is damaged or holds no weights; says what does.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
        raise ValueError(
            f"Expected argument `weights` to be the path of a state_dict or checkpoint, but found no file {path}"
            f"{', only a folder: name the file in it' if os.path.isdir(path) else ''}."
        )
    try:
        content = _content(path)
    except Exception as error:  # damaged files raise IndexError, KeyError, struct.error, UnpicklingError and others
        raise ValueError(
            f"Expected argument `weights` to be the path of a state_dict or checkpoint, but could not read {path}: "
            f"{type(error).__name__} {_first_line(error)}. {_SAVE_ALONE}"
        ) from error
    options = content.get("hyper_parameters") if isinstance(content, Mapping) else None
    state = {key: value for key, value in _state(content, path).items() if isinstance(value, Tensor)}
    return StoredWeights(path, state, dict(options) if isinstance(options, Mapping) else {})


def for_network(stored: StoredWeights, network: nn.Module) -> dict[str, Tensor]:
    """The stored weights under the network's own names, without what wrappers put before or between them.

    LightningModules store their network as `model.` or so, `DataParallel` as `module.`, compiled modules `_orig_mod.`.
    """
    state = {_WRAPPERS.sub("", key): value for key, value in stored.state.items()}
    own = list(network.state_dict())
    if not own or own[0] in state:
        return state
    prefixes = [key.removesuffix(own[0]) for key in state if key.endswith(f".{own[0]}")]
    complete = [prefix for prefix in prefixes if all(prefix + key in state for key in own)]
    if not complete and len(prefixes) != 1:
        return state  # loading says what does not fit
    prefix = _preferred(complete or prefixes, stored.path)
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def load_weights(network: nn.Module, stored: StoredWeights, name: str) -> None:
    """Load stored weights into a network; half precision becomes the network's own.

    Raises:
        ValueError: if they do not fit the network; it is called `name` in the message.
    """
    state = for_network(stored, network)
    misfits = _misfits(state, network.state_dict())
    if misfits:
        raise ValueError(
            f"The weights in {stored.path} do not fit {name!r}; check `model` and `num_classes`. {'; '.join(misfits)}."
        )
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"The weights in {stored.path} do not fit {name!r}: {_first_line(error)}") from error


def weights_digest(network: nn.Module) -> str:
    """Returns a digest of all parameters and buffers, in hexadecimal: equal if and only if names and bits are."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file  # comes with timm, whose models are published in this format

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "").rstrip(".")


def _state(content: Any, path: Path) -> Mapping[str, Any]:
    """The state_dict within what was read."""
    if isinstance(content, Mapping):
        known = [key for key in content if key in (*_AVERAGED, *_TRAINED) and _holds_weights(content[key])]
        if known:
            return _state(content[_preferred(known, path)], path)
        if _is_state(content):
            return content
        others = [key for key, value in content.items() if isinstance(value, Mapping) and _is_state(value)]
        if others:
            return _state(content[_preferred(others, path)], path)
    raise ValueError(
        f"Expected argument `weights` to be a file with a state_dict, names with tensors, but {path} holds "
        f"{_described(content)}. {_SAVE_ALONE}"
    )


def _holds_weights(value: Any) -> bool:
    """Whether it is a state_dict, or a dict that holds one under one of the usual names."""
    if not isinstance(value, Mapping):
        return False
    return _is_state(value) or any(key in (*_AVERAGED, *_TRAINED) and _holds_weights(value[key]) for key in value)


def _is_state(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) for key in value) and any(isinstance(one, Tensor) for one in value.values())


def _preferred(places: Sequence[str], path: Path) -> str:
    """The entry or prefix to take, an average before what was averaged; warns where the file holds several.

    Raises:
        ValueError: if there are several and none has a usual name.
    """
    order = {name: rank for rank, name in enumerate((*_AVERAGED, *_TRAINED))}

    def rank(place: str) -> int:
        return min(order.get(word, len(order)) for word in place.strip(".").split("."))

    first, *others = sorted(places, key=rank)
    if others:
        said = f"{path} holds several sets of weights ({', '.join(map(repr, places))})"
        if rank(first) == len(order):
            raise ValueError(
                f"Expected argument `weights` to be a file with one set of weights, but {said}. {_SAVE_ALONE}"
            )
        warnings.warn(f"{said}: those of {first!r} are taken. To have others, save them alone.", stacklevel=2)
    return first


def _described(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    return (
        f"a dict with the entries {', '.join(repr(key) for key in list(content)[:8])}" if content else "an empty dict"
    )


def _misfits(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """What keeps the weights from fitting, in words, a few names of each kind."""
    kinds = {
        # PyTorch fills in the counters of batch norm, which older files and those of other libraries lack.
        "missing": [key for key in own if key not in state and not key.endswith(".num_batches_tracked")],
        "not known to the network": [key for key in state if key not in own],
        "with a size mismatch": [
            f"{key} {tuple(state[key].shape)} for {tuple(value.shape)}"
            for key, value in own.items() if key in state and state[key].shape != value.shape
        ],
    }  # fmt: skip
    return [
        f"{len(names)} {kind}: {', '.join(names[:_NAMED])}{' ...' if len(names) > _NAMED else ''}"
        for kind, names in kinds.items() if names
    ]  # fmt: skip
