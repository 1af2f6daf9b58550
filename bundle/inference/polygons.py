"""Polygons of the regions of an integer array, exact to the pixel.

Pixel (column i, row j) covers [i, i + 1] x [j, j + 1], as in QuPath, so the area of a polygon is its number of pixels.
Polygons follow the pixel edges; ``tolerance`` simplifies them afterwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon
from skimage.measure import label

from bundle.inference.border_tracing import rings

Shape: TypeAlias = Polygon | MultiPolygon


class Outline(NamedTuple):
    """Outline of a gland, or of one of its connected components.

    Args:
        value: class or instance number, above 0.
        shape: polygon or multipolygon, coordinates (x, y) in px.
    """

    value: int
    shape: Shape


def outlines(
    plane: NDArray[Any],
    offset: tuple[int, int] = (0, 0),
    tolerance: float = 0.0,
    min_area: float = 0.0,
    min_hole_area: float = 0.0,
) -> list[Outline]:
    """Return one outline for each number of an instance map.

    Components are connected by the sides of their pixels. An instance that is connected by a corner only becomes a
    MultiPolygon whose parts touch there.

    Args:
        plane: (H, W) integers or bool; values of 0 or below are background.
        offset: (x, y) of the first pixel, in px.
        tolerance: maximum distance of a simplified border from the pixel edges, in px; 0 keeps every step.
        min_area: outlines with fewer px are removed.
        min_hole_area: smaller holes are filled, in px.

    Returns:
        Valid outlines in the order of their numbers.

    Raises:
        ValueError: if the array is not 2D or not of integers.
    """
    components = _trace(plane, offset)
    if not components:
        return []
    values, groups = np.unique([component.value for component in components], return_inverse=True)
    order = np.argsort(groups, kind="stable")
    grouped = np.array([component.shape for component in components], object)[order]
    multipolygons = shapely.multipolygons(grouped, indices=groups[order])
    shapes = [shape.geoms[0] if len(shape.geoms) == 1 else shape for shape in multipolygons]
    pairs = zip(values.tolist(), shapes, strict=True)
    return _simplify_all([Outline(value, shape) for value, shape in pairs], tolerance, min_area, min_hole_area)


def pieces(
    plane: NDArray[Any],
    offset: tuple[int, int] = (0, 0),
    tolerance: float = 0.0,
    min_area: float = 0.0,
    min_hole_area: float = 0.0,
) -> list[Outline]:
    """Return one outline for each connected component of a class map: pixels of one class connected by their sides.

    Args:
        plane: (H, W) integers or bool; values of 0 or below are background.
        offset: (x, y) of the first pixel, in px.
        tolerance: maximum distance of a simplified border from the pixel edges, in px; 0 keeps every step.
        min_area: components with fewer px are removed.
        min_hole_area: smaller holes are filled, in px; a component inside of such a hole stays.

    Returns:
        Outlines in raster order, each one valid polygon.

    Raises:
        ValueError: if the array is not 2D or not of integers.
    """
    return _simplify_all(_trace(plane, offset), tolerance, min_area, min_hole_area)


def simplify_shape(shape: Shape, tolerance: float = 0.0, min_hole_area: float = 0.0) -> Shape:
    """Fill small holes of a shape, remove collinear points and simplify it.

    Args:
        shape: exact polygons along pixel edges.
        tolerance: maximum distance that the border may move, in px; 0 moves nothing.
        min_hole_area: smaller holes are filled, in px.

    Returns:
        A valid shape; the exact one if the simplified one would be invalid or empty.
    """
    polygons = [_clean(polygon, min_hole_area) for polygon in shapely.get_parts(shape)]
    exact: Shape = polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)
    if len(polygons) > 1 and min_hole_area > 0:
        exact = shapely.union_all(polygons)  # a component may lie inside of a filled hole
    if tolerance <= 0:
        return exact
    simplified = shapely.simplify(exact, tolerance, preserve_topology=True)
    is_usable = simplified.geom_type in ("Polygon", "MultiPolygon") and simplified.is_valid and not simplified.is_empty
    return simplified if is_usable else exact


def _trace(plane: NDArray[Any], offset: tuple[int, int]) -> list[Outline]:
    """Return the exact polygon of each connected component."""
    plane = np.asarray(plane)
    if plane.ndim != 2:
        raise ValueError(f"the plane has the shape {plane.shape}; it must be (H, W)")
    if plane.dtype.kind not in "iub":
        raise ValueError(f"the plane holds {plane.dtype}; it must hold integers: classes or instance numbers")
    foreground = plane > 0
    rows, columns = np.flatnonzero(foreground.any(axis=1)), np.flatnonzero(foreground.any(axis=0))
    if len(rows) == 0:
        return []
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cropped = np.where(foreground[box], plane[box], 0)
    regions = label(cropped, background=0, connectivity=1)
    traced = rings(regions)
    value_of = np.zeros(int(regions.max()) + 1, np.int64)
    value_of[regions] = cropped
    points = traced.points + np.array([columns[0] + offset[0], rows[0] + offset[1]])
    lengths = np.diff(traced.starts, append=len(points))
    linear_rings = shapely.linearrings(points, indices=np.repeat(np.arange(len(lengths)), lengths))
    order = np.lexsort((traced.areas < 0, traced.regions))  # for each region the outer ring first, then its holes
    shapes = shapely.polygons(linear_rings[order], indices=traced.regions[order] - 1)
    return [Outline(value, shape) for value, shape in zip(value_of[1:].tolist(), shapes, strict=True)]


def _simplify_all(outlines: list[Outline], tolerance: float, min_area: float, min_hole_area: float) -> list[Outline]:
    """Simplify outlines of at least ``min_area`` px; traced outlines are returned unchanged if nothing is set."""
    if min_area > 0:
        outlines = [outline for outline in outlines if outline.shape.area >= min_area]
    if tolerance <= 0 and min_hole_area <= 0:
        return outlines
    return [Outline(value, simplify_shape(shape, tolerance, min_hole_area)) for value, shape in outlines]


def _clean(polygon: Polygon, min_hole_area: float) -> Polygon:
    """Remove small holes and collinear points."""
    holes = [hole for hole in polygon.interiors if min_hole_area <= 0 or Polygon(hole).area >= min_hole_area]
    return Polygon(_corners(polygon.exterior), [_corners(hole) for hole in holes])


def _corners(ring: shapely.LinearRing) -> NDArray[np.float64]:
    """Return the points of a ring where its direction changes."""
    points = shapely.get_coordinates(ring)[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
