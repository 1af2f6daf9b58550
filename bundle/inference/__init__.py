"""From prediction to glands: connected components, and the watershed that reads distance and boundary too."""

from bundle.inference.answer import StackedHeads, UnstackHeadsd
from bundle.inference.choosing import kept_answers, reading_scores
from bundle.inference.instances import component_instances, watershed_instances
from bundle.inference.readings import ComponentInstancesd, WatershedInstancesd

__all__ = [
    "ComponentInstancesd",
    "StackedHeads",
    "UnstackHeadsd",
    "WatershedInstancesd",
    "component_instances",
    "kept_answers",
    "reading_scores",
    "watershed_instances",
]
