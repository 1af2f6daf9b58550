"""Annotations of the Digital Slide Archive, which HistomicsUI draws and large_image keeps.

Coordinates are (x, y, z) in px of the full resolution, z is 0. A closed polyline is a polygon; ``holes`` are rings
in it, in the schema of large_image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from shapely import affinity

from bundle.annotation.shapes import (
    FARTHEST,
    Annotation,
    AnnotationError,
    Shape,
    areas_of,
    color_of,
    ellipse,
    holed,
    plain,
    polygons_of,
    ring_of,
)

WIDE = ("circle", "ellipse", "rectangle")
"""Types that are given by a center and a size."""


def dsa_document(
    annotations: Sequence[Annotation], colors: Mapping[str, Sequence[int]], name: str, description: str = ""
) -> dict[str, Any]:
    """The document that MONAI Label gives HistomicsUI, one element a polygon.

    Args:
        annotations: in px of the full resolution.
        colors: of the labels, by name: red, green and blue in [0, 255].
        name: of the document; not empty.
        description: what this is; MONAI Label writes JSON in it.

    Returns:
        What ``json.dumps`` takes. Only elements with holes have ``holes``.

    Raises:
        AnnotationError: for a shape that is no polygon, or a color that is none.
    """
    elements: list[dict[str, Any]] = []
    for annotation in annotations:
        color = ",".join(map(str, color_of(annotation.name, colors)))
        for polygon in polygons_of(annotation):
            element = {
                "group": annotation.name,
                "type": "polyline",
                "lineColor": f"rgb({color})",
                "lineWidth": 2.0,
                "closed": True,
                "points": _points(polygon.exterior),
                "label": {"value": annotation.name},
            }
            if polygon.interiors:
                element["holes"] = [_points(hole) for hole in polygon.interiors]
            elements.append(element)
    return {"name": name, "elements": elements, "description": description}


def read_dsa(document: Mapping[str, Any], default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """Read elements.

    Args:
        document: an annotation, as HistomicsUI takes it or as the archive hands it out (inside of ``annotation``).
        default_name: of elements without a group and without a label.
        left_out: counts what is no area, by what it is.

    Raises:
        AnnotationError: for elements that are none, or a ring that is none.
    """
    document = document["annotation"] if isinstance(document.get("annotation"), Mapping) else document
    elements = document.get("elements", [])
    if not isinstance(elements, list):
        raise AnnotationError("its elements are no list; export it from the viewer again")
    for number, element in enumerate(elements, start=1):
        if not isinstance(element, Mapping):
            raise AnnotationError(f"element {number} is none; export it from the viewer again")
        kind = str(element.get("type"))
        line = kind == "polyline" and element.get("closed") is not True
        if line or kind not in ("polyline", *WIDE):
            left_out["open polyline" if line else kind] += 1
            continue
        name = _name(element) or default_name
        try:
            shape = _wide(kind, element) if kind in WIDE else _polygon(element)
        except AnnotationError as error:
            raise AnnotationError(f"element {number} ({name!r}): {error}") from error
        if shape is None:
            left_out["without area"] += 1
        else:
            yield Annotation(name, shape)


def _name(element: Mapping[str, Any]) -> str:
    """The label of an element: its group, where it is in one of a name, else its label."""
    group, label = element.get("group"), element.get("label")
    if isinstance(group, str) and group.strip() not in ("", "default"):
        return group.strip()
    value = label.get("value") if isinstance(label, Mapping) else None
    return value.strip() if isinstance(value, str) else ""


def _polygon(element: Mapping[str, Any]) -> Shape | None:
    """A closed polyline without its holes."""
    holes = element.get("holes") or []
    if not isinstance(holes, list):
        raise AnnotationError("its holes are no list; export it from the viewer again")
    return holed(ring_of(element.get("points")), [ring_of(hole) for hole in holes])


def _wide(kind: str, element: Mapping[str, Any]) -> Shape | None:
    """A rectangle, an ellipse or a circle."""
    center, rotation = element.get("center"), element.get("rotation") or 0
    sizes = [element.get("radius")] * 2 if kind == "circle" else [element.get("width"), element.get("height")]
    try:
        x, y, width, height, angle = map(float, (*center[:2], *sizes, rotation))  # type: ignore[index]
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"the {kind} has no center and size; export it from the viewer again") from error
    if not (np.abs([x, y, width, height]) <= FARTHEST).all() or not math.isfinite(angle) or min(width, height) < 0:
        raise AnnotationError(f"the {kind} has a number that is not finite or too large; delete or redraw it")
    if kind == "circle":
        width, height = 2 * width, 2 * height
    if kind != "rectangle":
        return ellipse((x, y), width, height, angle)
    box = shapely.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return areas_of(affinity.rotate(box, angle, (x, y), use_radians=True))


def _points(ring: shapely.LinearRing) -> list[list[int | float]]:
    """Points of a ring, not closed."""
    return [[plain(x), plain(y), 0] for x, y in shapely.get_coordinates(ring)[:-1].tolist()]
