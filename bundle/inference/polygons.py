"""Polygons of what a plane of numbers shows, exact to the pixel.

Pixel (column i, row j) covers [i, i + 1] x [j, j + 1], as QuPath has it, so the area of a polygon is its number of
pixels. Polygons follow the pixel sides as a staircase; ``tolerance`` straightens them afterwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import MultiPolygon, Polygon
from skimage.measure import label

from bundle.inference.tracing import rings

Shape: TypeAlias = Polygon | MultiPolygon


class Outline(NamedTuple):
    """What a plane shows of one number: a gland, or a piece of one.

    Args:
        value: the number, above 0: a class or an instance.
        shape: where it is, coordinates (x, y) in px.
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
    """Outline every number of a plane: one for each, of as many polygons as it has pieces.

    Pieces hang together by the sides of their pixels. Where an instance holds together at a corner only, its outline
    is a MultiPolygon of pieces that touch there.

    Args:
        plane: (H, W) integers or bool; what is 0 or below is background.
        offset: (x, y) of the plane's first pixel, in px.
        tolerance: how far a simplified border may lie from the pixel sides, in px; 0 keeps every step.
        min_area: outlines of fewer px are dropped.
        min_hole_area: holes that enclose fewer px are filled.

    Returns:
        Outlines in the order of their numbers, each valid.

    Raises:
        ValueError: for a plane that has not two dimensions or holds no integers.
    """
    parts = _pieces(plane, offset)
    if not parts:
        return []
    values, places = np.unique([part.value for part in parts], return_inverse=True)
    order = np.argsort(places, kind="stable")
    grouped = np.array([part.shape for part in parts], object)[order]
    several = shapely.multipolygons(grouped, indices=places[order])
    shapes = [shape.geoms[0] if len(shape.geoms) == 1 else shape for shape in several]
    found = zip(values.tolist(), shapes, strict=True)
    return _finished([Outline(value, shape) for value, shape in found], tolerance, min_area, min_hole_area)


def pieces(
    plane: NDArray[Any],
    offset: tuple[int, int] = (0, 0),
    tolerance: float = 0.0,
    min_area: float = 0.0,
    min_hole_area: float = 0.0,
) -> list[Outline]:
    """Outline every piece of a plane of classes: pixels of one number that hang together by their sides.

    Args:
        plane: (H, W) integers or bool; what is 0 or below is background.
        offset: (x, y) of the plane's first pixel, in px.
        tolerance: how far a simplified border may lie from the pixel sides, in px; 0 keeps every step.
        min_area: pieces of fewer px are dropped.
        min_hole_area: holes that enclose fewer px are filled; a piece that lies in such a hole stays.

    Returns:
        Outlines in the order in which rows meet the pieces, each one valid polygon.

    Raises:
        ValueError: for a plane that has not two dimensions or holds no integers.
    """
    return _finished(_pieces(plane, offset), tolerance, min_area, min_hole_area)


def finished(shape: Shape, tolerance: float = 0.0, min_hole_area: float = 0.0) -> Shape:
    """Fill the small holes of a shape, take out points that no corner needs, and simplify it.

    Args:
        shape: exact polygons along pixel sides.
        tolerance: how far the border may move, in px; 0 moves nothing.
        min_hole_area: holes that enclose fewer px are filled.

    Returns:
        A valid shape. Where a simplified one would be invalid or empty, the exact one.
    """
    polygons = [_cleaned(polygon, min_hole_area) for polygon in shapely.get_parts(shape)]
    exact: Shape = polygons[0] if len(polygons) == 1 else MultiPolygon(polygons)
    if len(polygons) > 1 and min_hole_area > 0:
        exact = shapely.union_all(polygons)  # a piece may lie in what was a hole
    if tolerance <= 0:
        return exact
    simple = shapely.simplify(exact, tolerance, preserve_topology=True)
    usable = simple.geom_type in ("Polygon", "MultiPolygon") and simple.is_valid and not simple.is_empty
    return simple if usable else exact


def _pieces(plane: NDArray[Any], offset: tuple[int, int]) -> list[Outline]:
    """The exact polygons of a plane, one a piece."""
    plane = np.asarray(plane)
    if plane.ndim != 2:
        raise ValueError(f"the plane has the shape {plane.shape}; it must be (H, W)")
    if plane.dtype.kind not in "iub":
        raise ValueError(f"the plane holds {plane.dtype}; it must hold integers: classes or numbers of instances")
    shown = plane > 0
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    if len(rows) == 0:
        return []
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    cropped = np.where(shown[box], plane[box], 0)
    regions = label(cropped, background=0, connectivity=1)
    traced = rings(regions)
    value_of = np.zeros(int(regions.max()) + 1, np.int64)
    value_of[regions] = cropped
    points = traced.points + np.array([columns[0] + offset[0], rows[0] + offset[1]])
    lengths = np.diff(traced.starts, append=len(points))
    every = shapely.linearrings(points, indices=np.repeat(np.arange(len(lengths)), lengths))
    order = np.lexsort((traced.areas < 0, traced.regions))  # of each region the outside first, then its holes
    shapes = shapely.polygons(every[order], indices=traced.regions[order] - 1)
    return [Outline(value, shape) for value, shape in zip(value_of[1:].tolist(), shapes, strict=True)]


def _finished(found: list[Outline], tolerance: float, min_area: float, min_hole_area: float) -> list[Outline]:
    """Finish outlines of at least ``min_area`` px; traced ones need nothing where nothing is asked."""
    if min_area > 0:
        found = [outline for outline in found if outline.shape.area >= min_area]
    if tolerance <= 0 and min_hole_area <= 0:
        return found
    return [Outline(value, finished(shape, tolerance, min_hole_area)) for value, shape in found]


def _cleaned(polygon: Polygon, min_hole_area: float) -> Polygon:
    """The polygon without small holes, its rings made of corners only."""
    holes = [hole for hole in polygon.interiors if min_hole_area <= 0 or Polygon(hole).area >= min_hole_area]
    return Polygon(_corners(polygon.exterior), [_corners(hole) for hole in holes])


def _corners(ring: shapely.LinearRing) -> NDArray[np.float64]:
    """The points of a ring at which its direction changes; those in the middle of a straight side are left out."""
    points = shapely.get_coordinates(ring)[:-1]
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    return points[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
