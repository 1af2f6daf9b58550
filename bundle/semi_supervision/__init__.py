"""Semi-supervised training: consistency terms, pseudo-labelers, regularizers, objectives, ramps and the step."""

from bundle.semi_supervision.collaborative import CollaborativePseudoLabeler
from bundle.semi_supervision.consistency import ConsistencyTerm
from bundle.semi_supervision.fusion import FusionPseudoLabeler
from bundle.semi_supervision.objective import AdaptiveObjective, WeightedSum
from bundle.semi_supervision.pseudo_labelers import (
    HeadPseudoLabeler,
    MaskPseudoLabeler,
    MeanPseudoLabeler,
    TeacherPseudoLabeler,
    to_target,
)
from bundle.semi_supervision.ramps import ConstantRamp, CosineRamp, LinearRamp, SigmoidRamp
from bundle.semi_supervision.regularizers import (
    BalanceRegularizer,
    CrossTaskRegularizer,
    EntropyRegularizer,
    Regularizer,
)
from bundle.semi_supervision.step import Step
from bundle.semi_supervision.uncertainty import UncertaintyPseudoLabeler

__all__ = [
    "AdaptiveObjective",
    "BalanceRegularizer",
    "CollaborativePseudoLabeler",
    "ConsistencyTerm",
    "ConstantRamp",
    "CosineRamp",
    "CrossTaskRegularizer",
    "EntropyRegularizer",
    "FusionPseudoLabeler",
    "HeadPseudoLabeler",
    "LinearRamp",
    "MaskPseudoLabeler",
    "MeanPseudoLabeler",
    "Regularizer",
    "SigmoidRamp",
    "Step",
    "TeacherPseudoLabeler",
    "UncertaintyPseudoLabeler",
    "WeightedSum",
    "to_target",
]
