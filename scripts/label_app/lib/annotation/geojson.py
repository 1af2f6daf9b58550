"""Annotations as GeoJSON, as QuPath exports it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .shapes import Annotation, AnnotationError, Shape, polygon_with_holes, ring_of, union_of

NO_AREA = ("Point", "MultiPoint", "LineString", "MultiLineString")
GEOMETRIES = ("Polygon", "MultiPolygon", "GeometryCollection", *NO_AREA)


def read_geojson(document: Mapping[str, Any], default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """Read the features of a document. Cell nuclei are left out; child objects follow their parent.

    Args:
        document: a feature, a feature collection or a geometry.
        default_name: label of objects without a classification.
        left_out: counter of objects without an area, by type.

    Raises:
        AnnotationError: if the document is none of these, or a ring is invalid.
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
            raise AnnotationError(f"entry {number} is not a GeoJSON feature; export it from the viewer again")
        yield from _feature(feature, f"feature {number}", default_name, left_out)


def _feature(feature: Mapping[str, Any], where: str, default_name: str, left_out: Counter[str]) -> Iterator[Annotation]:
    """Yield the object of a feature, and its child objects."""
    properties = feature.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    name = _name(properties.get("classification")) or default_name
    try:
        shape = _shape(feature.get("geometry"), left_out)
    except AnnotationError as error:
        raise AnnotationError(f"{where} ({name!r}): {error}") from error
    if shape is not None:
        yield Annotation(name, shape)
    children = properties.get("childObjects")
    for child in children if isinstance(children, list) else []:
        if isinstance(child, Mapping):
            yield from _feature(child, f"an object within {where}", default_name, left_out)


def _name(classification: Any) -> str:
    """Return the class of an object: a text in old exports, else its name, or the joined names of a derived class."""
    if isinstance(classification, Mapping):
        names = classification.get("names")
        joined_names = ": ".join(map(str, names)) if isinstance(names, list) else ""
        classification = classification.get("name") or joined_names
    return classification.strip() if isinstance(classification, str) else ""


def _shape(geometry: Any, left_out: Counter[str]) -> Shape | None:
    """Return the area of a geometry; ``None`` if it has none, which is counted in ``left_out``."""
    if geometry is None:
        left_out["empty"] += 1
        return None
    type_name = geometry.get("type") if isinstance(geometry, Mapping) else None
    if type_name in NO_AREA:
        left_out[str(type_name)] += 1
        return None
    if type_name not in GEOMETRIES:
        raise AnnotationError(f"its geometry is {str(type_name)[:40]!r}, which GeoJSON does not have; export it again")
    content = geometry.get("geometries" if type_name == "GeometryCollection" else "coordinates")
    if not isinstance(content, list):
        raise AnnotationError("its geometry has no list of coordinates; export it from the viewer again")
    if type_name == "GeometryCollection":
        return union_of([_shape(part, left_out) for part in content])
    polygons = [content] if type_name == "Polygon" else content
    shape = union_of([_polygon(rings) for rings in polygons if rings])
    if shape is None:
        left_out["without area"] += 1
    return shape


def _polygon(rings: Any) -> Shape | None:
    """Return a polygon from its outer ring and its holes."""
    if not isinstance(rings, list):
        raise AnnotationError("a polygon is not a list of rings; export it from the viewer again")
    outer, *holes = [ring_of(ring) for ring in rings]
    return polygon_with_holes(outer, holes)
