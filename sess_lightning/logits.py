"""Logits out of whatever a model returns, the score of a class, and which class to explain.

A model with one logit is read as a binary classifier: class 1 is explained by the logit, class 0 by its negative.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

Activation = Literal["softmax", "sigmoid"]
ACTIVATIONS: tuple[Activation, ...] = get_args(Activation)

_WAY_OUT = (
    "Give the model a forward that returns class logits (N, K), or pass `logits_fn` "
    "(a function from the model's output to logits) to SESSCallback."
)


def read_logits(output: Any, count: int | None = None) -> Tensor:
    """Class logits `(N, K)` from the output of a model.

    Understood are a tensor `(N, K)`, `(N,)` (one logit) or `(N, K, 1, 1)` (a fully convolutional head), and an object
    or mapping that holds such a tensor as `logits`. A `squeeze()` in the model that also drops a batch of one leaves
    `(K,)`, or a scalar: for one image both are its one row.

    Args:
        output: of the model.
        count: images that the model was given, which is how many rows there must be; `None` checks nothing.

    Raises:
        TypeError: if the output holds no logits.
        ValueError: if the logits have another shape, or not a row for each image.

    Example:
        >>> read_logits({"logits": torch.zeros(2, 5)}).shape
        torch.Size([2, 5])
    """
    logits = output
    if isinstance(output, dict) and "logits" in output:
        logits = output["logits"]
    elif not isinstance(output, Tensor) and hasattr(output, "logits"):
        logits = output.logits
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"Expected the model to return logits as a tensor (N, K), but got {_describe(output)}. {_WAY_OUT}"
        )
    if logits.ndim == 4 and logits.shape[2:] == (1, 1):
        logits = logits.flatten(1)
    if logits.ndim < 2 and count == 1:
        logits = logits.reshape(1, -1)
    if logits.ndim == 1:
        logits = logits[:, None]
    if logits.ndim != 2:
        hint = " For a map of logits, average it over a region first, e.g. logits_fn=lambda z: z.mean((2, 3))."
        raise ValueError(
            f"Expected the model's logits to have shape (N, K), but got {tuple(logits.shape)}."
            + (hint if logits.ndim == 4 else "")
            + f" {_WAY_OUT}"
        )
    if count is not None and len(logits) != count:
        raise ValueError(
            f"Expected one row of logits for each of {count} images, but the model's output of shape "
            f"{tuple(logits.shape)} has {len(logits)}. Look in its forward for a squeeze(), mean() or view() that also "
            f"takes the batch: flatten(1) and squeeze(-1) leave it alone. {_WAY_OUT}"
        )
    return logits


def class_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """The logit `(N,)` of each sample's class: what gradient methods differentiate.

    Args:
        logits: `(N, K)`.
        targets: `(N,)`, long; 0 or 1 where `K` is 1.
    """
    if logits.shape[1] == 1:
        return logits[:, 0] * (2 * targets - 1).to(logits.dtype)
    return logits.gather(1, targets[:, None])[:, 0]


def class_scores(logits: Tensor, targets: Tensor, activation: str | None = "softmax") -> Tensor:
    """The probability `(N,)` of each sample's class, `S^c` in the paper.

    Args:
        logits: `(N, K)`; computed on in float32, float64 stays float64.
        targets: `(N,)`, long.
        activation: `"softmax"` over the classes, `"sigmoid"` for multi-label heads, or `None` where `logits` are
            probabilities already. One logit (`K` = 1) always means a sigmoid, as a softmax over one class is 1.

    Example:
        >>> class_scores(torch.tensor([[0.0, 0.0]]), torch.tensor([1]))
        tensor([0.5000])
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if wide.shape[1] == 1:
        if activation is None:
            return torch.where(targets == 1, wide[:, 0], 1 - wide[:, 0])
        return class_logits(wide, targets).sigmoid()
    if activation == "softmax":
        wide = wide.softmax(1)
    elif activation == "sigmoid":
        wide = wide.sigmoid()
    return class_logits(wide, targets)


def log_scores(logits: Tensor, targets: Tensor, activation: str | None = "softmax") -> Tensor:
    """The logarithm `(N,)` of `class_scores`, which is finite where the probability itself rounds to 0.

    Args:
        logits: `(N, K)`, as for `class_scores`.
        targets: `(N,)`, long.
        activation: as for `class_scores`.

    Example:
        >>> log_scores(torch.tensor([[0.0, 200.0]]), torch.tensor([0]))
        tensor([-200.])
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if activation is None:
        return class_scores(wide, targets, activation).log()
    if wide.shape[1] == 1:
        return logsigmoid(class_logits(wide, targets))
    return class_logits(wide.log_softmax(1) if activation == "softmax" else logsigmoid(wide), targets)


def predicted_classes(logits: Tensor) -> Tensor:
    """The predicted class `(N,)`: the largest logit, or the sign of the only one."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def check_targets(targets: Any, count: int, num_classes: int | None = None) -> Tensor:
    """Return `targets` as a long tensor `(count,)`, or say what is wrong with them.

    Args:
        targets: one class index per sample.
        count: number of samples.
        num_classes: classes of the model, if they are known already; 1 means a binary model with one logit.

    Raises:
        TypeError: if `targets` is not an integer tensor.
        ValueError: if there are too many or too few, or one is out of range.
    """
    if (
        not isinstance(targets, Tensor)
        or targets.is_floating_point()
        or targets.is_complex()
        or targets.dtype == torch.bool
    ):
        raise TypeError(
            f"Expected argument `targets` to be an integer tensor of shape ({count},), but got {_describe(targets)}. "
            "Pass one class index per image, e.g. torch.tensor([3, 7])."
        )
    if targets.shape != (count,):
        raise ValueError(
            f"Expected argument `targets` to hold one class index per image, shape ({count},), "
            f"but got shape {tuple(targets.shape)}."
        )
    if num_classes is not None and count:
        upper = max(num_classes, 2)
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= upper:
            wrong = low if low < 0 else high
            raise ValueError(
                f"Expected every value of argument `targets` to be in 0..{upper - 1}, as the model gives {num_classes} "
                f"logit{'s' if num_classes > 1 else ''}, but got {wrong}. "
                "Check that the labels count from 0 and belong to this model."
            )
    return targets.long()


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of dtype {value.dtype} and shape {tuple(value.shape)}"
    if isinstance(value, dict):
        return f"a dict with keys {sorted(map(str, value))}"
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)} ({', '.join(type(item).__name__ for item in value[:4])})"
    return f"{type(value).__name__}"
