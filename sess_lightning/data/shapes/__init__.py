"""Scenes of drawn shapes with boxes: data that needs no download."""

from sess_lightning.data.shapes.data_module import ShapeScenes

__all__ = ["ShapeScenes"]
