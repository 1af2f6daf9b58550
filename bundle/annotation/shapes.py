"""One outlined object, and valid shapes of the rings that viewers give.

A point belongs to what a ring encloses where a line from it to the outside crosses the ring an odd number of times
(even-odd filling). So a ring that crosses itself, or that visits its holes over bridges, has one meaning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon, affinity

from bundle.annotation.rays import met_to_the_left

Shape: TypeAlias = Polygon | MultiPolygon
Ring: TypeAlias = NDArray[np.float64]
"""(N, 2) px, at least three points, the last one joined to the first without being it."""

FARTHEST = 1e9
"""px; no picture reaches so far, and areas of such numbers lose their pixels."""
QUARTER = 64
"""Points in a quarter of an ellipse."""


class Annotation(NamedTuple):
    """An object that somebody outlined.

    Args:
        name: of its label, such as ``Gland``.
        shape: where it is: coordinates (x, y) in px of the image's full resolution. Pixel (column i, row j) covers
            [i, i + 1] x [j, j + 1].
    """

    name: str
    shape: Shape


class AnnotationError(ValueError):
    """A file that holds no usable annotations, or annotations that cannot be used so; one sentence."""


def ring_of(points: Any) -> Ring:
    """A ring of points as a file gives them.

    Args:
        points: sequence of (x, y) or (x, y, z), in px; z is left out. The last may repeat the first.

    Raises:
        AnnotationError: for fewer than three points, for what is no number, and for numbers that no picture has.
    """
    try:
        ring = np.asarray([point[:2] for point in points])
        number = ring.dtype.kind in "iuf" or len(ring) == 0
        ring = ring.reshape(-1, 2) if len(ring) == 0 else ring.astype(np.float64)
    except (TypeError, ValueError, LookupError, OverflowError):
        number = False
    if not number or ring.ndim != 2 or ring.shape[1] != 2:
        raise AnnotationError("a ring of points is not made of pairs of numbers; export it from the viewer again")
    if len(ring) > 1 and (ring[0] == ring[-1]).all():
        ring = ring[:-1]
    if len(ring) < 3:
        raise AnnotationError(f"a ring has {len(ring)} points, and no area has fewer than 3; delete or redraw it")
    if not (np.abs(ring) <= FARTHEST).all():  # false for NaN too
        raise AnnotationError("a coordinate is not finite or lies outside of any picture; delete or redraw the object")
    return ring


def filled(rings: Sequence[Ring]) -> Shape | None:
    """What some rings enclose together, by even-odd filling: a ring in a ring is a hole.

    Args:
        rings: at least one.

    Returns:
        A valid shape, or ``None`` where nothing is enclosed.
    """
    found: list[shapely.Geometry] = [_filled(ring) for ring in rings]
    while len(found) > 1:  # in pairs of pairs, so that thousands of rings take no time
        pairs = shapely.symmetric_difference(found[:-1:2], found[1::2]).tolist()
        found = pairs + (found[-1:] if len(found) % 2 else [])
    return areas_of(found[0])


def holed(outer: Ring, holes: Sequence[Ring]) -> Shape | None:
    """What a ring encloses without its holes; of a hole that lies partly outside counts what lies inside.

    Returns:
        A valid shape, or ``None`` where nothing is left.
    """
    whole = Polygon(outer, holes)
    if not whole.is_valid:
        whole = shapely.difference(_filled(outer), shapely.union_all([_filled(hole) for hole in holes]))
    return areas_of(whole)


def joined(shapes: Sequence[Shape | None]) -> Shape | None:
    """Several shapes as one; ``None`` stands for nothing."""
    polygons = [polygon for shape in shapes if shape is not None for polygon in shapely.get_parts(shape)]
    whole = MultiPolygon(polygons)
    return areas_of(whole if whole.is_valid else shapely.union_all(polygons))


def areas_of(shape: shapely.Geometry) -> Shape | None:
    """The polygons of a geometry, without its points, its lines and what has no area."""
    parts = shapely.get_parts(shapely.get_parts(shape))  # a collection may hold a MultiPolygon
    polygons = [part for part in parts if part.geom_type == "Polygon" and part.area > 0]
    if not polygons:
        return None
    return polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)


def ellipse(center: Sequence[float], width: float, height: float, rotation: float = 0.0) -> Shape | None:
    """An ellipse as a polygon.

    Args:
        center: (x, y) in px.
        width: of it, along x before it is turned, in px.
        height: of it, in px.
        rotation: in radians, from x towards y.
    """
    circle = shapely.Point(0, 0).buffer(1, quad_segs=QUARTER)
    turned = affinity.rotate(affinity.scale(circle, width / 2, height / 2), rotation, (0, 0), use_radians=True)
    return areas_of(affinity.translate(turned, center[0], center[1]))


def polygons_of(annotation: Annotation) -> list[Polygon]:
    """The polygons of an annotation, to be written: outer rings counter-clockwise in (x, y), holes clockwise.

    Raises:
        AnnotationError: for a shape that is empty or no polygon, or has a coordinate that is not finite.
    """
    shape = annotation.shape
    if shape.geom_type not in ("Polygon", "MultiPolygon") or shape.is_empty:
        raise AnnotationError(f"the shape of {annotation.name!r} is {shape.wkt[:60]}; give one or more polygons")
    if not np.isfinite(shapely.get_coordinates(shape)).all():
        raise AnnotationError(f"the shape of {annotation.name!r} has a coordinate that is not finite; leave it out")
    return list(shapely.get_parts(shapely.orient_polygons(shape)))


def color_of(name: str, colors: Mapping[str, Sequence[int]]) -> list[int]:
    """The color of a label: red, green and blue in [0, 255]; black without one, as MONAI Label has it.

    Args:
        name: of the label; case counts only where two names differ by nothing else.
        colors: by the name of the label.

    Raises:
        AnnotationError: for a color that is none.
    """
    folded = {key.casefold(): value for key, value in colors.items()}
    color = colors.get(name, folded.get(name.casefold(), (0, 0, 0)))
    parts = [int(part) for part in color if isinstance(part, int | np.integer) and 0 <= part <= 255]
    if len(color) != 3 or len(parts) != 3:
        raise AnnotationError(f"the color of {name!r} is {color!r}; give red, green and blue, each 0 to 255")
    return parts


def plain(value: float) -> int | float:
    """A number as it is written: without a point where it is whole."""
    return int(value) if value.is_integer() else value


def _filled(ring: Ring) -> shapely.Geometry:
    """What one ring encloses, by even-odd filling; may be empty."""
    polygon = Polygon(ring)
    if polygon.is_valid:
        return polygon
    # shapely.make_valid fills some rings otherwise, such as a keyhole around holes that touch
    faces = shapely.get_parts(shapely.polygonize([shapely.unary_union(polygon.exterior)]))
    crossed = np.zeros(len(faces), int)
    inner = shapely.get_coordinates(shapely.point_on_surface(faces))
    for met in met_to_the_left(inner, ring, np.roll(ring, -1, axis=0)):
        np.add.at(crossed, met.point[met.passes], 1)
    return shapely.union_all(faces[crossed % 2 == 1])
