"""Annotations as MONAI Label returns them by default, the format that its CVAT integration reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely

from .shapes import Annotation, color_of, polygons_of


def contours_document(
    annotations: Sequence[Annotation],
    colors: Mapping[str, Sequence[int]],
    location: Sequence[int],
    size: Sequence[int],
) -> dict[str, Any]:
    """Return contours by label: outer rings with integer coordinates, because the format has no holes.

    Args:
        annotations: annotations in px of the full resolution.
        colors: label -> color: red, green and blue in [0, 255].
        location: (x, y) of the predicted part, in px; the contours are not relative to it.
        size: (width, height) of that part, in px.

    Returns:
        Document for ``json.dumps``. Rings with fewer than three points after rounding are left out.

    Raises:
        AnnotationError: if a shape is not a polygon, or a color is invalid.
    """
    contours: dict[str, list[list[list[int]]]] = {}
    for annotation in annotations:
        for polygon in polygons_of(annotation):
            points = np.rint(shapely.get_coordinates(polygon.exterior)).astype(int)
            is_distinct = (points[1:] != points[:-1]).any(axis=1)
            if is_distinct.sum() >= 3:
                contours.setdefault(annotation.name, []).append(points[:-1][is_distinct].tolist())
    content = {
        "location": [int(value) for value in location],
        "size": [int(value) for value in size],
        "elements": [{"label": name, "contours": rings} for name, rings in contours.items()],
        "labels": {name: color_of(name, colors) for name in contours},
    }
    return {"annotations": [{"annotation": content}]}
