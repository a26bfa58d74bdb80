"""Networks that a method cannot read, told before the work: quantised to int8, or compiled by TorchScript."""

from __future__ import annotations

import torch
from torch import nn


def refuse_unfit(model: nn.Module, method: str, needs_layer: bool, needs_gradient: bool) -> None:
    """Refuse a network that a method cannot explain, and say which methods can.

    Args:
        model: any classifier.
        method: name of the method, for the message.
        needs_layer: whether the method reads the output of a layer.
        needs_gradient: whether it needs a gradient of the class logit.

    Raises:
        ValueError: if the network is of a kind that the method cannot explain.
    """
    kinds = [_quantised(module) for module in model.modules()]
    if (needs_gradient and any(kinds)) or (needs_layer and "static" in kinds):
        raise ValueError(
            f"{type(model).__name__} is quantised to int8, so no gradient flows through its layers, but {method} reads "
            "them. Take SESS('rise'), which only looks at the outputs, or explain the float network that this one was "
            "made from."
        )
    if needs_layer and _is_scripted(model):
        raise ValueError(
            f"{type(model).__name__} is compiled by TorchScript (torch.jit), which hides its layers, but {method} "
            "reads one. Take SESS('rise'), SESS('gradient') or SESS('smoothgrad'), or explain the module that this one "
            "was made from."
        )


def _quantised(module: nn.Module) -> str | None:
    """How a layer is quantised: with `"static"` it also gives quantised tensors."""
    place = type(module).__module__
    if ".quantized" not in place or type(module).__name__ == "LinearPackedParams":
        return None
    return "dynamic" if ".dynamic" in place else "static"


def _is_scripted(model: nn.Module) -> bool:
    """Whether all parameters lie in scripted or traced modules."""
    scripted = [isinstance(module, torch.jit.ScriptModule) for module in model.modules()]
    outside = (m for m, hidden in zip(model.modules(), scripted, strict=True) if not hidden)
    return any(scripted) and all(next(m.parameters(recurse=False), None) is None for m in outside)
