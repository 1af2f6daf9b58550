"""From predictions to instances: connected components, watershed, and the files that inference writes."""

from bundle.inference.components import component_instances
from bundle.inference.disagreement import consensus_entropy, disagreement
from bundle.inference.diversity import EncoderFeatures, next_diverse
from bundle.inference.multi_head import StackedHeads, UnstackHeadsd
from bundle.inference.outputs_maps import Disagreementd, SaveDisagreementd, SaveProbabilityd, SaveUncertaintyd
from bundle.inference.outputs_objects import SaveContoursd, SaveGeoJSONd, SaveInstancesd
from bundle.inference.postprocessing import ComponentInstancesd, ForegroundProbabilityd, WatershedInstancesd
from bundle.inference.scoring import DisagreementScorer, annotation_order
from bundle.inference.tta import TTAInferer
from bundle.inference.tuning import collect_predictions, postprocessing_scores
from bundle.inference.watershed import watershed_instances

__all__ = [
    "ComponentInstancesd",
    "DisagreementScorer",
    "Disagreementd",
    "EncoderFeatures",
    "ForegroundProbabilityd",
    "SaveContoursd",
    "SaveDisagreementd",
    "SaveGeoJSONd",
    "SaveInstancesd",
    "SaveProbabilityd",
    "SaveUncertaintyd",
    "StackedHeads",
    "TTAInferer",
    "UnstackHeadsd",
    "WatershedInstancesd",
    "annotation_order",
    "collect_predictions",
    "component_instances",
    "consensus_entropy",
    "disagreement",
    "next_diverse",
    "postprocessing_scores",
    "watershed_instances",
]
