"""Methods of captum, torchcam and pytorch-grad-cam as base methods: batched, one target per image, no trace left."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sess_lightning.layers import Reshape
from sess_lightning.logits import read_logits
from sess_lightning.probing import restored
from sess_lightning.saliency.base import BaseMethod, Explanation, wide
from sess_lightning.saliency.gradient import grey
from sess_lightning.saliency.masking import forward_count
from sess_lightning.saliency.target_layer import TargetLayer, no_layer

Layer = str | nn.Module | None
_NO_GRADIENT = ("does not require grad", "not have been used in the graph")


def from_captum(
    attribution_class: Callable[..., Any],
    *,
    target_layer: Layer = None,
    reshape: Reshape | None = None,
    reduce: Callable[[Tensor], Tensor] | None = None,
    **kwargs: Any,
) -> BaseMethod:
    """An attribution method of captum as a base method.

    Attributions of pixels become grey as for `InputGradient`; attributions of a layer are summed over its channels and
    cut at 0. Where the method can bound its forwards (`internal_batch_size`), they are bounded as our own methods' are.

    Args:
        attribution_class: a class such as `captum.attr.IntegratedGradients`, or a function from the model to an object
            with `attribute`, such as `lambda model: NoiseTunnel(Saliency(model))`.
        target_layer: for classes that explain a layer: dotted name or module; `None` finds the last spatial map.
        reshape: from the layer's attributions to `(N, C, h, w)`; `None` recognises channels-last maps and tokens.
        reduce: from the attributions to maps `(N, h, w)`, instead of all that.
        **kwargs: arguments of the class and of its `attribute`.

    Raises:
        TypeError: if neither the class nor its `attribute` knows an argument.

    Example::

        from captum.attr import DeepLift, LayerGradCam
        SESS(from_captum(DeepLift), prefilter_ratio=0.9)
        SESS(from_captum(LayerGradCam, target_layer="layer3", relu_attributions=True))
    """
    return _Captum(attribution_class, target_layer, reshape, reduce, kwargs)


def from_torchcam(
    extractor_class: Callable[..., Any], *, target_layer: Layer = None, reshape: Reshape | None = None, **kwargs: Any
) -> BaseMethod:
    """An extractor of torchcam (package `torchcam`, Python 3.11 or newer) as a base method.

    Args:
        extractor_class: a class of `torchcam.methods`, such as `LayerCAM`.
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch, by our own rules.
        reshape: from the layer's output to `(N, C, h, w)`; `None` recognises channels-last maps and tokens.
        **kwargs: arguments of the class.

    Example::

        from torchcam.methods import LayerCAM
        SESS(from_torchcam(LayerCAM))
    """
    return _TorchCAM(extractor_class, target_layer, reshape, kwargs)


def from_grad_cam(
    cam_class: Callable[..., Any], *, target_layer: Layer = None, reshape: Reshape | None = None, **kwargs: Any
) -> BaseMethod:
    """A class of pytorch-grad-cam (package `grad-cam`) as a base method.

    Its maps are made with numpy on the host, min-maxed before they are resized, and come back to the model's device.

    Args:
        cam_class: a class of `pytorch_grad_cam`, such as `HiResCAM`.
        target_layer: dotted name or module; `None` finds the last spatial map on the first batch, by our own rules.
        reshape: from the layer's output to `(N, C, h, w)`; `None` recognises channels-last maps and tokens.
        **kwargs: arguments of the class and of calling it (`aug_smooth`, `eigen_smooth`).

    Example::

        from pytorch_grad_cam import HiResCAM
        SESS(from_grad_cam(HiResCAM, eigen_smooth=True))
    """
    return _GradCAMLibrary(cam_class, target_layer, reshape, kwargs)


def integrated_gradients() -> BaseMethod:
    """Integrated gradients (Sundararajan et al., ICML 2017) of captum: 50 Gauss-Legendre steps from zeros, times `x`.

    Zeros are the data set's mean colour. Grey conversion as for `InputGradient`.

    Raises:
        ImportError: if captum is not installed, with the pip command.
    """
    return from_captum(required("captum.attr", "integrated_gradients").IntegratedGradients)


def required(module: str, method: str) -> Any:
    """A module of an optional package.

    Raises:
        ImportError: with the pip command, if it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"The method {method!r} needs the package {module.split('.')[0]!r}, which is not installed ({error}). "
            "Install it with the others: pip install 'sess-lightning[methods]'."
        ) from error


class _Adapter(BaseMethod):
    """What the adapters share: the model guarded, its output as logits, noise that is the same on every call."""

    def __init__(self, make: Callable[..., Any], target_layer: Layer, reshape: Reshape | None, kwargs: Any) -> None:
        if not callable(make):
            raise TypeError(f"Expected a class of the library, not an object of it, but got {make!r}.")
        self.make, self.kwargs = make, kwargs
        self.target_layer, self.reshape = target_layer, reshape
        self._layer = TargetLayer(target_layer, reshape)

    @property
    def resolved_layer(self) -> str:
        """Name of the layer that the last call read; empty before, and for methods that explain pixels."""
        return self._layer.name

    def on_layer(self, target_layer: Layer, reshape: Reshape | None) -> BaseMethod:
        """The same method on another layer; this one is left as it is. What is `None` stays as it was."""
        other = copy(self)
        other.target_layer = self.target_layer if target_layer is None else target_layer
        other.reshape = self.reshape if reshape is None else reshape
        other._layer = TargetLayer(other.target_layer, other.reshape)
        return other

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Explanation:
        """See `BaseMethod.explain`."""
        torch.manual_seed(0)  # the probe around us gives the user's random states back
        np.random.seed(0)
        with restored(model, frozen=True), torch.enable_grad():
            pixels = images.detach().clone().requires_grad_(True)
            try:
                maps = self.maps(model, pixels, targets)
            except RuntimeError as error:
                if not any(words in str(error) for words in _NO_GRADIENT):
                    raise
                raise RuntimeError(
                    f"{self!r} found no gradient: {error}\nPossible causes: the model detaches its input or an "
                    "activation, or runs a part in inference mode. RISE works with any model."
                ) from error
        return Explanation(wide(maps.detach()))

    def maps(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps `(N, h, w)` by the library."""
        raise NotImplementedError

    def layer(self, model: nn.Module, images: Tensor) -> nn.Module:
        """The layer to explain."""
        with torch.no_grad():
            return model.get_submodule(self._layer.resolve(model, images.detach()))

    def grid(self, model: nn.Module, images: Tensor) -> Reshape:
        """What turns the layer's output into `(N, C, h, w)`."""
        with torch.no_grad():
            return self._layer.grid(model, images.detach())

    def __repr__(self) -> str:
        name = getattr(self.make, "__name__", repr(self.make))
        options = "".join(f", {key}={value!r}" for key, value in self.kwargs.items())
        return f"{type(self).__name__.strip('_')}({name}, target_layer={self.target_layer!r}{options})"


class _Captum(_Adapter):
    def __init__(
        self,
        make: Callable[..., Any],
        target_layer: Layer,
        reshape: Reshape | None,
        reduce: Callable[[Tensor], Tensor] | None,
        kwargs: Any,
    ) -> None:
        super().__init__(make, target_layer, reshape, kwargs)
        self.reduce = reduce

    def on_layer(self, target_layer: Layer, reshape: Reshape | None) -> BaseMethod:
        if "layer" not in _parameters(self.make):
            raise no_layer(self)
        return super().on_layer(target_layer, reshape)

    def maps(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        of_class = _parameters(self.make)
        options = {"layer": self.layer(model, images)} if "layer" in of_class else {}
        method = self.make(_Logits(model), **options, **{k: v for k, v in self.kwargs.items() if k in of_class})
        known = _parameters(method.attribute)
        rest = {k: v for k, v in self.kwargs.items() if k not in of_class}
        unknown = [name for name in rest if name not in known and "kwargs" not in known]
        if unknown:
            raise TypeError(
                f"Expected arguments of {type(method).__name__} ({', '.join(of_class)}) or of its attribute "
                f"({', '.join(known)}), but got {', '.join(unknown)}."
            )
        if "internal_batch_size" in known:
            rest.setdefault("internal_batch_size", forward_count(None, images))
        attributions = method.attribute(images, target=targets, **rest)
        attributions = attributions[0] if isinstance(attributions, tuple) else attributions
        if self.reduce is not None:
            return self.reduce(attributions)
        if attributions.shape == images.shape:
            return grey(attributions)
        return self.grid(model, images)(attributions).sum(1).relu()


class _TorchCAM(_Adapter):
    def maps(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        logits_model = _Logits(model)
        options = {"target_layer": self.layer(model, images), "reshape_transform": self.grid(model, images)}
        with self.make(logits_model, **options, **self.kwargs) as extractor:
            scores = logits_model(images)
            return extractor(targets.tolist(), scores, normalized=False)[0]


class _GradCAMLibrary(_Adapter):
    def maps(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        target = required("pytorch_grad_cam.utils.model_targets", "from_grad_cam").ClassifierOutputTarget
        of_call = [name for name in self.kwargs if name in ("aug_smooth", "eigen_smooth")]
        options = {k: v for k, v in self.kwargs.items() if k not in of_call}
        layers = [self.layer(model, images)]
        cam = self.make(_Logits(model), layers, reshape_transform=self.grid(model, images), **options)
        try:
            maps = cam(images, [target(c) for c in targets.tolist()], **{k: self.kwargs[k] for k in of_call})
        finally:
            cam.activations_and_grads.release()
        return torch.from_numpy(maps).to(images.device)


class _Logits(nn.Module):
    """The model with logits `(N, K)`, `K` at least 2, as output: libraries pick a class by its column."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = False

    def forward(self, images: Tensor) -> Tensor:
        logits = read_logits(self.model(images.clone()), len(images))  # a copy, as it may work in place
        return torch.cat([-logits, logits], 1) if logits.shape[1] == 1 else logits


def _parameters(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]
