"""Transforms: targets made from a label map, the working resolution, and views of a batch."""

from bundle.transforms.compact import EightBitd, PlainTensors, SmallestIntegerd
from bundle.transforms.scale import PixelSized
from bundle.transforms.targets import (
    Boundaryd,
    ForegroundClassd,
    SignedDistanced,
    boundary_band,
    foreground_class,
    signed_distance,
)

__all__ = [
    "Boundaryd",
    "EightBitd",
    "ForegroundClassd",
    "PixelSized",
    "PlainTensors",
    "SignedDistanced",
    "SmallestIntegerd",
    "boundary_band",
    "foreground_class",
    "signed_distance",
]
