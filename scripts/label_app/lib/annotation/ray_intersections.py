"""Intersections of horizontal rays to the left with many edges at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import STRtree

BLOCK = 256
"""Number of rays that are processed at once, to bound the memory."""


class Intersections(NamedTuple):
    """Intersections, one entry for each pair of ray and edge.

    Args:
        point: (M,) index of the ray's start; all entries of one point are in the same block.
        side: (M,) index of the edge.
        x: (M,) coordinate of the intersection, px.
        passes: (M,) whether the edge crosses the ray. Of two edges that meet on the ray, exactly one passes if the ray
            is crossed there, and none or both if it is only touched.
    """

    point: NDArray[np.intp]
    side: NDArray[np.intp]
    x: NDArray[np.float64]
    passes: NDArray[np.bool_]


def intersect_left_rays(
    points: NDArray[np.float64], starts: NDArray[np.float64], ends: NDArray[np.float64]
) -> Iterator[Intersections]:
    """Intersect a ray from each point to the left, including its start, with edges. Horizontal edges are ignored.

    Args:
        points: (P, 2) px.
        starts: (N, 2) px, one end of each edge.
        ends: (N, 2) px, the other end.

    Yields:
        The intersections of the rays, in blocks of points.
    """
    tree = STRtree(shapely.linestrings(np.stack([starts, ends], axis=1)))
    x_min = float(starts[:, 0].min()) - 1
    for first in range(0, len(points), BLOCK):
        x, y = points[first : first + BLOCK].T
        ray, side = tree.query(shapely.box(np.minimum(x_min, x), y, x, y))
        (from_x, from_y), (to_x, to_y) = starts[side].T, ends[side].T
        rise = to_y - from_y
        fraction = np.divide(y[ray] - from_y, rise, out=np.zeros_like(rise), where=rise != 0)
        x_met = np.where(y[ray] == to_y, to_x, from_x + fraction * (to_x - from_x))
        passes = (from_y <= y[ray]) != (to_y <= y[ray])
        is_met = (rise != 0) & (x_met <= x[ray])
        yield Intersections(ray[is_met] + first, side[is_met], x_met[is_met], passes[is_met])
