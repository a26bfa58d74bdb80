"""Batches that a user's model accepts, and logits with a row for each image: the way in and out of every forward.

What is found out about a model is found once, by plain forwards of one image and its mirror image before the work, and
remembered as long as the model lives, never on the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sess_lightning.logits import read_logits
from sess_lightning.memory import is_out_of_memory
from sess_lightning.probing import probe

_formats: WeakKeyDictionary[nn.Module, dict[torch.Size, torch.memory_format]] = WeakKeyDictionary()
_needs_two: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # those that fail for a batch of one

Result = TypeVar("Result")

# Logits of two layouts differ by rounding, far less than those of two images; a model that misreads a layout mixes up
# pixels. Shares of the difference between the two images, and of the largest logit.
_OF_DIFFERENCE, _OF_LOGITS = 0.1, 1e-4

_CALLED_WRONGLY = (TypeError, NotImplementedError, KeyError, IndexError, AttributeError)
_FORWARD_FN = (
    "If it needs more than images, keywords or a dict, or has no forward, say how it is called:\n\n"
    "    def forward_fn(module, images, batch):  # `batch`: yours, a row for each image\n"
    "        return module(images, batch['metadata'])\n\n"
    "    SESSCallback(forward_fn=forward_fn)\n\n"
    "(For SESS itself: wrap it in a module whose forward takes images alone.)"
)


def memory_format(model: nn.Module, images: Tensor) -> torch.memory_format:
    """The layout that a model is given images in: channels_last, in which convolutions run faster, if it accepts that.

    A forward that takes its input for contiguous fails in channels_last (`x.view(len(x), -1)`) or reads the wrong
    pixels (`as_strided`). Such a model gets contiguous batches from then on, also of other sizes.

    Args:
        model: any classifier; left as it is.
        images: `(N, C, H, W)`, of which the first is tried.

    Raises:
        TypeError: if the model cannot be called with a batch of images alone; shows `forward_fn`.
        Exception: the model's own, if it fails in both layouts.
    """
    known = _formats.setdefault(model, {})
    shape = images.shape[1:]
    if shape not in known:
        refused = torch.contiguous_format in known.values()
        known[shape] = torch.contiguous_format if refused else _tried(model, images, first=not known)
    return known[shape]


def laid_out(model: nn.Module, images: Tensor) -> Tensor:
    """The images in the layout that the model accepts: see `memory_format`; the same tensor if it has that layout."""
    return images.contiguous(memory_format=memory_format(model, images))


def empty_batch(count: int, like: Tensor, layout: torch.memory_format = torch.channels_last) -> Tensor:
    """An uninitialised batch `(count, C, H, W)`.

    Args:
        count: images in the batch.
        like: an image `(C, H, W)` with the shape, dtype and device wanted.
        layout: in memory.
    """
    return torch.empty((count, *like.shape), dtype=like.dtype, device=like.device, memory_format=layout)


def model_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits `(N, K)` of a forward pass in the layout that the model accepts; one image is doubled where it must be.

    Args:
        model: under a probe, without hooks that expect a row for each image.
        images: `(N, C, H, W)`. A model may write to its input: give a copy of what is needed later.

    Raises:
        TypeError, ValueError: if the output is no logits, or has not a row for each image.
    """
    return in_company(model, images, lambda given: read_logits(model(laid_out(model, given)), len(given)))[
        : len(images)
    ]


def in_company(model: nn.Module, images: Tensor, run: Callable[[Tensor], Result]) -> Result:
    """What `run` gives for the images, or for one image twice, where the model fails for a batch of one.

    A `squeeze()` in a forward drops a batch of one, and the next layer may fail. That is found out when it happens.

    Args:
        model: any classifier.
        images: `(N, C, H, W)`.
        run: works on one image, or on the same image twice, and gives a row for each.
    """
    if len(images) != 1:
        return run(images)
    if not _needs_two.get(model, False):
        try:
            return run(images.clone())  # a copy, as they may be needed again
        except Exception as error:
            if is_out_of_memory(error):
                raise
            layout = memory_format(model, images)
            if _runs(model, images, layout) or not _runs(model, twice(images), layout):
                raise
            _needs_two[model] = True
    return run(twice(images))


def twice(images: Tensor) -> Tensor:
    """The images followed by themselves."""
    return torch.cat([images, images])


def _runs(model: nn.Module, images: Tensor, layout: torch.memory_format) -> bool:
    """Whether the model's own output has a row for each image."""
    try:
        return len(read_logits(_output(model, images, layout))) == len(images)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return False


def _tried(model: nn.Module, images: Tensor, first: bool) -> torch.memory_format:
    """Which layout a model accepts for images of this size; with `first` also whether its logits are such."""
    with torch.inference_mode(False), torch.no_grad():
        pair = torch.cat([images[:1], images[:1].flip(-1)])
    try:
        turned = _logits(model, pair, torch.channels_last)
    except (RuntimeError, ValueError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        turned = None  # the contiguous forward shows whether the layout is to blame
    if turned is not None and not first:
        return torch.channels_last
    with _LastProbabilities() as last:
        plain = _logits(model, pair, torch.contiguous_format)
    if first:
        _warn_of(model, plain, last.kind(plain))
    return torch.contiguous_format if turned is None or _differ(plain, turned) else torch.channels_last


def _logits(model: nn.Module, images: Tensor, layout: torch.memory_format) -> Tensor:
    return read_logits(_output(model, images, layout), len(images)).detach()


def _output(model: nn.Module, images: Tensor, layout: torch.memory_format) -> Any:
    """What the model gives for a copy of the images; it leaves no trace."""
    with probe(model):
        copied = images.detach().clone(memory_format=layout)
        try:
            return model(copied)
        except _CALLED_WRONGLY as error:
            raise TypeError(
                f"Could not call the {type(model).__name__} with a batch of images alone, `model(images)`: "
                f"{type(error).__name__}: {error}\n{_FORWARD_FN}"
            ) from error


def _differ(plain: Tensor, turned: Tensor) -> bool:
    """Whether the logits of two layouts differ by more than rounding; NaN in both is no difference."""
    if plain.shape != turned.shape:
        return True
    low_precision = plain.dtype in (torch.float16, torch.bfloat16) or plain.device.type != "cpu"
    plain, turned = plain.double().cpu(), turned.double().cpu()
    between = (plain[0] - plain[1]).abs().max()
    rounding = plain.abs().max() * _OF_LOGITS * (500 if low_precision else 1)
    return bool((plain - turned).abs().max() > _OF_DIFFERENCE * between + rounding)


class _LastProbabilities(TorchFunctionMode):
    """Remembers what the last softmax and the last sigmoid gave."""

    _KINDS = dict.fromkeys((F.softmax, torch.softmax, Tensor.softmax), "softmax") | dict.fromkeys(
        (torch.sigmoid, Tensor.sigmoid, F.sigmoid, torch.special.expit), "sigmoid"
    )

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[str, Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in self._KINDS:
            self._last[self._KINDS[func]] = output
        return output

    def kind(self, logits: Tensor) -> str | None:
        """Which of the two the logits are, if any."""
        found = [kind for kind, output in self._last.items() if output.data_ptr() == logits.data_ptr()]
        return found[0] if found and logits.numel() else None


def _warn_of(model: nn.Module, logits: Tensor, ending: str | None) -> None:
    """Say once what is no logits: probabilities, which would go through a softmax again, or embeddings."""
    name, classes = type(model).__name__, logits.shape[1]
    rounding = 1e-2 if logits.dtype in (torch.float16, torch.bfloat16) else 1e-4  # logits that meet it by chance: none
    logits = logits.float()
    sums_to_one = classes > 1 and bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < rounding).all())
    if ending == "softmax" or sums_to_one:
        warnings.warn(
            f"The output of {name} is probabilities (they sum to 1), but class logits are expected: a second softmax "
            "makes all classes nearly alike. Return the logits, or pass SESSCallback(logits_fn=torch.log).",
            stacklevel=2,
        )
    elif ending == "sigmoid":
        warnings.warn(
            f"The output of {name} is probabilities (of a sigmoid), but class logits are expected: they would go "
            "through a second one. Return the logits, or pass SESSCallback(logits_fn=torch.logit); where an image may "
            'have several classes, also SESS(activation="sigmoid").',
            stacklevel=2,
        )
    elif classes >= 8 and bool(((logits.norm(dim=1) - 1).abs() < rounding).all()):
        warnings.warn(
            f"Each row of the output of {name} has length 1, as an embedding has, but class logits are expected: "
            f"its {classes} values are read as classes. Pass SESSCallback(logits_fn=...), a function from the output "
            "to class logits (similarities to the classes' prototypes, say).",
            stacklevel=2,
        )
