"""Which sides a level ray to the left meets, for many points and sides at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import STRtree

BLOCK = 2048
"""Points that are looked at together; more only take more memory."""


class Met(NamedTuple):
    """Sides that rays meet, one entry for each ray and side.

    Args:
        point: (M,) which point the ray starts from; all entries of a point are in one block.
        side: (M,) which side it meets.
        x: (M,) px, where.
        passes: (M,) whether the side leads to the ray's other bank. Of two sides that meet on the ray, one does if
            the ray is crossed there, and none or both if it is only touched.
    """

    point: NDArray[np.intp]
    side: NDArray[np.intp]
    x: NDArray[np.float64]
    passes: NDArray[np.bool_]


def met_to_the_left(
    points: NDArray[np.float64], starts: NDArray[np.float64], ends: NDArray[np.float64]
) -> Iterator[Met]:
    """Follow a ray from each point to the left, its start included. Level sides are met by no ray.

    Args:
        points: (P, 2) px.
        starts: (N, 2) px, one end of each side.
        ends: (N, 2) px, the other.

    Yields:
        What the rays of some points meet, the next points, and so on.
    """
    tree = STRtree(shapely.linestrings(np.stack([starts, ends], axis=1)))
    least = float(starts[:, 0].min()) - 1
    for first in range(0, len(points), BLOCK):
        x, y = points[first : first + BLOCK].T
        which, side = tree.query(shapely.box(np.minimum(least, x), y, x, y))
        (from_x, from_y), (to_x, to_y) = starts[side].T, ends[side].T
        rise = to_y - from_y
        share = np.divide(y[which] - from_y, rise, out=np.zeros_like(rise), where=rise != 0)
        at = np.where(y[which] == to_y, to_x, from_x + share * (to_x - from_x))
        passes = (from_y <= y[which]) != (to_y <= y[which])
        kept = (rise != 0) & (at <= x[which])
        yield Met(which[kept] + first, side[kept], at[kept], passes[kept])
