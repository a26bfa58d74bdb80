"""Base methods that SESS enhances."""

from sess_lightning.saliency.cam import GradCAM
from sess_lightning.saliency.explanation import Explanation, Method

__all__ = ["Explanation", "GradCAM", "Method"]
