"""The one place that touches the user's model: whatever a probe changes is as before when it ends.

Nothing here calls `train()`, `eval()`, `backward()` or `zero_grad()`: flags are set and set back one by one, because a
`train()` of the user's own may do more than set flags and a frozen layer must stay frozen.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache, wraps
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import nn

from sess_lightning.module_state import kept_state

_LOGGING = ("log", "log_dict")

_change = threading.Condition()  # guards what follows, and wakes those who wait for a module
_users: dict[nn.Module, int] = {}  # thread that probes a module
_eager = 0  # probes inside of which compiled modules run eagerly
_stance = ExitStack()


@contextmanager
def probe(model: nn.Module, forward_context: AbstractContextManager | None = None) -> Iterator[None]:
    """Run forwards and `torch.autograd.grad` on `model` without leaving a trace.

    Inside, every module is in eval mode, gradients are off but can be switched on (inference mode is left), compiled
    modules run eagerly, so that hooks fire, and what a LightningModule's forward logs goes nowhere. Afterwards, also
    after an exception, module flags, buffers, attributes of modules (so metrics' states too), `p.grad`, grad mode and
    the random states of Python, numpy and torch are as before: see `module_state`. Probes may be nested. Of two threads
    that probe models with common modules, the second waits for the first; other threads may use other models meanwhile,
    but not train this one, nor draw from the global random generators what must be the same in every run.

    Args:
        model: the user's model.
        forward_context: entered inside, e.g. the autocast context of a Lightning precision plugin.

    Raises:
        RuntimeError: with the way out, if a gradient is wanted through tensors that were made in inference mode.
    """
    _keep_freed_memory()
    with ExitStack() as stack:
        stack.enter_context(_alone(model))
        stack.enter_context(kept_state(model))
        stack.enter_context(_unlogged(model))
        stack.enter_context(_modes(model))
        stack.enter_context(_gradients(model))
        stack.enter_context(random_states({p.device for p in model.parameters() if p.device.type == "cuda"}))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        # Dynamo is imported by the first torch.compile: without it, nothing is compiled and its slow import is saved.
        if "torch._dynamo" in sys.modules:
            stack.enter_context(_eagerly())
        if forward_context is not None:
            stack.enter_context(forward_context)
        try:
            yield
        except RuntimeError as error:
            if "Inference tensors cannot be saved for backward" in str(error):
                raise RuntimeError(
                    "The model holds a tensor that was made in inference mode (a cached position table, say), so no "
                    "gradient can be computed through it. Pass Trainer(inference_mode=False). If its forward enters "
                    "inference mode itself, write torch.no_grad() there, or take SESS('rise'), which needs no gradient."
                ) from error
            raise


def is_probed(model: nn.Module) -> bool:
    """Whether this thread is inside a probe of this module."""
    return _users.get(model) == threading.get_ident()


def hookable(model: nn.Module) -> list[nn.Module]:
    """The modules of a model that take hooks: scripted ones do not.

    Also those that the model keeps in lists and dicts, as a frozen trunk that shall not be among its parameters.
    """
    found = dict.fromkeys(model.modules())
    for module in list(found):
        if type(module).__module__.startswith("torch."):
            continue
        for value in vars(module).values():
            if type(value) in (list, tuple, dict):
                items = value.values() if isinstance(value, dict) else value
                for item in items:
                    if isinstance(item, nn.Module):
                        found.update(dict.fromkeys(item.modules()))
    return [module for module in found if not isinstance(module, torch.jit.ScriptModule)]


def on_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """The hook of a module for the calls of this thread alone: another one that calls the module sees nothing of it.

    Autograd's own threads count as this one: on an accelerator, checkpointed layers run again in one of them.
    """
    thread = threading.get_ident()

    @wraps(hook)
    def run(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() == thread or torch._C._current_graph_task_id() != -1:
            return hook(*args, **kwargs)
        return None

    return run


@contextmanager
def restored(model: nn.Module, frozen: bool = False) -> Iterator[None]:
    """Undo what code of others does to a model, as far as a probe around it does not: hooks, children, frozen flags.

    Args:
        model: under a probe.
        frozen: parameters need no gradients inside, so that a `backward()` reaches none of them, nor hooks
            on their gradients, as DDP's.
    """
    modules = list(model.modules())
    tables = [table for module in modules for name, table in vars(module).items() if _is_table(name, table)]
    contents = [dict(table) for table in tables]
    flags = [(p, p.requires_grad) for p in model.parameters()]
    try:
        if frozen:
            for p, _ in flags:
                p.requires_grad_(False)
        yield
    finally:
        for table, content in zip(tables, contents, strict=True):
            table.clear()
            table.update(content)
        for p, requires_grad in flags:
            p.requires_grad_(requires_grad)


def _is_table(name: str, value: Any) -> bool:
    """Whether an attribute of a module is one of its tables of hooks or children."""
    return isinstance(value, dict) and (name == "_modules" or "_hooks" in name)


def default_batch_size(device: torch.device, size: tuple[int, int]) -> int:
    """Images per forward where the user gives no `batch_size`.

    On a CPU 4 images of 224 x 224, or as many smaller ones as have as many pixels, up to 32: larger batches fall out of
    the cache, and activations of more than 32 MB are given back to the system and fetched anew in every layer, which
    costs up to twice as much per image. 64 on other devices.

    Args:
        device: that the model is on.
        size: height and width of the images.

    Example:
        >>> default_batch_size(torch.device("cpu"), (224, 224)), default_batch_size(torch.device("cpu"), (64, 64))
        (4, 32)
    """
    return max(1, min(32, 4 * 224 * 224 // (size[0] * size[1]))) if device.type == "cpu" else 64


def model_device(model: nn.Module, default: torch.device) -> torch.device:
    """The device of the model's first parameter or buffer; `default` for a model without any."""
    tensor = next(chain(model.parameters(), model.buffers()), None)
    return default if tensor is None else tensor.device


@cache
def _keep_freed_memory() -> None:
    """Have the C library keep what layers free, for the next layer: a fresh process explains 15 to 25 % faster.

    glibc gives memory back to the system above a limit that starts low and follows the largest block freed so far, up
    to 32 MB (mallopt(3), M_MMAP_THRESHOLD): until a large batch has passed, every layer of every forward fetches its
    memory anew, page by page. A block of that size is freed here; nothing is written to it, so it takes no memory.
    Elsewhere than on glibc this does nothing.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8, device="cpu")


@contextmanager
def _alone(model: nn.Module) -> Iterator[None]:
    """Wait until no other thread probes a module of this model, and keep them from it."""
    me, modules = threading.get_ident(), list(model.modules())
    with _change:
        _change.wait_for(lambda: all(_users.get(module, me) == me for module in modules))
        mine = [module for module in modules if module not in _users]
        _users.update(dict.fromkeys(mine, me))
    try:
        yield
    finally:
        with _change:
            for module in mine:
                del _users[module]
            _change.notify_all()


@contextmanager
def _eagerly() -> Iterator[None]:
    """Run compiled modules eagerly. The stance is one for all threads: the first sets it, the last sets it back."""
    global _eager
    with _change:
        if not _eager:
            _stance.enter_context(torch.compiler.set_stance("force_eager"))
        _eager += 1
    try:
        yield
    finally:
        with _change:
            _eager -= 1
            if not _eager:
                _stance.close()


@contextmanager
def _modes(model: nn.Module) -> Iterator[None]:
    flags = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        for module, training in flags:
            module.training = training


@contextmanager
def _unlogged(model: nn.Module) -> Iterator[None]:
    """Let `self.log` and `self.log_dict` in a forward do nothing: the trainer would average what it logs of our images.

    For LightningModules of either package, under a Trainer or Fabric, told by their methods. What a forward gives to
    a logger itself (`self.logger.experiment`) cannot be held back.
    """
    tables = [vars(m) for m in model.modules() if all(hasattr(type(m), name) for name in _LOGGING)]
    previous = [{name: table[name] for name in _LOGGING if name in table} for table in tables]
    try:
        for table in tables:
            table.update(dict.fromkeys(_LOGGING, _ignored))
        yield
    finally:
        for table, before in zip(tables, previous, strict=True):
            for name in _LOGGING:
                table.pop(name, None)
            table.update(before)


def _ignored(*args: Any, **kwargs: Any) -> None:
    pass


@contextmanager
def _gradients(model: nn.Module) -> Iterator[None]:
    """Take every `p.grad` away and put the same object back: a method that calls `backward()` does no harm."""
    grads: list[tuple[nn.Parameter, Any]] = [(p, p.grad) for p in model.parameters()]
    try:
        for p, _ in grads:
            p.grad = None
        yield
    finally:
        for p, grad in grads:
            p.grad = grad


@contextmanager
def random_states(devices: Collection[torch.device] = ()) -> Iterator[None]:
    """Put the random states of Python, numpy and torch back afterwards, those of these CUDA devices too."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
