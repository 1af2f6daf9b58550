"""Transforms: targets from label maps, pixel spacing, compact data types, sparse labels, and views of a batch."""

from bundle.transforms.blur import GaussianBlur
from bundle.transforms.classes import ClassFromGraded, ClassIndexd, SpecialistTargetsd, class_index
from bundle.transforms.color_jitter import ColorJitter
from bundle.transforms.color_view import ColorChange, ColorView
from bundle.transforms.cutmix import CutMix
from bundle.transforms.dtypes import SmallestIntegerd, ToPlainTensors, ToUint8d
from bundle.transforms.noise import GaussianNoiseView
from bundle.transforms.pixel_spacing import SetPixelSized
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
from bundle.transforms.unlabeled import allow_missing_keys
from bundle.transforms.views import ConcatenateViews, ViewChain

__all__ = [
    "Boundaryd",
    "ClassFromGraded",
    "ClassIndexd",
    "ColorChange",
    "ColorJitter",
    "ColorView",
    "ConcatenateViews",
    "CutMix",
    "ForegroundClassd",
    "GaussianBlur",
    "GaussianNoiseView",
    "KeepInstancesd",
    "SetPixelSized",
    "SignedDistanced",
    "SmallestIntegerd",
    "SpecialistTargetsd",
    "StainJitter",
    "ToPlainTensors",
    "ToUint8d",
    "ViewChain",
    "allow_missing_keys",
    "boundary_band",
    "class_index",
    "foreground_class",
    "signed_distance",
]
