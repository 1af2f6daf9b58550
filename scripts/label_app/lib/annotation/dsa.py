"""Annotations of the Digital Slide Archive, the format of HistomicsUI and large_image.

Coordinates are (x, y, z) in px of the full resolution, z is 0. A closed polyline is a polygon; ``holes`` are its inner
rings, as in the schema of large_image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from shapely import affinity

from .shapes import (
    FARTHEST,
    Annotation,
    AnnotationError,
    Shape,
    areas_of,
    color_of,
    ellipse,
    plain_number,
    polygon_with_holes,
    polygons_of,
    ring_of,
)

SIZED = ("circle", "ellipse", "rectangle")
"""Types that are defined by a center and a size."""


def dsa_document(
    annotations: Sequence[Annotation], colors: Mapping[str, Sequence[int]], name: str, description: str = ""
) -> dict[str, Any]:
    """Return the document that MONAI Label sends to HistomicsUI, one element per polygon.

    Args:
        annotations: annotations in px of the full resolution.
        colors: label -> color: red, green and blue in [0, 255].
        name: name of the document; not empty.
        description: free text; MONAI Label writes JSON here.

    Returns:
        Document for ``json.dumps``. Only elements with holes have ``holes``.

    Raises:
        AnnotationError: if a shape is not a polygon, or a color is invalid.
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
    """Read the elements of a document.

    Args:
        document: annotation as HistomicsUI takes it, or as the archive exports it (inside of ``annotation``).
        default_name: label of elements without group and label.
        left_out: counter of elements without an area, by type.

    Raises:
        AnnotationError: if the elements or a ring are invalid.
    """
    document = document["annotation"] if isinstance(document.get("annotation"), Mapping) else document
    elements = document.get("elements", [])
    if not isinstance(elements, list):
        raise AnnotationError("its elements are not a list; export it from the viewer again")
    for number, element in enumerate(elements, start=1):
        if not isinstance(element, Mapping):
            raise AnnotationError(f"element {number} is not an object; export it from the viewer again")
        type_name = str(element.get("type"))
        is_open = type_name == "polyline" and element.get("closed") is not True
        if is_open or type_name not in ("polyline", *SIZED):
            left_out["open polyline" if is_open else type_name] += 1
            continue
        name = _name(element) or default_name
        try:
            shape = _sized_shape(type_name, element) if type_name in SIZED else _polygon(element)
        except AnnotationError as error:
            raise AnnotationError(f"element {number} ({name!r}): {error}") from error
        if shape is None:
            left_out["without area"] += 1
        else:
            yield Annotation(name, shape)


def _name(element: Mapping[str, Any]) -> str:
    """Return the label of an element: its group, unless that is empty or ``default``, else its label."""
    group, label = element.get("group"), element.get("label")
    if isinstance(group, str) and group.strip() not in ("", "default"):
        return group.strip()
    value = label.get("value") if isinstance(label, Mapping) else None
    return value.strip() if isinstance(value, str) else ""


def _polygon(element: Mapping[str, Any]) -> Shape | None:
    """Return a closed polyline without its holes."""
    holes = element.get("holes") or []
    if not isinstance(holes, list):
        raise AnnotationError("its holes are not a list; export it from the viewer again")
    return polygon_with_holes(ring_of(element.get("points")), [ring_of(hole) for hole in holes])


def _sized_shape(type_name: str, element: Mapping[str, Any]) -> Shape | None:
    """Return a rectangle, an ellipse or a circle."""
    center, rotation = element.get("center"), element.get("rotation") or 0
    sizes = [element.get("radius")] * 2 if type_name == "circle" else [element.get("width"), element.get("height")]
    try:
        x, y, width, height, angle = map(float, (*center[:2], *sizes, rotation))  # type: ignore[index]
    except (TypeError, ValueError, OverflowError) as error:
        raise AnnotationError(f"the {type_name} has no center and size; export it from the viewer again") from error
    if not (np.abs([x, y, width, height]) <= FARTHEST).all() or not math.isfinite(angle) or min(width, height) < 0:
        raise AnnotationError(f"the {type_name} has a number that is not finite or too large; delete or redraw it")
    if type_name == "circle":
        width, height = 2 * width, 2 * height
    if type_name != "rectangle":
        return ellipse((x, y), width, height, angle)
    box = shapely.box(x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return areas_of(affinity.rotate(box, angle, (x, y), use_radians=True))


def _points(ring: shapely.LinearRing) -> list[list[int | float]]:
    """Return the points of a ring, without the closing one."""
    return [[plain_number(x), plain_number(y), 0] for x, y in shapely.get_coordinates(ring)[:-1].tolist()]
