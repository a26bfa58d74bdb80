"""The names of the model's classes: those given, or found in the data module, the data sets, the module."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl

from sess_lightning.class_names import ClassNames, class_names_of, names_by_index, read_class_names

_ATTRIBUTES = ("class_names", "classes")
_DEEPEST = 16  # wrappers around wrappers: more is a circle
_SHOWN = 8


class FoundNames(NamedTuple):
    """Names by class index, and where they are from; `None` and nothing where there are none."""

    names: ClassNames | None = None
    source: str = ""

    def __str__(self) -> str:
        if self.names is None:
            return "none found"
        shown = ", ".join(list(self.names.values())[:_SHOWN])
        return f"{len(self.names)}, {self.source}: {shown}{', ...' if len(self.names) > _SHOWN else ''}"


def given_class_names(given: Any) -> FoundNames | None:
    """The argument `class_names`: a list, a mapping or a file; `None` where it is not given.

    Raises:
        ValueError: if it is none of these; names the argument.
    """
    if given is None:
        return None
    if isinstance(given, (str, Path)):
        return FoundNames(read_class_names(given, "class_names"), f"from {given}")
    try:
        names = names_by_index(given)
    except (TypeError, ValueError):
        names = {}
    if not names:
        raise ValueError(
            "Expected argument `class_names` to be a list of names, a mapping from class index to name, or the path of "
            f"a file with them, but got {given!r}."
        )
    return FoundNames(names, "from class_names")


def found_class_names(trainer: pl.Trainer, loaders: Iterable[Any]) -> FoundNames:
    """Names of the classes out of what the trainer has, the first of: data module, data sets, module, its config.

    Whatever else is called `class_names` or `classes`, or raises when it is read, is passed over.

    Args:
        trainer: with its module and data module, if there is one.
        loaders: validation or test loaders; wrappers of data sets are searched too.
    """
    module = trainer.lightning_module
    found = chain(
        own_names(getattr(trainer, "datamodule", None), "datamodule"),
        _in_loaders(loaders),
        own_names(module, "module"),
        own_names(_attribute(module, "hparams"), "module.hparams"),
        _in_configs(module),
    )
    return next(found, FoundNames())


def names_of_data(data: Any, depth: int = 0) -> FoundNames | None:
    """Names that a data set has, or the one it wraps as `dataset`, or all those it joins as `datasets`.

    `None` where there are none, and where those joined have different ones: a class then has no one name.
    """
    for own in own_names(data, type(data).__name__):
        return own
    if depth == _DEEPEST:
        return None
    inner, joined = _attribute(data, "dataset"), _attribute(data, "datasets")
    if inner is not None:
        return names_of_data(inner, depth + 1)
    if not isinstance(joined, (list, tuple)):
        return None
    found = [one for part in joined if (one := names_of_data(part, depth + 1)) is not None]
    return found[0] if found and all(one.names == found[0].names for one in found) else None


def own_names(owner: Any, what: str) -> Iterator[FoundNames]:
    """Yields what `owner` calls `class_names` or `classes`, as far as it is names."""
    for attribute in _ATTRIBUTES:
        names = class_names_of(owner, attribute)
        if names and not _are_indices(names):
            yield FoundNames(names, f"from {what}.{attribute}")


def _in_loaders(loaders: Iterable[Any]) -> Iterator[FoundNames]:
    for loader in loaders:
        found = names_of_data(loader)
        if found is not None:
            yield found


def _in_configs(module: pl.LightningModule) -> Iterator[FoundNames]:
    """Yields the labels of Hugging Face's configs, but for those that are placeholders, or of a headless part.

    A backbone keeps the labels of the checkpoint it was made from, whatever head the user has put on it; of the models
    of transformers only those with a head of their own have `num_labels`.
    """
    for part in module.modules():
        config = _attribute(part, "config")
        of_transformers = any(kind.__module__.startswith("transformers.") for kind in type(part).__mro__)
        headless = of_transformers and _attribute(part, "num_labels") is None
        names = None if headless else class_names_of(config, "id2label")
        if names and any(name != f"LABEL_{index}" for index, name in names.items()) and not _are_indices(names):
            yield FoundNames(names, f"from config.id2label of {type(part).__name__}")


def _are_indices(names: ClassNames) -> bool:
    """Whether "names" say no more than indices do."""
    return all(name == str(index) for index, name in names.items())


def _attribute(owner: Any, name: str) -> Any:
    """An attribute of an object of the user's; `None` where there is none or reading it raises."""
    try:
        return getattr(owner, name, None)
    except Exception:
        return None
