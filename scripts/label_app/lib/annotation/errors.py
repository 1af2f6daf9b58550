"""Error of annotations that cannot be used."""

from __future__ import annotations


class AnnotationError(ValueError):
    """Annotations cannot be read or used; the message is one sentence."""
