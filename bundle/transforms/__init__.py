"""Transforms: targets from label maps, pixel spacing, compact data types, sparse labels, and views of a batch."""

from bundle.transforms.blur import GaussianBlur
from bundle.transforms.classes import ClassFromGraded, ClassIndexd, SpecialistTargetsd, class_index
from bundle.transforms.color_jitter import ColorJitter
from bundle.transforms.color_view import ColorChange, ColorView
from bundle.transforms.cutmix import CutMix
from bundle.transforms.dtypes import EightBitd, PlainTensors, SmallestIntegerd
from bundle.transforms.noise import GaussianNoiseView
from bundle.transforms.pixel_spacing import PixelSized
from bundle.transforms.sparse import KeepInstancesd
from bundle.transforms.stain import StainJitter
from bundle.transforms.targets import (
    Boundaryd,
    ForegroundClassd,
    SignedDistanced,
    boundary_band,
    foreground_class,
    signed_distance,
)
from bundle.transforms.views import ViewChain, ViewsTogether

__all__ = [
    "Boundaryd",
    "ClassFromGraded",
    "ClassIndexd",
    "ColorChange",
    "ColorJitter",
    "ColorView",
    "CutMix",
    "EightBitd",
    "ForegroundClassd",
    "GaussianBlur",
    "GaussianNoiseView",
    "KeepInstancesd",
    "PixelSized",
    "PlainTensors",
    "SignedDistanced",
    "SmallestIntegerd",
    "SpecialistTargetsd",
    "StainJitter",
    "ViewChain",
    "ViewsTogether",
    "boundary_band",
    "class_index",
    "foreground_class",
    "signed_distance",
]
