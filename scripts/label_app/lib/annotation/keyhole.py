"""Conversion of a polygon with holes to one ring, which reaches each hole over a bridge and returns over it.

A bridge is passed once in each direction, so it encloses nothing. Holes have the opposite orientation of the outer
ring, so even-odd and nonzero filling both give the polygon. Formats without holes need this: ASAP XML, and QuPath.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from .ray_intersections import intersect_left_rays

Points = NDArray[np.float64]


def keyhole(polygon: Polygon) -> Points:
    """Return one ring for a polygon with its holes.

    Each hole is connected from its leftmost point to the nearest ring on the left: the outer ring, or a hole that
    starts farther left. So bridges stay inside of a valid polygon and cross nothing. Where a bridge ends inside of a
    slanted edge, the new point is exact up to rounding.

    Args:
        polygon: valid polygon, not empty.

    Returns:
        (N, 2) points in px, without the closing one. Without holes, the points of the outer ring.
    """
    polygon = shapely.orient_polygons(polygon)
    outer = shapely.get_coordinates(polygon.exterior)
    holes = [_start_at_leftmost(shapely.get_coordinates(hole)) for hole in polygon.interiors]
    rings = [outer, *sorted(holes, key=lambda points: tuple(points[0]))]
    paths = [[ring[:1]] for ring in rings]  # filled from the last: a hole is joined to a ring that comes before it
    bridges = _bridges(rings) if holes else [[]]
    for number in range(len(rings) - 1, -1, -1):
        ring, position = rings[number], 0
        for side, end, hole in bridges[number]:
            paths[number] += [ring[position + 1 : side + 1], end, *paths[hole], end]
            position = side
            paths[hole] = []
        paths[number].append(ring[position + 1 :])
    path = np.concatenate(paths[0])
    is_repeated = np.append(False, (path[1:] == path[:-1]).all(axis=1))
    return path[~is_repeated][:-1]


def _start_at_leftmost(closed: Points) -> Points:
    """Rotate a closed ring so that it starts and ends at its leftmost point."""
    points = closed[:-1]
    points = np.roll(points, -int(np.lexsort((points[:, 1], points[:, 0]))[0]), axis=0)
    return np.append(points, points[:1], axis=0)


def _bridges(rings: list[Points]) -> list[list[tuple[int, Points, int]]]:
    """Find the bridges of all holes.

    Args:
        rings: the outer ring, then the holes, each from its leftmost point, sorted from left to right.

    Returns:
        For each ring (side, (1, 2) point on it, hole), in the order of the ring.
    """
    starts, ends = np.concatenate([ring[:-1] for ring in rings]), np.concatenate([ring[1:] for ring in rings])
    lengths = np.array([len(ring) - 1 for ring in rings])
    owner = np.repeat(np.arange(len(rings)), lengths)
    offsets = np.cumsum(lengths) - lengths
    hole_starts = np.array([ring[0] for ring in rings[1:]])
    sides = np.zeros(len(hole_starts), int)  # a hole outside of an invalid polygon keeps 0: any bridge encloses nothing
    bridge_ends = np.repeat(starts[:1], len(hole_starts), axis=0)
    for intersections in intersect_left_rays(hole_starts, starts, ends):
        is_earlier_ring = owner[intersections.side] <= intersections.point  # hole number 0 is ring 1
        point, side, x = (
            intersections.point[is_earlier_ring],
            intersections.side[is_earlier_ring],
            intersections.x[is_earlier_ring],
        )
        order = np.lexsort((x, point))
        nearest = order[np.append(point[order][1:] != point[order][:-1], True)[: len(order)]]
        sides[point[nearest]] = side[nearest]
        bridge_ends[point[nearest]] = np.stack([x[nearest], hole_starts[point[nearest], 1]], axis=1)
    bridges: list[list[tuple[int, Points, int]]] = [[] for _ in rings]
    distance_along = np.abs(bridge_ends[:, 1] - starts[sides, 1])
    for hole in np.lexsort((distance_along, sides)).tolist():
        ring = owner[sides[hole]]
        bridges[ring].append((int(sides[hole] - offsets[ring]), bridge_ends[hole : hole + 1], hole + 1))
    return bridges
