"""Metrics that MONAI lacks, each with a handler for configs."""

from bundle.metrics.calibration import Calibration, CalibrationMetric
from bundle.metrics.inputs import known_from_engine
from bundle.metrics.mean import MeanOverlap
from bundle.metrics.objects import ObjectScores, ObjectScoresMetric
from bundle.metrics.pooled import PooledOverlap, PooledOverlapMetric
from bundle.metrics.sweep import SweptOverlap, SweptOverlapMetric

__all__ = [
    "Calibration",
    "CalibrationMetric",
    "MeanOverlap",
    "ObjectScores",
    "ObjectScoresMetric",
    "PooledOverlap",
    "PooledOverlapMetric",
    "SweptOverlap",
    "SweptOverlapMetric",
    "known_from_engine",
]
