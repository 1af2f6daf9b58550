"""From predictions to instances: connected components, watershed, and the files that inference writes."""

from bundle.inference.components import component_instances
from bundle.inference.disagreement import consensus_entropy, disagreement
from bundle.inference.multi_head import StackedHeads, UnstackHeadsd
from bundle.inference.outputs_maps import Disagreementd, SaveDisagreementd, SaveDoubtd, SaveProbabilityd
from bundle.inference.outputs_objects import SaveContoursd, SaveGeoJSONd, SaveInstancesd
from bundle.inference.postprocessing import ComponentInstancesd, WatershedInstancesd
from bundle.inference.scoring import DisagreementScorer, outlining_order
from bundle.inference.tta import TurnedInferer
from bundle.inference.tuning import kept_answers, reading_scores
from bundle.inference.watershed import watershed_instances

__all__ = [
    "ComponentInstancesd",
    "DisagreementScorer",
    "Disagreementd",
    "SaveContoursd",
    "SaveDisagreementd",
    "SaveDoubtd",
    "SaveGeoJSONd",
    "SaveInstancesd",
    "SaveProbabilityd",
    "StackedHeads",
    "TurnedInferer",
    "UnstackHeadsd",
    "WatershedInstancesd",
    "component_instances",
    "consensus_entropy",
    "disagreement",
    "kept_answers",
    "outlining_order",
    "reading_scores",
    "watershed_instances",
]
