"""Outputs of a network in groups that stand for the classes of other data: an ImageNet network on photos of rooms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sess_lightning.forwarding import model_logits
from sess_lightning.logits import read_logits
from sess_lightning.networks.by_name import Network
from sess_lightning.pixels import Size
from sess_lightning.probing import probe

_LAYOUT = 'Write a JSON object from class to outputs, e.g. {"cup": [504, 968], "bed": [564]}.'


class OutputGroups(NamedTuple):
    """Classes by name, each with the outputs of the network that stand for it.

    Example:
        >>> groups = OutputGroups(("cup", "bed"), ((0, 2), (1,)))
        >>> groups.logits(torch.tensor([[0.0, 5.0, 0.0]]))
        tensor([[0.6931, 5.0000]])
    """

    names: tuple[str, ...]
    members: tuple[tuple[int, ...], ...]

    def logits(self, logits: Tensor) -> Tensor:
        """The groups' logits `(N, G)`: the log-sum-exp of their outputs in logits `(N, K)`.

        A softmax over them is the probability of each group where one of the groups is there.
        """
        return torch.stack([logits[:, list(outputs)].float().logsumexp(1) for outputs in self.members], 1)

    def of_labels(self, class_names: Mapping[int, str]) -> dict[int, int]:
        """The number of the group of each class of a data set; classes without a group are left out.

        Args:
            class_names: of the data set, by label.

        Raises:
            ValueError: if no class has a group.
        """
        numbers = {name: number for number, name in enumerate(self.names)}
        found = {label: numbers[name] for label, name in class_names.items() if name in numbers}
        if not found:
            raise ValueError(
                f"Expected argument `groups` to name classes of the data, but it names {_some(self.names)}, and the "
                f"data have {_some(class_names.values()) or 'no names of classes'}."
            )
        return found


def read_groups(path: str | Path) -> OutputGroups:
    """Groups from a JSON file: an object from the name of a class to the numbers of its outputs.

    Raises:
        ValueError: if the file is missing or holds something else; names the group that is wrong.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Expected argument `groups` to be a JSON file, but could not read {path}: {error}."
        ) from error
    if not isinstance(content, dict) or len(content) < 2:
        raise ValueError(f"Expected argument `groups` to hold at least two groups, but {path} does not. {_LAYOUT}")
    for name, outputs in content.items():
        whole = isinstance(outputs, list) and all(type(output) is int and output >= 0 for output in outputs)
        if not whole or not outputs or len(set(outputs)) < len(outputs):
            raise ValueError(
                f"Expected every group in {path} to be a list of different outputs that count from 0, but {name!r} is "
                f"{outputs!r}. {_LAYOUT}"
            )
    return OutputGroups(tuple(content), tuple(tuple(outputs) for outputs in content.values()))


def grouped(network: Network, groups: OutputGroups, window: Size) -> Network:
    """The network with the groups as its classes. Its module stays, with a hook that groups what it returns.

    Args:
        network: as `load_network` gives it; changed in place.
        groups: as `read_groups` gives them.
        window: height and width of an image that the network accepts, to find out how many outputs it has.

    Raises:
        ValueError: if a group names an output that the network lacks.
    """
    with probe(network.module):
        outputs = model_logits(network.module, torch.zeros(1, 3, *window)).shape[1]
    for name, members in zip(groups.names, groups.members, strict=True):
        if max(members) >= outputs:
            raise ValueError(
                f"Expected argument `groups` to name outputs of the network, 0..{outputs - 1}, but group {name!r} "
                f"names {max(members)}."
            )

    network.module.register_forward_hook(_Grouping(groups))
    return network._replace(class_names=dict(enumerate(groups.names)))


class _Grouping:
    """A hook that groups what a module returns; no function in a function, as it goes to processes that are spawned."""

    def __init__(self, groups: OutputGroups) -> None:
        self.groups = groups

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Tensor:
        return self.groups.logits(read_logits(output, len(args[0])))


def _some(names: Any) -> str:
    listed = list(names)
    return ", ".join(map(repr, listed[:5])) + (" ..." if len(listed) > 5 else "")
