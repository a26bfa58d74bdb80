"""Names of classes from a file, and the class that a user names."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

ClassNames = Mapping[int, str]


def read_class_names(path: str | Path, argument: str = "classes") -> dict[int, str]:
    """Names by class index, from a file in UTF-8.

    Args:
        path: a text file with one name a line, the first that of class 0; or JSON or a Python literal: a list of names,
            a dict from index to name or to `[WordNet id, name]`, as ImageNet's lists are published, or from name to
            index, or a dict with COCO's `categories`. What ends in `.json` must be JSON.
        argument: name of the argument that holds the path, for errors.

    Raises:
        ValueError: if the file is missing or holds something else.
    """
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = (
            "it is no text in UTF-8" if isinstance(error, UnicodeDecodeError) else getattr(error, "strerror", error)
        )
        raise ValueError(
            f"Expected argument `{argument}` to be a file of class names, but could not read {path}: {reason}."
        ) from error
    try:
        content = _content(text, is_json=path.suffix.lower() == ".json")
        if isinstance(content, dict) and "categories" in content:
            return {int(entry["id"]): str(entry["name"]) for entry in content["categories"]}
        return names_by_index(content)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"Expected argument `{argument}` to be a file of class names, but could not read {path}: "
            f"{type(error).__name__} {error}. Write one name a line, or JSON: a list, an object from index to name, or "
            "COCO's categories."
        ) from error


def class_names_of(data: object, attribute: str = "class_names") -> dict[int, str] | None:
    """Names by class index that a data module, data set or model has in an attribute.

    Args:
        data: of the user.
        attribute: name of the attribute, which may be a mapping from index to name or from name to index, a sequence of
            names, or a method without arguments that returns one of them.

    Returns:
        `None` where there are none, or the attribute is anything else or raises: names are decoration, and a training
        does not end for them.
    """
    try:
        names: Any = getattr(data, attribute, None)
        if inspect.isroutine(names):  # not a module, whose call would be a forward
            names = names()
        if isinstance(names, (str, bytes)) or not hasattr(names, "__len__"):
            return None
        return names_by_index(names)
    except Exception:
        return None


def names_by_index(names: Any) -> dict[int, str]:
    """Names by index, from a sequence or mapping, also from names to indices as torchvision's `class_to_idx`.

    Raises:
        TypeError, ValueError: if they are none.
    """
    if not isinstance(names, Mapping):
        names = dict(enumerate(names))
    elif all(type(index) is int for index in names.values()) and not any(str(key).isdigit() for key in names):
        names = {index: name for name, index in names.items()}
    return {int(index): _single(name) for index, name in names.items()}


def _content(text: str, is_json: bool) -> Any:
    """A list or dict, as JSON or as a Python literal, or else the lines."""
    if is_json:
        return json.loads(text)
    for read in (json.loads, ast.literal_eval):
        try:
            content = read(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(content, (dict, list, tuple)):
            return content
    return [line.strip() for line in text.strip().splitlines()]


def _single(name: Any) -> str:
    """The name itself; of `[WordNet id, name]` the second, of synonyms, as torchvision's ImageNet has, the first."""
    if isinstance(name, (list, tuple)) and name and all(isinstance(part, str) for part in name):
        return name[min(1, len(name) - 1) if re.fullmatch(r"n\d{8}", name[0]) else 0]
    if not isinstance(name, (str, int)):
        raise TypeError(f"a name is {name!r}")
    return str(name)


def class_name(index: int, names: ClassNames | Sequence[str] | None) -> str:
    """Returns the name of a class, or its index as text where it has none."""
    try:
        return str(index if names is None else names[index])
    except (KeyError, IndexError):
        return str(index)


def chosen_class(target: str, names: ClassNames | None, num_classes: int) -> int | range:
    """Returns the class that `target` names, or for `"topN"` the ranks of the predictions.

    Args:
        target: `"top3"`, the three best classes of each image; an index; or a name, in upper or lower case.
        names: names by class index.
        num_classes: number of outputs of the network.

    Raises:
        ValueError: if there is no such class, or several have the name; the message lists similar names.

    Example:
        >>> chosen_class("Tabby", {0: "tabby", 1: "lynx"}, 2), chosen_class("1", None, 2), chosen_class("top2", None, 2)
        (0, 1, range(0, 2))
    """
    number = re.fullmatch(r"(top)?(\d{1,9})", target.strip().lower())
    if number is None:
        return _named(target.strip(), names or {})
    value = int(number[2])
    if number[1] and not 1 <= value <= num_classes:
        raise ValueError(
            f"Expected argument `target` to be in top1..top{num_classes}, as the network has {num_classes} outputs, "
            f"but got {target!r}."
        )
    if not number[1] and value >= max(num_classes, 2):
        raise ValueError(
            f"Expected argument `target` to be in 0..{max(num_classes, 2) - 1}, as the network has {num_classes} "
            f"outputs, but got {value}."
        )
    return range(value) if number[1] else value


def nearest_names(name: str, names: Collection[str]) -> list[str]:
    """At most five of the names that hold `name`, in upper or lower case, or else are spelt alike."""
    holding = [one for one in names if name.lower() in one.lower()]
    return holding[:5] or difflib.get_close_matches(name, names, n=5, cutoff=0.5)


def _named(target: str, names: ClassNames) -> int:
    found = [index for index, name in names.items() if name == target]
    found = found or [index for index, name in names.items() if name.lower() == target.lower()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"Expected argument `target` to name one class, but {target!r} are {' and '.join(map(str, found))}: pass "
            "the index."
        )
    if not names:
        raise ValueError(
            f"Expected argument `target` to be 'top1', 'top3' or an index, as the classes have no names, but got "
            f"{target!r}. Name them with --classes FILE."
        )
    near = nearest_names(target, names.values())
    raise ValueError(
        f"Expected argument `target` to be 'top1', 'top3', an index or the name of a class, but got {target!r}."
        + (f" Nearest: {', '.join(near)}." if near else "")
    )
