"""Losses with pixel weights, ignored pixels and soft targets, which MONAI lacks."""

from bundle.losses.cross_entropy import CrossEntropy
from bundle.losses.cross_entropy_dice import CrossEntropyDice
from bundle.losses.dice import Dice
from bundle.losses.pixel_contrast import PixelContrast
from bundle.losses.signed_distance import SignedDistanceLoss
from bundle.losses.squared_error import SoftmaxSquaredError
from bundle.losses.topology import TopologicalConsistency
from bundle.losses.uncertainty_rectified import RectifiedSquaredError

__all__ = [
    "CrossEntropy",
    "CrossEntropyDice",
    "Dice",
    "PixelContrast",
    "RectifiedSquaredError",
    "SignedDistanceLoss",
    "SoftmaxSquaredError",
    "TopologicalConsistency",
]
