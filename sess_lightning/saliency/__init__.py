"""Base methods that SESS enhances."""

from sess_lightning.saliency.adapters import from_captum, from_grad_cam, from_torchcam
from sess_lightning.saliency.augmented import AugmentedGradCAM
from sess_lightning.saliency.base import BaseMethod, Explanation, Method
from sess_lightning.saliency.cam import CAM, GradCAM, GradCAMPlusPlus
from sess_lightning.saliency.excitation import ExcitationBackprop
from sess_lightning.saliency.extremal import ExtremalPerturbation
from sess_lightning.saliency.gradient import GuidedBackprop, InputGradient
from sess_lightning.saliency.group_cam import GroupCAM
from sess_lightning.saliency.registry import method_names
from sess_lightning.saliency.rise import RISE
from sess_lightning.saliency.score_cam import ScoreCAM
from sess_lightning.saliency.smoothing import SmoothGrad, SmoothGradCAMPlusPlus
from sess_lightning.saliency.xrai import XRAI

__all__ = [
    "CAM",
    "RISE",
    "XRAI",
    "AugmentedGradCAM",
    "BaseMethod",
    "ExcitationBackprop",
    "Explanation",
    "ExtremalPerturbation",
    "GradCAM",
    "GradCAMPlusPlus",
    "GroupCAM",
    "GuidedBackprop",
    "InputGradient",
    "Method",
    "ScoreCAM",
    "SmoothGrad",
    "SmoothGradCAMPlusPlus",
    "from_captum",
    "from_grad_cam",
    "from_torchcam",
    "method_names",
]
