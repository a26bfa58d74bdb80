"""Synthetic scenes of shapes with boxes; nothing is downloaded."""

from sess_lightning.data.shapes.data_module import ShapeScenes

__all__ = ["ShapeScenes"]
