"""Who teaches whom: lessons, labelers, regularizers, objectives, ramps, and the step that runs them."""

from bundle.teaching.collaborative import CollaborativeLabeler
from bundle.teaching.fusing import FusingLabeler
from bundle.teaching.labelers import HeadLabeler, TeacherLabeler, written
from bundle.teaching.lesson import Lesson
from bundle.teaching.mask_labeler import MaskLabeler
from bundle.teaching.mean_labeler import MeanLabeler
from bundle.teaching.objective import AdaptiveObjective, WeightedSum
from bundle.teaching.ramps import ConstantRamp, CosineRamp, LinearRamp, SigmoidRamp
from bundle.teaching.regularizers import BalanceRegularizer, EntropyRegularizer, Regularizer
from bundle.teaching.step import Step
from bundle.teaching.uncertainty import UncertaintyLabeler

__all__ = [
    "AdaptiveObjective",
    "BalanceRegularizer",
    "CollaborativeLabeler",
    "ConstantRamp",
    "CosineRamp",
    "EntropyRegularizer",
    "FusingLabeler",
    "HeadLabeler",
    "Lesson",
    "LinearRamp",
    "MaskLabeler",
    "MeanLabeler",
    "Regularizer",
    "SigmoidRamp",
    "Step",
    "TeacherLabeler",
    "UncertaintyLabeler",
    "WeightedSum",
    "written",
]
