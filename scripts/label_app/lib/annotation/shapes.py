"""Annotations, and valid shapes from the rings in annotation files.

A point lies inside of a ring if a line from it to the outside crosses the ring an odd number of times (even-odd
filling). So rings that cross themselves, or that reach their holes over bridges, are well defined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon, affinity

from .crossings import check_crossings, check_density
from .errors import AnnotationError
from .ray_intersections import intersect_left_rays

Shape: TypeAlias = Polygon | MultiPolygon
Ring: TypeAlias = NDArray[np.float64]
"""(N, 2) px, at least three points, without the closing one."""

FARTHEST = 1e9
"""Largest allowed coordinate, px; beyond it, areas lose the precision of a pixel."""
QUARTER = 64
"""Segments in a quarter of an ellipse."""


class Annotation(NamedTuple):
    """Annotated object.

    Args:
        name: label, such as ``Gland``.
        shape: polygon or multipolygon, coordinates (x, y) in px of the full resolution. Pixel (column i, row j) covers
            [i, i + 1] x [j, j + 1].
    """

    name: str
    shape: Shape


def ring_of(points: Any) -> Ring:
    """Convert the points of a ring in a file to an array.

    Args:
        points: sequence of (x, y) or (x, y, z), in px; z is ignored. The last point may repeat the first.

    Raises:
        AnnotationError: if there are fewer than three points, or a coordinate is not a number, not finite or too large.
    """
    try:
        ring = np.asarray([point[:2] for point in points])
        is_numeric = ring.dtype.kind in "iuf" or len(ring) == 0
        ring = ring.reshape(-1, 2) if len(ring) == 0 else ring.astype(np.float64)
    except (TypeError, ValueError, LookupError, OverflowError):
        is_numeric = False
    if not is_numeric or ring.ndim != 2 or ring.shape[1] != 2:
        raise AnnotationError("a ring of points is not made of pairs of numbers; export it from the viewer again")
    if len(ring) > 1 and (ring[0] == ring[-1]).all():
        ring = ring[:-1]
    if len(ring) < 3:
        raise AnnotationError(f"a ring has {len(ring)} points; an area needs 3 or more; delete or redraw it")
    if not (np.abs(ring) <= FARTHEST).all():  # false for NaN too
        raise AnnotationError("a coordinate is not finite or too large for an image; delete or redraw the object")
    return ring


def fill_rings(rings: Sequence[Ring]) -> Shape | None:
    """Return the area enclosed by several rings, by even-odd filling: a ring inside of a ring is a hole.

    Args:
        rings: at least one ring.

    Returns:
        A valid shape, or ``None`` if nothing is enclosed.

    Raises:
        AnnotationError: if the rings cross or retrace each other or themselves too often.
    """
    if len(rings) > 1:
        check_crossings(rings)
    areas: list[shapely.Geometry] = [_fill_ring(ring) for ring in rings]
    while len(areas) > 1:  # pairwise, because adding thousands of rings to one shape is slow
        pairs = shapely.symmetric_difference(areas[:-1:2], areas[1::2]).tolist()
        areas = pairs + (areas[-1:] if len(areas) % 2 else [])
    return areas_of(areas[0])


def polygon_with_holes(outer: Ring, holes: Sequence[Ring]) -> Shape | None:
    """Return the area of a ring without its holes; parts of holes outside of the ring are ignored.

    Returns:
        A valid shape, or ``None`` if nothing is left.

    Raises:
        AnnotationError: if the rings cross or retrace each other or themselves too often.
    """
    check_density([outer, *holes])
    polygon = Polygon(outer, holes)
    if not polygon.is_valid:
        check_crossings([outer, *holes])
        polygon = shapely.difference(_fill_ring(outer), shapely.union_all([_fill_ring(hole) for hole in holes]))
    return areas_of(polygon)


def union_of(shapes: Sequence[Shape | None]) -> Shape | None:
    """Return the union of shapes; ``None`` is an empty shape.

    Raises:
        AnnotationError: if the shapes cross each other too often.
    """
    polygons = [polygon for shape in shapes if shape is not None for polygon in shapely.get_parts(shape)]
    if len(polygons) < 2:
        return areas_of(MultiPolygon(polygons))
    rings = [shapely.get_coordinates(ring)[:-1] for ring in shapely.get_rings(polygons)]
    check_density(rings)
    multipolygon = MultiPolygon(polygons)
    if multipolygon.is_valid:
        return areas_of(multipolygon)
    check_crossings(rings)
    return areas_of(shapely.union_all(polygons))


def areas_of(shape: shapely.Geometry) -> Shape | None:
    """Return the polygons of a geometry, without its points, lines and empty parts; ``None`` if there are none."""
    parts = shapely.get_parts(shapely.get_parts(shape))  # a collection may hold a MultiPolygon
    polygons = [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
    if not polygons:
        return None
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def ellipse(center: Sequence[float], width: float, height: float, rotation: float = 0.0) -> Shape | None:
    """Return an ellipse as a polygon.

    Args:
        center: (x, y) in px.
        width: size along x before the rotation, in px.
        height: size along y before the rotation, in px.
        rotation: in radians, from x towards y.
    """
    circle = shapely.Point(0, 0).buffer(1, quad_segs=QUARTER)
    rotated = affinity.rotate(affinity.scale(circle, width / 2, height / 2), rotation, (0, 0), use_radians=True)
    return areas_of(affinity.translate(rotated, center[0], center[1]))


def polygons_of(annotation: Annotation) -> list[Polygon]:
    """Return the polygons of an annotation for writing: outer rings counter-clockwise in (x, y), holes clockwise.

    Raises:
        AnnotationError: if the shape is empty or not a polygon, or a coordinate is not finite.
    """
    shape = annotation.shape
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
        raise AnnotationError(f"the shape of {annotation.name!r} is {shape.wkt[:60]}; give one or more polygons")
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        raise AnnotationError(f"the shape of {annotation.name!r} has a coordinate that is not finite; leave it out")
    return list(shapely.get_parts(shapely.orient_polygons(shape)))


def color_of(name: str, colors: Mapping[str, Sequence[int]]) -> list[int]:
    """Return the color of a label: red, green and blue in [0, 255]; black if it has none, as in MONAI Label.

    Args:
        name: label; case is ignored unless two labels differ only in case.
        colors: label -> color.

    Raises:
        AnnotationError: if the color is invalid.
    """
    folded = {key.casefold(): value for key, value in colors.items()}
    color = colors.get(name, folded.get(name.casefold(), (0, 0, 0)))
    parts = [int(part) for part in color if isinstance(part, int | np.integer) and 0 <= part <= 255]
    if len(color) != 3 or len(parts) != 3:
        raise AnnotationError(f"the color of {name!r} is {color!r}; give red, green and blue, each 0 to 255")
    return parts


def plain_number(value: float) -> int | float:
    """Return a number as it is written: as int if it is whole."""
    return int(value) if value.is_integer() else value


def _fill_ring(ring: Ring) -> shapely.Geometry:
    """Return the area of one ring, by even-odd filling; may be empty."""
    check_density([ring])
    polygon = Polygon(ring)
    if polygon.is_valid:
        return polygon
    check_crossings([ring])
    # shapely.make_valid gives other results for some rings, such as a keyhole around touching holes
    faces = shapely.get_parts(shapely.polygonize([shapely.unary_union(polygon.exterior)]))
    crossings = np.zeros(len(faces), int)
    inner_points = shapely.get_coordinates(shapely.point_on_surface(faces))
    for intersections in intersect_left_rays(inner_points, ring, np.roll(ring, -1, axis=0)):
        np.add.at(crossings, intersections.point[intersections.passes], 1)
    return shapely.union_all(faces[crossings % 2 == 1])
