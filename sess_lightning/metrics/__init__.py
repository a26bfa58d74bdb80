"""Metrics of saliency maps: functions, and `torchmetrics.Metric` classes built on them.

None holds the model or needs a Trainer: `update` takes the maps of `SESS` or of any other method.
"""

from sess_lightning.metrics.attention_iou import AttentionIoU, attention_iou
from sess_lightning.metrics.controls import blurred, centre_map, chance_of_hit, hit_area, noise_map
from sess_lightning.metrics.drift import SaliencyDrift, saliency_drift
from sess_lightning.metrics.energy import EnergyPointingGame, pointing_energy
from sess_lightning.metrics.imputation import NoisyLinearImputation
from sess_lightning.metrics.insertion_deletion import DeletionAUC, InsertionAUC
from sess_lightning.metrics.max_box import MaxBoxAccuracy, best_box_ious
from sess_lightning.metrics.objects import boxes_to_mask
from sess_lightning.metrics.perturbation import area_under_curve, perturbation_curve
from sess_lightning.metrics.perturbation_metric import shared_curves
from sess_lightning.metrics.pixel_precision import PixelAveragePrecision, pixel_average_precision
from sess_lightning.metrics.pointing_game import PointingGame, pointing_hits
from sess_lightning.metrics.randomisation import (
    RandomisationCheck,
    entropy_rise,
    map_entropy,
    randomisation_check,
    randomised,
    rank_correlation,
)
from sess_lightning.metrics.rank_accuracy import RelevanceRankAccuracy, relevance_rank_accuracy
from sess_lightning.metrics.relevance_gain import SymmetricRelevanceGain
from sess_lightning.metrics.reliance import BackgroundReliance, ObjectReliance, without_background, without_objects

__all__ = [
    "AttentionIoU",
    "BackgroundReliance",
    "DeletionAUC",
    "EnergyPointingGame",
    "InsertionAUC",
    "MaxBoxAccuracy",
    "NoisyLinearImputation",
    "ObjectReliance",
    "PixelAveragePrecision",
    "PointingGame",
    "RandomisationCheck",
    "RelevanceRankAccuracy",
    "SaliencyDrift",
    "SymmetricRelevanceGain",
    "area_under_curve",
    "attention_iou",
    "best_box_ious",
    "blurred",
    "boxes_to_mask",
    "centre_map",
    "chance_of_hit",
    "entropy_rise",
    "hit_area",
    "map_entropy",
    "noise_map",
    "perturbation_curve",
    "pixel_average_precision",
    "pointing_energy",
    "pointing_hits",
    "randomisation_check",
    "randomised",
    "rank_correlation",
    "relevance_rank_accuracy",
    "saliency_drift",
    "shared_curves",
    "without_background",
    "without_objects",
]
