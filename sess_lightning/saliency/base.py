"""What a base method is, and what it gives: a callable `(model, images, targets)` to maps or an `Explanation`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sess_lightning.forwarding import in_company, model_logits
from sess_lightning.logits import check_targets, read_logits
from sess_lightning.probing import on_this_thread, probe, restored
from sess_lightning.saliency.unfit_models import refuse_unfit


@dataclass
class Explanation:
    """Maps of a batch, and the logits if the method computed them on the way.

    Attributes:
        maps: `(N, h, w)` float32 (float64 for float64 models), any range and resolution: SESS brings them to the window
            and normalises them.
        logits: `(N, K)` of the same forward pass, or `None`.
    """

    maps: Tensor
    logits: Tensor | None = None


class Method(Protocol):
    """A base method. A `single_pass` attribute that is true says that logits come with the maps at no further cost."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation | Tensor:
        """Explain one class for each image.

        Args:
            model: in eval mode; must be left as it is.
            images: `(N, C, H, W)`.
            targets: `(N,)`, long.
        """


class BaseMethod(ABC):
    """What the methods of this package share: a probe around them and checked targets."""

    single_pass: bool = False
    """Whether logits and maps come out of one forward pass, so that scoring the patches first would save nothing."""

    needs_layer: bool = False
    """Whether the output of a layer is read, which scripted networks do not show."""

    needs_gradient: bool = True
    """Whether a gradient is needed, which int8-quantised networks do not have."""

    def __call__(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """Explain one class for each image.

        Args:
            model: any classifier; left as it is, also after an exception.
            images: `(N, C, H, W)`, on the model's device.
            targets: `(N,)`, long; other integer types are converted.

        Returns:
            Maps `(N, h, w)` of the method's own resolution, and the logits `(N, K)` or `None`.

        Raises:
            TypeError, ValueError: if the targets are unfit, or the model is of a kind that the method cannot explain.
            RuntimeError: if no gradient flows where the method needs one; says what may be the cause.
        """
        refuse_unfit(model, type(self).__name__.strip("_"), self.needs_layer, self.needs_gradient)
        with probe(model):
            checked = check_targets(targets, len(images)).to(images.device, copy=True)
            # A copy, as the model may write to its input; outside inference mode, or no graph could be built on it.
            inputs = images.detach().clone()
            with _range_checked(model, inputs, checked):
                return _in_company(model, inputs, checked, partial(self.explain, model))

    @abstractmethod
    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """As calling it, for a caller that holds a probe already and has checked the targets.

        SESS calls this for every batch but the first: no host-device synchronisation, no flags saved and set back. The
        images are the method's own, in a layout that the model accepts; a forward of them may write to them, so a
        method that needs them afterwards gives the model a copy.
        """


def explain(method: Method, model: nn.Module, images: Tensor, targets: Tensor, checked: bool = False) -> Explanation:
    """Call a base method inside a probe and check what it returns; never NaN or infinity in the maps' place.

    Gradients are on while a foreign method runs, as code written outside of a validation loop expects, and the model
    gets copies of what it passes in, as a forward may write to its input.

    Args:
        method: any base method.
        model: the model under a probe.
        images: `(N, C, H, W)`.
        targets: `(N,)`, long.
        checked: whether the targets are known to be classes of this model.

    Raises:
        TypeError: if the method returns neither maps nor an `Explanation`.
        ValueError: if the maps' shape is not `(N, h, w)` or `(N, 1, h, w)`.
    """
    if checked and isinstance(method, BaseMethod):
        return _in_company(model, images, targets, partial(method.explain, model))
    return _in_company(model, images, targets, partial(_called, method, model))


def _called(method: Method, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
    """What a method gives that is called from outside, checked."""
    with nullcontext() if isinstance(method, BaseMethod) else _foreign(model), torch.enable_grad():
        result = method(model, images, targets)
    explanation = result if isinstance(result, Explanation) else Explanation(result)
    maps = explanation.maps
    if not isinstance(maps, Tensor):
        raise TypeError(
            f"Expected the base method {method!r} to return a tensor of maps (N, h, w) or an Explanation, "
            f"but got {type(maps).__name__}."
        )
    maps = maps.detach()
    if maps.ndim == 4 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 3 or len(maps) != len(images):
        raise ValueError(
            f"Expected the base method {method!r} to return one map per image, shape ({len(images)}, h, w), but got "
            f"{tuple(maps.shape)}. Reduce the channels first, e.g. maps.abs().sum(1)."
        )
    logits = None if explanation.logits is None else explanation.logits.detach()
    return Explanation(wide(maps), logits)


@contextmanager
def _foreign(model: nn.Module) -> Iterator[None]:
    """Around methods of others: hooks and flags that they leave are undone, the model works on copies of its input."""

    def copied(module: nn.Module, args: Any) -> tuple[Any, ...]:
        return tuple(one.clone() if isinstance(one, Tensor) else one for one in args)

    with restored(model):
        handle = model.register_forward_pre_hook(on_this_thread(copied))
        try:
            yield
        finally:
            handle.remove()


def _in_company(
    model: nn.Module, images: Tensor, targets: Tensor, work: Callable[[Tensor, Tensor], Explanation]
) -> Explanation:
    """The explanation of the images; of one image as the first of two, where the model fails for a batch of one."""
    found = in_company(
        model, images, lambda given: work(given, targets.expand(len(given)) if len(targets) == 1 else targets)
    )
    if len(found.maps) == len(images):
        return found
    return Explanation(found.maps[: len(images)], None if found.logits is None else found.logits[: len(images)])


def wide(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is in float64: maps are computed in no less."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


@contextmanager
def _range_checked(model: nn.Module, images: Tensor, targets: Tensor) -> Iterator[None]:
    """Say which target is no class of the model once its first output is there: a GPU would fail without words.

    A scripted model takes no hook: it is asked before, with one image.
    """
    if isinstance(model, torch.jit.ScriptModule):
        check_targets(targets, len(targets), model_logits(model, images[:1].clone()).shape[1])
        yield
        return

    def check(module: nn.Module, args: Any, output: Any) -> None:
        handle.remove()
        count = len(args[0]) if args and isinstance(args[0], Tensor) else None
        check_targets(targets, len(targets), read_logits(output, count).shape[1])

    handle = model.register_forward_hook(on_this_thread(check))
    try:
        yield
    finally:
        handle.remove()
