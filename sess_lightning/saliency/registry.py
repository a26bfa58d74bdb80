"""Base methods by name, by dotted path, or as they are."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

from sess_lightning.saliency.adapters import integrated_gradients
from sess_lightning.saliency.augmented import AugmentedGradCAM
from sess_lightning.saliency.base import Method
from sess_lightning.saliency.cam import CAM, GradCAM, GradCAMPlusPlus
from sess_lightning.saliency.excitation import ExcitationBackprop
from sess_lightning.saliency.extremal import ExtremalPerturbation
from sess_lightning.saliency.gradient import GuidedBackprop, InputGradient
from sess_lightning.saliency.group_cam import GroupCAM
from sess_lightning.saliency.rise import RISE
from sess_lightning.saliency.score_cam import ScoreCAM
from sess_lightning.saliency.smoothing import SmoothGrad, SmoothGradCAMPlusPlus
from sess_lightning.saliency.xrai import XRAI


def resolve_method(method: Callable[..., Any] | str, activation: str = "softmax") -> Method:
    """A base method from its name, from a dotted path to a callable, or from the callable itself.

    Args:
        method: a name of `method_names()`, a dotted path, or a callable.
        activation: how a method made by name turns logits into probabilities, if it does.

    Raises:
        ValueError: if a name is neither known nor importable.
        TypeError: if `method` is neither a string nor callable, or a class where an instance is wanted.

    Example:
        >>> resolve_method("gradcam")
        GradCAM(target_layer=None, reshape=None)
    """
    if isinstance(method, str):
        method = _NAMED[method](activation) if method in _NAMED else _imported(method)
    if isinstance(method, type) or not callable(method):
        what = (
            f"the class {method.__name__}: pass an instance, {method.__name__}(...)"
            if isinstance(method, type)
            else repr(method)
        )
        raise TypeError(
            "Expected argument `method` to be a name, a method object such as GradCAM(), or a callable "
            f"(model, images, targets) -> maps, but got {what}."
        )
    return cast(Method, method)


_NAMED: dict[str, Callable[[str], Method]] = {
    "augmented_gradcam": lambda activation: AugmentedGradCAM(),
    "cam": lambda activation: CAM(),
    "contrastive_excitation_bp": lambda activation: ExcitationBackprop(contrastive=True),
    "excitation_bp": lambda activation: ExcitationBackprop(),
    "extremal_perturbation": lambda activation: ExtremalPerturbation(),
    "gradcam": lambda activation: GradCAM(),
    "gradcam++": lambda activation: GradCAMPlusPlus(),
    "gradient": lambda activation: InputGradient(),
    "groupcam": lambda activation: GroupCAM(activation=activation),
    "guidedbp": lambda activation: GuidedBackprop(),
    "integrated_gradients": lambda activation: integrated_gradients(),
    "rise": lambda activation: RISE(activation=activation),
    "scorecam": lambda activation: ScoreCAM(activation=activation),
    "smooth_gradcam++": lambda activation: SmoothGradCAMPlusPlus(),
    "smoothgrad": lambda activation: SmoothGrad(),
    "xrai": lambda activation: XRAI(),
}


def method_names() -> list[str]:
    """The names that `SESS(method=...)`, YAML and the console command accept."""
    return sorted(_NAMED)


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except Exception as error:  # the module itself runs, and may raise anything
        raise ValueError(
            f"Expected argument `method` to be one of {method_names()} or the dotted path of a callable, "
            f"but got {path!r}: {error}"
        ) from error
