"""Losses that MONAI lacks."""

from bundle.losses.signed_distance import SignedDistanceLoss

__all__ = ["SignedDistanceLoss"]
