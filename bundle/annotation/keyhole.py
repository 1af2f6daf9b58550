"""One ring for a polygon with holes: it goes to each hole over a bridge, around it and back over the same bridge.

A bridge is walked once in each direction, so it encloses nothing. Holes are walked against the outer ring. So even-odd
and nonzero filling both give the polygon. Formats without holes need this: ASAP's XML, and QuPath's reader of it.
"""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from bundle.annotation.rays import met_to_the_left

Points = NDArray[np.float64]


def keyhole(polygon: Polygon) -> Points:
    """The ring of a polygon and its holes.

    From its leftmost point each hole is joined to what lies next to the left: the outer ring, or a hole that starts
    farther left. So bridges stay inside of a valid polygon and cross nothing. Where a bridge meets the middle of a
    slanted side, the new point is as near to it as numbers are.

    Args:
        polygon: valid, not empty.

    Returns:
        (N, 2) points in px, the last joined to the first. Without holes the outer ring's own.
    """
    polygon = shapely.orient_polygons(polygon)
    outer = shapely.get_coordinates(polygon.exterior)
    holes = [_from_leftmost(shapely.get_coordinates(hole)) for hole in polygon.interiors]
    rings = [outer, *sorted(holes, key=lambda points: tuple(points[0]))]
    walks = [[ring[:1]] for ring in rings]  # filled from the last: a hole is joined to a ring that comes before it
    bridges = _bridges(rings) if holes else [[]]
    for number in range(len(rings) - 1, -1, -1):
        ring, done = rings[number], 0
        for place, end, hole in bridges[number]:
            walks[number] += [ring[done + 1 : place + 1], end, *walks[hole], end]
            done = place
            walks[hole] = []
        walks[number].append(ring[done + 1 :])
    walk = np.concatenate(walks[0])
    again = np.append(False, (walk[1:] == walk[:-1]).all(axis=1))
    return walk[~again][:-1]


def _from_leftmost(closed: Points) -> Points:
    """A closed ring that starts and ends at its leftmost point."""
    points = closed[:-1]
    points = np.roll(points, -int(np.lexsort((points[:, 1], points[:, 0]))[0]), axis=0)
    return np.append(points, points[:1], axis=0)


def _bridges(rings: list[Points]) -> list[list[tuple[int, Points, int]]]:
    """Where bridges end.

    Args:
        rings: the outer ring, then holes that start at their leftmost point, from left to right.

    Returns:
        For each ring (side, (1, 2) place on it, hole), in the order in which the ring is walked.
    """
    starts, ends = np.concatenate([ring[:-1] for ring in rings]), np.concatenate([ring[1:] for ring in rings])
    lengths = np.array([len(ring) - 1 for ring in rings])
    owner = np.repeat(np.arange(len(rings)), lengths)
    first = np.cumsum(lengths) - lengths
    heads = np.array([ring[0] for ring in rings[1:]])
    sides = np.zeros(len(heads), int)  # a hole outside of an invalid polygon keeps 0: any bridge encloses nothing
    places = np.repeat(starts[:1], len(heads), axis=0)
    for met in met_to_the_left(heads, starts, ends):
        before = owner[met.side] <= met.point  # hole number 0 is ring 1
        point, side, x = met.point[before], met.side[before], met.x[before]
        order = np.lexsort((x, point))
        nearest = order[np.append(point[order][1:] != point[order][:-1], True)[: len(order)]]
        sides[point[nearest]] = side[nearest]
        places[point[nearest]] = np.stack([x[nearest], heads[point[nearest], 1]], axis=1)
    bridges: list[list[tuple[int, Points, int]]] = [[] for _ in rings]
    along = np.abs(places[:, 1] - starts[sides, 1])
    for hole in np.lexsort((along, sides)).tolist():
        ring = owner[sides[hole]]
        bridges[ring].append((int(sides[hole] - first[ring]), places[hole : hole + 1], hole + 1))
    return bridges
