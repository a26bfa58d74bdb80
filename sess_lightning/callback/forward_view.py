"""A module under another forward: for models that need more than images, keywords, or another method than forward."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

ForwardFn = Callable[[nn.Module, Tensor, Any], Any]


class _Rows(NamedTuple):
    """Part of a batch that has a row for each sample: here the row of one."""

    row: Any


def batch_row(batch: Any, index: int, count: int, outermost: bool = True) -> Any:
    """What a batch says about one of its samples, copied to the CPU: see `expanded_row`.

    Tensors and lists whose first dimension is the batch size are sliced, dicts, lists and tuples of others looked into;
    all else is kept as it is.

    Args:
        batch: of any form.
        index: position of the sample.
        count: samples in the batch.
        outermost: whether this is the batch itself: as a list, it has a part for each kind of thing, not for each
            sample, unless all of them are dicts.
    """
    if isinstance(batch, Mapping):
        return {key: batch_row(value, index, count, False) for key, value in batch.items()}
    if isinstance(batch, Tensor):
        with torch.inference_mode(False), torch.no_grad():
            per_sample = batch.ndim > 0 and len(batch) == count
            own = (batch[index : index + 1] if per_sample else batch).detach().to("cpu", copy=True)
        return _Rows(own) if per_sample else own
    if isinstance(batch, (list, tuple)):
        if outermost:
            per_sample = all(isinstance(item, Mapping) for item in batch)
        else:  # as many tensors of as many rows are parts: two views of two samples, say
            per_sample = not all(isinstance(item, Tensor) and item.ndim > 0 and len(item) == count for item in batch)
        if len(batch) == count and per_sample:
            return _Rows([_copied(batch[index])])
        items = [batch_row(item, index, count, False) for item in batch]
        return type(batch)(*items) if hasattr(batch, "_fields") else type(batch)(items)
    return batch


def expanded_row(row: Any, count: int, device: torch.device) -> Any:
    """A batch in which every sample is the one that `batch_row` took out.

    Args:
        row: of `batch_row`.
        count: samples wanted. Tensors are expanded, not copied.
        device: that tensors are moved to.
    """
    if isinstance(row, _Rows):
        if isinstance(row.row, Tensor):
            return row.row.to(device).expand(count, *row.row.shape[1:])
        return [move_data_to_device(item, device) for item in row.row] * count
    if isinstance(row, Mapping):
        return {key: expanded_row(value, count, device) for key, value in row.items()}
    if isinstance(row, (list, tuple)):
        items = [expanded_row(item, count, device) for item in row]
        return type(row)(*items) if hasattr(row, "_fields") else type(row)(items)
    return move_data_to_device(row, device)


class ForwardView(nn.Module):
    """The user's module, called by `forward_fn`: the same children, parameters and buffers under the same names.

    Layers are found under the names that they have in the module, hooks on them fire, and nothing is copied. The module
    itself is no child, or all names would change: who probes this view probes the module too.

    Args:
        module: the user's.
        forward_fn: `(module, images, batch)` to the output.

    Attributes:
        row: what is passed as `batch`, of `batch_row`: that of the sample that is explained.
    """

    _call: _Call

    def __init__(self, module: nn.Module, forward_fn: ForwardFn) -> None:
        super().__init__()
        for table in ("_modules", "_parameters", "_buffers"):
            vars(self)[table] = vars(module)[table]
        # Past nn.Module's own way of setting attributes, which would make the module a child.
        vars(self).update(_call=_Call(module, forward_fn), training=module.training)
        self.row: Any = None

    def forward(self, images: Tensor) -> Any:
        """What `forward_fn` makes of the images, `(N, C, H, W)`."""
        batch = expanded_row(self.row, len(images), images.device)
        call: _Call = vars(self)["_call"]
        return call.forward_fn(call.module, images, batch)


class _Call(NamedTuple):
    module: nn.Module
    forward_fn: ForwardFn


def _copied(item: Any) -> Any:
    if isinstance(item, Tensor):
        with torch.inference_mode(False), torch.no_grad():
            return item.detach().to("cpu", copy=True)
    if isinstance(item, Mapping):
        return {key: _copied(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)) and not hasattr(item, "_fields"):
        return type(item)(_copied(value) for value in item)
    return item
