"""Annotations as MONAI Label answers by default, which its CVAT function reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely

from bundle.annotation.shapes import Annotation, color_of, polygons_of


def contours_document(
    annotations: Sequence[Annotation],
    colors: Mapping[str, Sequence[int]],
    location: Sequence[int],
    size: Sequence[int],
) -> dict[str, Any]:
    """Contours by label: outer rings of whole numbers, for the format knows no holes.

    Args:
        annotations: in px of the full resolution.
        colors: of the labels, by name: red, green and blue in [0, 255].
        location: (x, y) of the part that was looked at, in px. The contours do not depend on it.
        size: (width, height) of that part, in px.

    Returns:
        What ``json.dumps`` takes. A ring that has no three points after rounding is left out.

    Raises:
        AnnotationError: for a shape that is no polygon, or a color that is none.
    """
    contours: dict[str, list[list[list[int]]]] = {}
    for annotation in annotations:
        for polygon in polygons_of(annotation):
            points = np.rint(shapely.get_coordinates(polygon.exterior)).astype(int)
            moved = (points[1:] != points[:-1]).any(axis=1)
            if moved.sum() >= 3:
                contours.setdefault(annotation.name, []).append(points[:-1][moved].tolist())
    found = {
        "location": [int(value) for value in location],
        "size": [int(value) for value in size],
        "elements": [{"label": name, "contours": rings} for name, rings in contours.items()],
        "labels": {name: color_of(name, colors) for name in contours},
    }
    return {"annotations": [{"annotation": found}]}
