"""Reads the logits of a validation step's own forwards by hooks: no forward is added to the step, nothing is changed.

A step may call the module (`self(x)`), a part of it (`self.model(x)`), or parts in turn (`self.head(self.trunk(x))`).
Shapes alone do not tell logits from features. So one forward of one image, once in a stage and under a probe, tells
which modules give the very logits that the callback explains; the steps are then listened to at these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from sess_lightning.logits import read_logits
from sess_lightning.probing import hookable, is_probed, on_this_thread

_T = TypeVar("_T")
LogitsFn = Callable[[Any], Tensor]


class Source(NamedTuple):
    """A module whose output holds the logits.

    Attributes:
        module: that gives them.
        whole: its output is the model's own, so that `logits_fn` reads it; else it is the logits themselves.
    """

    module: nn.Module
    whole: bool


def logits_sources(
    module: nn.Module, call: Callable[[], Any], logits_fn: LogitsFn | None, step: Callable[..., Any]
) -> list[Source]:
    """The modules whose output holds the logits of the model, the last to give it first.

    Args:
        module: the user's, under a probe.
        call: one forward of one image, by which the callback explains; returns the model's output.
        logits_fn: from that output to logits `(1, K)`.
        step: `validation_step` or `test_step`. Nothing inside compiled code is a source: a hook there would be compiled
            with it, and stay in it.
    """
    given: list[tuple[nn.Module, Any, Tensor | None]] = []
    handles = [
        one.register_forward_hook(lambda source, args, output: given.append((source, output, _read(output))))
        for one in _in_eager_code(module, step)
    ]
    try:
        output = call()
    finally:
        for handle in handles:
            handle.remove()
    logits = read_logits(output if logits_fn is None else logits_fn(output), 1)
    found: dict[nn.Module, bool] = {}
    for source, its, read in reversed(given):
        # Read when it was given: a layer's output may be changed in place behind it, and is then not the logits.
        if its is output and (logits_fn is not None or (read is not None and _same(read, logits))):
            found.setdefault(source, True)
        elif read is not None and _same(read, logits):
            found.setdefault(source, False)
    return [Source(*one) for one in found.items()]


class StepListener(Generic[_T]):
    """Listens to the forwards of one step at a time.

    Args:
        logits_fn: from the model's output to logits.

    Attributes:
        sources: where logits are found, see `logits_sources`; `None` before that is known.
    """

    def __init__(self, logits_fn: LogitsFn | None) -> None:
        self.sources: list[Source] | None = None
        self._logits_fn = logits_fn
        self._handles: list[RemovableHandle] = []
        self._found: tuple[bool, _T] | None = None
        self._depth = 0

    def listen(
        self, module: nn.Module, images: Any, count: int, take: Callable[[Tensor], _T], redirected: bool
    ) -> None:
        """Start listening; `close` ends it.

        Where a step has several forwards, as for test-time augmentation, the first one of the batch's own images
        counts; if there is none, the first one.

        Args:
            module: the user's.
            images: of the batch, as the step gets them.
            count: how many.
            take: called in the forward with the logits `(N, K)` as they are, without a graph; its result is kept.
            redirected: the strategy calls the step through the module's own `__call__`, as DDP does.
        """
        self.close()

        def enter(*_: Any) -> None:
            self._depth += 1

        def leave(source: Source, args: Any, kwargs: Any, output: Any) -> None:
            # Explaining is no part of the step: another callback may do so before this one has closed.
            if is_probed(module) or (source.module is module and redirected and self._left() == 0):
                return
            own = any(one is images for one in (*args, *kwargs.values()))
            if self._found is None or (own and not self._found[0]):
                taken = self._taken(source, output, count, take)
                self._found = self._found if taken is None else (own, taken)

        for source in self.sources or ():
            if source.module is module and redirected:
                self._handles.append(module.register_forward_pre_hook(on_this_thread(enter)))
            hook = on_this_thread(lambda _, args, kwargs, output, source=source: leave(source, args, kwargs, output))
            self._handles.append(source.module.register_forward_hook(hook, with_kwargs=True))

    def close(self) -> _T | None:
        """Remove the hooks; returns what `take` gave in this step, `None` if no logits came by."""
        for handle in self._handles:
            handle.remove()
        found, self._handles, self._found, self._depth = self._found, [], None, 0
        return None if found is None else found[1]

    def _left(self) -> int:
        self._depth -= 1
        return self._depth

    def _taken(self, source: Source, output: Any, count: int, take: Callable[[Tensor], _T]) -> _T | None:
        """The step must not fail for what is read here: what cannot be read is as if it had not come."""
        try:
            read = self._logits_fn(output) if source.whole and self._logits_fn is not None else output
            return take(read_logits(read, count).detach())
        except Exception:
            return None


def _read(output: Any) -> Tensor | None:
    """A copy of the logits `(1, K)` that an output may be."""
    try:
        return read_logits(output, 1).detach().clone()
    except (TypeError, ValueError):
        return None


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one.float().nan_to_num(), other.float().nan_to_num())


def _in_eager_code(module: nn.Module, step: Callable[..., Any]) -> list[nn.Module]:
    """The modules that take hooks and are called from Python, not from compiled code."""
    if _is_compiled(step):
        return []
    compiled = set(_compiled_modules(module))
    return [one for one in hookable(module) if one not in compiled]


def _compiled_modules(module: nn.Module) -> Iterator[nn.Module]:
    for one in module.modules():
        whole = getattr(one, "_compiled_call_impl", None) is not None  # by `one.compile()`: its own hooks too
        if whole or hasattr(one, "_orig_mod") or _is_compiled(one.forward):
            yield from (inner for inner in one.modules() if whole or inner is not one)


def _is_compiled(function: Callable[..., Any]) -> bool:
    return hasattr(function, "_torchdynamo_orig_callable")
