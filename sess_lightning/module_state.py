"""What a forward may leave behind in a module, and how it is put back: buffers, plain attributes, states of metrics.

Quantisation observers, counters, running statistics, averages of the weights and caches are written by a forward in
eval mode too, and a metric's state is a plain attribute of a module.
"""

from __future__ import annotations

import operator
import random
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

import numpy as np
import torch
from torch import Tensor, nn

# Tensors up to this many bytes are copied by every probe, in one piece; of larger ones (an average of the weights),
# those that a forward is known to write.
_SMALL = 2**20
_SCANNED = 10_000  # items of a list or dict among which tensors are looked for
_OWN = frozenset(vars(nn.Module()))  # what every module has: tables of hooks and children, the training flag
_TABLES = ("_buffers", "_parameters", "_modules")
_CONSTANT = frozenset({int, float, bool, str, tuple, type(None), torch.Size, torch.dtype, torch.device, type(len)})
_MISSING = object()

_held: WeakSet[nn.Module] = WeakSet()
_written: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # large tensors that a forward writes, by name

Undo = Callable[[], object]


@contextmanager
def kept_state(model: nn.Module) -> Iterator[None]:
    """Have every module as it is now when this ends, also after an exception, whatever forwards write.

    Restored are the values of buffers and of tensors that are plain attributes (written in place or replaced), all
    other attributes that are set, added or removed, the content of lists, dicts, sets and arrays among them, random
    generators, and children and parameters that a forward adds. Not restored are the values of parameters, and the
    inside of other objects. Nested for one model, only the outermost does something.

    The first time, everything is copied. Tensors of more than 1 MB that were not written then are only watched later:
    should one be written after all, there is a warning, and the next time it is copied.

    Args:
        model: any module.
    """
    if model in _held:
        yield
        return
    _held.add(model)
    try:
        snapshot = _Snapshot(model)
        try:
            yield
        finally:
            snapshot.restore()
    finally:
        _held.discard(model)


class _Large(NamedTuple):
    """A tensor that is too large to be copied by every probe."""

    module: nn.Module
    name: str
    tensor: Tensor
    value: Tensor | None  # its copy, if one was made
    version: int | None


class _Snapshot:
    """The state of a model's modules, and the way back to it."""

    def __init__(self, model: nn.Module) -> None:
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._undo: list[Undo] = []
        self._small: list[Tensor] = []
        self._large: list[_Large] = []
        self._seen: set[int] = set()
        for module in model.modules():
            self._keep_module(module)
        self._pieces = _pieces(self._small)

    def restore(self) -> None:
        same = operator.is_
        for table, before in self._dicts:
            if len(table) != len(before) or not all(map(same, table.values(), before.values())):
                _refill(table, before)
        for undo in self._undo:
            undo()
        with torch.no_grad():
            for piece in self._pieces:
                piece.restore()
            for large in self._large:
                _restore_large(large)

    def _keep_module(self, module: nn.Module) -> None:
        if id(module) in self._seen:
            return
        self._seen.add(id(module))
        if isinstance(module, torch.jit.ScriptModule):  # its attributes lie in C++
            for name, buffer in module.named_buffers(recurse=False):
                self._keep_tensor(module, name, buffer)
            return
        own = vars(module)
        self._dicts.append((own, own.copy()))
        for name, buffer in own["_buffers"].items():
            if buffer is not None:
                self._keep_tensor(module, name, buffer)
        if type(module).__module__.startswith("torch.nn.modules"):
            # Layers of torch write nothing but their buffers: what others may do to them is replace a part.
            self._dicts += [(table, table.copy()) for table in (own["_buffers"], own["_modules"]) if table]
            return
        for name in _TABLES:
            self._dicts.append((own[name], own[name].copy()))
        for name, value in own.items():
            if type(value) not in _CONSTANT and name not in _OWN:
                self._keep(module, name, value)

    def _keep(self, module: nn.Module, name: str, value: Any) -> None:
        """Remember an attribute's value as far as it can change inside."""
        if isinstance(value, Tensor):
            self._keep_tensor(module, name, value)
        elif isinstance(value, (list, dict, set, deque)):
            self._keep_container(module, name, value)
        elif isinstance(value, nn.Module):  # in a list, say: not among the model's modules
            for child in value.modules():
                self._keep_module(child)
        elif isinstance(value, np.ndarray):
            self._undo.append(partial(_refill_array, value, value.copy()))
        elif isinstance(value, (torch.Generator, np.random.RandomState)):
            state: Any = value.get_state()
            self._undo.append(partial(value.set_state, state))
        elif isinstance(value, random.Random):
            self._undo.append(partial(value.setstate, value.getstate()))
        elif isinstance(value, np.random.Generator):
            self._undo.append(partial(setattr, value.bit_generator, "state", value.bit_generator.state))

    def _keep_container(self, module: nn.Module, name: str, container: Any) -> None:
        if id(container) in self._seen:
            return
        self._seen.add(id(container))
        if isinstance(container, dict):
            self._dicts.append((container, dict(container)))
        else:
            self._undo.append(partial(_refill_container, container, list(container)))
        if len(container) <= _SCANNED:
            for item in container.values() if isinstance(container, dict) else container:
                if type(item) not in _CONSTANT:
                    self._keep(module, name, item)

    def _keep_tensor(self, module: nn.Module, name: str, tensor: Tensor) -> None:
        if id(tensor) in self._seen or isinstance(tensor, nn.Parameter) or tensor.is_meta:
            return
        self._seen.add(id(tensor))
        if tensor.layout is torch.strided and not tensor.is_quantized and tensor.nbytes <= _SMALL:
            self._small.append(tensor)
            return
        needed = module not in _written or name in _written[module]
        with torch.no_grad():
            value = tensor.detach().clone() if needed else None
        self._large.append(_Large(module, name, tensor, value, None if tensor.is_inference() else tensor._version))


class _Piece(NamedTuple):
    """Small tensors of one device and dtype, copied together: one operation for all."""

    tensors: list[Tensor]
    shapes: list[torch.Size]
    values: Tensor

    def restore(self) -> None:
        if [tensor.shape for tensor in self.tensors] == self.shapes and _equal(_flat(self.tensors), self.values):
            return
        counts = [shape.numel() for shape in self.shapes]
        for tensor, shape, value in zip(self.tensors, self.shapes, self.values.split(counts), strict=True):
            _put_back(tensor, value.view(shape))


def _pieces(tensors: Iterable[Tensor]) -> list[_Piece]:
    groups: dict[tuple[torch.device, torch.dtype, bool], list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.device, tensor.dtype, tensor.ndim == 0), []).append(tensor)
    with torch.no_grad():
        return [_Piece(alike, [tensor.shape for tensor in alike], _flat(alike)) for alike in groups.values()]


def _flat(tensors: list[Tensor]) -> Tensor:
    if all(tensor.ndim == 0 for tensor in tensors):
        return torch.stack(tensors).detach()
    return torch.cat([tensor if tensor.ndim == 1 else tensor.reshape(-1) for tensor in tensors]).detach()


def _equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same bits: NaN equals itself."""
    if one.shape != other.shape:
        return False
    if one.layout is not torch.strided or one.is_quantized:
        return torch.equal(one, other)
    flat = (tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one.detach(), other))
    return torch.equal(*flat)


def _put_back(tensor: Tensor, value: Tensor) -> None:
    """Give a tensor its value back, unless it has it: who saved it for a backward pass would notice the write."""
    if _equal(tensor, value):
        return
    with torch.inference_mode(tensor.is_inference()):  # written only in the mode that it was made in
        if tensor.shape == value.shape:
            tensor.detach().copy_(value)
        else:  # an observer resizes its buffers
            tensor.data = value.clone()


def _restore_large(large: _Large) -> None:
    known = _written.setdefault(large.module, set())
    if large.value is not None:
        if not _equal(large.tensor, large.value):
            known.add(large.name)
            _put_back(large.tensor, large.value)
    elif large.version is not None and large.tensor._version != large.version:
        known.add(large.name)
        warnings.warn(
            f"A forward in eval mode wrote {large.name!r} of {type(large.module).__name__} (more than 1 MB), which it "
            "did not the first time, so that no copy was made: an explanation has changed it this once. From now on "
            "it is put back. Write it in training mode only (`if self.training`) to be safe.",
            stacklevel=2,
        )


def _refill(table: dict[Any, Any], before: dict[Any, Any]) -> None:
    for key in [key for key in table if key not in before]:
        del table[key]
    for key, value in before.items():
        if table.get(key, _MISSING) is not value:
            table[key] = value


def _refill_container(container: Any, before: list[Any]) -> None:
    if len(container) == len(before) and all(map(operator.is_, container, before)):
        return
    container.clear()
    (container.update if isinstance(container, set) else container.extend)(before)


def _refill_array(array: np.ndarray, before: np.ndarray) -> None:
    if array.shape == before.shape and array.dtype == before.dtype and array.flags.writeable:
        array[...] = before
