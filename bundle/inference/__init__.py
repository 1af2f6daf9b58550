"""From prediction to glands: connected components, and the watershed that reads distance and boundary too; outputs."""

from bundle.inference.answer import StackedHeads, UnstackHeadsd
from bundle.inference.choosing import kept_answers, reading_scores
from bundle.inference.disagreement import consensus_entropy, disagreement
from bundle.inference.instances import component_instances, watershed_instances
from bundle.inference.outputs_maps import Disagreementd, SaveDisagreementd, SaveDoubtd, SaveProbabilityd
from bundle.inference.outputs_objects import SaveContoursd, SaveGeoJSONd, SaveInstancesd
from bundle.inference.readings import ComponentInstancesd, WatershedInstancesd
from bundle.inference.scoring import DisagreementScorer, outlining_order
from bundle.inference.turns import TurnedInferer

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
