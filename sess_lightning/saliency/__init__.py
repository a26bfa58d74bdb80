"""Base methods that SESS enhances."""

from sess_lightning.saliency.cam import GradCAM
from sess_lightning.saliency.explanation import BaseMethod, Explanation, Method
from sess_lightning.saliency.gradient import GuidedBackprop, InputGradient
from sess_lightning.saliency.group_cam import GroupCAM
from sess_lightning.saliency.naming import method_names
from sess_lightning.saliency.rise import RISE

__all__ = [
    "RISE",
    "BaseMethod",
    "Explanation",
    "GradCAM",
    "GroupCAM",
    "GuidedBackprop",
    "InputGradient",
    "Method",
    "method_names",
]
