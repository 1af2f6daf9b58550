"""Annotations: reading and writing the formats of viewers, and drawing them as masks."""

from .asap import write_asap
from .contours import contours_document
from .drawing import draw_classes, draw_instances
from .dsa import dsa_document
from .readers import read_annotations
from .shapes import Annotation, AnnotationError

__all__ = [
    "Annotation",
    "AnnotationError",
    "contours_document",
    "draw_classes",
    "draw_instances",
    "dsa_document",
    "read_annotations",
    "write_asap",
]
