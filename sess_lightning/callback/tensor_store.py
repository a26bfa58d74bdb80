"""Tensors that are kept over validations: in memory up to a limit, beyond it in a temporary file, bit for bit."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from typing import Any, NamedTuple

import torch
from torch import Tensor

IN_MEMORY = 64 * 2**20  # bytes of one store: 85 images of 3 x 256 x 256; the followed samples of most runs


class _InFile(NamedTuple):
    """Where a tensor lies in the file."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype


class TensorStore:
    """A growing list of tensors on the CPU, of any shapes and dtypes; what is read is a copy.

    Writing to a tensor that was given or read changes nothing here. The file has no name and is gone with the store; it
    lies where `tempfile` puts it (`TMPDIR`). Where it cannot grow, e.g. on a full disk, tensors stay in memory.
    """

    def __init__(self) -> None:
        self._entries: list[Tensor | _InFile] = []
        self._free = IN_MEMORY
        self._file: Any = None  # unbuffered: a full disk is known at once
        self._end = 0  # of the file, in bytes

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, tensor: Tensor) -> None:
        """Add a copy of a tensor of any device."""
        # No inference tensor, which a graph could not be built on later.
        with torch.inference_mode(False), torch.no_grad():
            own = tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format).as_subclass(Tensor)
        size = own.numel() * own.element_size()
        entry = self._written(own) if size > self._free else own
        if entry is own:
            self._free -= size
        self._entries.append(entry)

    def __getitem__(self, number: int) -> Tensor:
        """Returns a copy of the tensor of this number."""
        entry = self._entries[number]
        if isinstance(entry, Tensor):
            return _copy(entry)
        if self._file is None:
            raise RuntimeError("A tensor lies in a file that is not there.")
        self._file.seek(entry.offset)
        data = bytearray(entry.shape.numel() * entry.dtype.itemsize)
        self._file.readinto(data)
        return _read(data, entry, 0)

    def shape(self, number: int) -> torch.Size:
        """Returns the shape of the tensor of this number."""
        return self._entries[number].shape

    def tensors(self) -> list[Tensor]:
        """Returns copies of all, in order.

        Those in the file take memory only where they are looked at, and writing to them does not reach the file.
        """
        if self._file is None:
            return [_copy(entry) for entry in self._entries if isinstance(entry, Tensor)]
        mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_COPY)
        return [_copy(one) if isinstance(one, Tensor) else _read(mapped, one, one.offset) for one in self._entries]

    def _written(self, tensor: Tensor) -> Tensor | _InFile:
        """Write a tensor to the file; returns the tensor itself where that fails."""
        data = tensor.reshape(-1).view(torch.uint8).numpy().data
        size = len(data)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed with the store
                weakref.finalize(self, self._file.close)
            self._file.seek(self._end)  # over what a write that failed may have left
            if self._file.write(data) < size:
                return tensor
        except OSError:
            return tensor
        entry = _InFile(self._end, tensor.shape, tensor.dtype)
        self._end += size + -size % 16  # the next begins where every dtype may
        return entry

    def __getstate__(self) -> dict[str, Any]:
        return {"tensors": self.tensors()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]
        for tensor in state["tensors"]:
            self.append(tensor)


def _copy(tensor: Tensor) -> Tensor:
    with torch.inference_mode(False):
        return tensor.clone()


def _read(data: bytearray | mmap.mmap, entry: _InFile, offset: int) -> Tensor:
    with torch.inference_mode(False):
        flat = torch.frombuffer(data, dtype=entry.dtype, count=entry.shape.numel(), offset=offset)
        return flat.reshape(entry.shape)
