"""Annotations: reading and writing the formats of viewers, and drawing them as masks."""

from bundle.annotation.asap import write_asap
from bundle.annotation.contours import contours_document
from bundle.annotation.drawing import draw_classes, draw_instances
from bundle.annotation.dsa import dsa_document
from bundle.annotation.readers import read_annotations
from bundle.annotation.shapes import Annotation, AnnotationError

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
