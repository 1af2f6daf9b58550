"""Annotations in GeoJSON, as QuPath exports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from bundle.annotation.shapes import Annotation, AnnotationError, Shape, holed, joined, ring_of

NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
GEOMETRIES = ("Polygon", "MultiPolygon", "GeometryCollection", *NO_AREA)


def read_geojson(document: Mapping[str, Any], default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """Read features. The nucleus of a cell is left out; objects within objects come after them.

    Args:
        document: a feature, a collection of features, or a geometry alone.
        default_name: of objects without a classification.
        left_out: counts what is no area, by what it is.

    Raises:
        AnnotationError: for what is none of these, or a ring that is none.
    """
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list):
            raise AnnotationError("its collection has no list of features; export it from the viewer again")
    else:
        features = [{"type": "Feature", "geometry": document} if kind in GEOMETRIES else document]
    for number, feature in enumerate(features, start=1):
        if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
            raise AnnotationError(f"entry {number} is no GeoJSON feature; export it from the viewer again")
        yield from _feature(feature, f"feature {number}", default_name, left_out)


def _feature(feature: Mapping[str, Any], place: str, default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """The object of a feature, and those within it."""
    properties = feature.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    name = _name(properties.get("classification")) or default_name
    try:
        shape = _shape(feature.get("geometry"), left_out)
    except AnnotationError as error:
        raise AnnotationError(f"{place} ({name!r}): {error}") from error
    if shape is not None:
        yield Annotation(name, shape)
    children = properties.get("childObjects")
    for child in children if isinstance(children, list) else []:
        if isinstance(child, Mapping):
            yield from _feature(child, f"an object within {place}", default_name, left_out)


def _name(classification: Any) -> str:
    """The class of an object: a text in old exports, else its name, or the names that a derived class is made of."""
    if isinstance(classification, Mapping):
        names = classification.get("names")
        joint = ": ".join(map(str, names)) if isinstance(names, list) else ""
        classification = classification.get("name") or joint
    return classification.strip() if isinstance(classification, str) else ""


def _shape(geometry: Any, left_out: Counter[str]) -> Shape | None:
    """The area of a geometry; ``None`` where it has none, which is counted."""
    if geometry is None:
        left_out["empty"] += 1
        return None
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if kind in NO_AREA:
        left_out[str(kind)] += 1
        return None
    if kind not in GEOMETRIES:
        raise AnnotationError(f"its geometry is {str(kind)[:40]!r}, which GeoJSON does not have; export it again")
    inside = geometry.get("geometries" if kind == "GeometryCollection" else "coordinates")
    if not isinstance(inside, list):
        raise AnnotationError("its geometry has no list of coordinates; export it from the viewer again")
    if kind == "GeometryCollection":
        return joined([_shape(part, left_out) for part in inside])
    polygons = [inside] if kind == "Polygon" else inside
    shape = joined([_polygon(rings) for rings in polygons if rings])
    if shape is None:
        left_out["without area"] += 1
    return shape


def _polygon(rings: Any) -> Shape | None:
    """A polygon: its outer ring, then its holes."""
    if not isinstance(rings, list):
        raise AnnotationError("a polygon is no list of rings; export it from the viewer again")
    outer, *holes = [ring_of(ring) for ring in rings]
    return holed(outer, holes)
