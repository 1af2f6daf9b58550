"""Metrics that MONAI lacks."""

from bundle.metrics.pooled import PooledOverlap, PooledOverlapMetric

__all__ = ["PooledOverlap", "PooledOverlapMetric"]
