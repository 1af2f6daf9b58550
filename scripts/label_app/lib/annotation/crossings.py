"""Limits on tangled outlines: a small file could otherwise take minutes and gigabytes to fill.

Filling an outline takes time and memory for each place where it crosses itself, and a ring of 800 random points crosses
itself 70,000 times. Outlines of viewers and of masks do so a few times, after their coordinates were rounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import shapely
from numpy.typing import NDArray

from .errors import AnnotationError

CROSSINGS = 2_000
"""Largest number of pairs of edges of an object that cross."""
RETRACED = 50_000
"""Largest number of pairs of edges that lie on each other; each hole that is reached over a bridge has one."""
NEAR = 10_000_000
"""Largest number of pairs of edges whose bounding boxes overlap; tests for validity take time for each of them."""
SMALL = 1_000
"""Number of edges below which all pairs are few."""
BLOCK = 2_000_000
"""Number of pairs that are compared at once, to bound the memory."""

Points = NDArray[np.float64]


class Edges:
    """Edges of closed rings.

    Args:
        rings: arrays (N, 2), px, without the closing point.
    """

    def __init__(self, rings: Sequence[Points]) -> None:
        self.starts = np.concatenate(rings)
        self.ends = np.concatenate([np.roll(ring, -1, axis=0) for ring in rings])
        self.low, self.high = np.minimum(self.starts, self.ends), np.maximum(self.starts, self.ends)

    def __len__(self) -> int:
        return len(self.starts)

    def near_pairs(self) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Yield the pairs of edges whose bounding boxes overlap, in blocks, each pair once.

        Raises:
            AnnotationError: if there are more than ``NEAR``.
        """
        tree = shapely.STRtree(shapely.linestrings(np.stack([self.starts, self.ends], axis=1)))
        blocks = np.cumsum(self._overlaps()) // BLOCK
        borders = np.searchsorted(blocks, np.arange(blocks[-1] + 2))
        total = 0
        for first, last in pairwise(borders.tolist()):
            left, right = tree.query(tree.geometries[first:last])
            is_first = right > left + first
            left, right = left[is_first] + first, right[is_first]
            total += len(left)
            if total > NEAR:
                raise AnnotationError(
                    f"its outline is tangled: more than {NEAR:,} pairs of its edges are near each other; simplify or "
                    "redraw it"
                )
            yield left, right

    def _overlaps(self) -> NDArray[np.intp]:
        """Return for each edge how many edges overlap it along x, or along y if these are fewer."""
        by_axis = [
            np.searchsorted(np.sort(self.low[:, axis]), self.high[:, axis], "right")
            - np.searchsorted(np.sort(self.high[:, axis]), self.low[:, axis], "left")
            for axis in (0, 1)
        ]
        return min(by_axis, key=lambda overlaps: int(overlaps.sum()))

    def share_length(self, first: NDArray[np.intp], second: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return whether edges on the same line have more than a point in common."""
        low = np.maximum(self.low[first], self.low[second])
        return np.asarray((np.minimum(self.high[first], self.high[second]) > low).any(axis=1))

    def side(self, edge: NDArray[np.intp], points: Points) -> Points:
        """Return on which side of an edge each point lies: -1, 0 or 1."""
        (x, y), (to_x, to_y), (point_x, point_y) = self.starts[edge].T, self.ends[edge].T, points.T
        sides: Points = np.sign((to_x - x) * (point_y - y) - (to_y - y) * (point_x - x))
        return sides


def check_density(rings: Sequence[Points]) -> None:
    """Check that a test for validity will not take long.

    Raises:
        AnnotationError: if too many pairs of edges are near each other.
    """
    edges = Edges(rings)
    if len(edges) > SMALL:
        for _ in edges.near_pairs():  # the generator raises the error
            continue


def check_crossings(rings: Sequence[Points]) -> None:
    """Check that the rings of an object do not cross or retrace each other or themselves too often.

    Raises:
        AnnotationError: if they do.
    """
    edges = Edges(rings)
    crossings = retraced = 0
    for first, second in edges.near_pairs():
        start, end = edges.side(first, edges.starts[second]), edges.side(first, edges.ends[second])
        is_across = start * end < 0
        on_line = (start == 0) & (end == 0) & edges.share_length(first, second)
        back = edges.side(second[is_across], edges.starts[first[is_across]])
        crossings += int((back * edges.side(second[is_across], edges.ends[first[is_across]]) < 0).sum())
        retraced += int(on_line.sum())
        if crossings > CROSSINGS or retraced > RETRACED:
            what = f"crosses itself more than {CROSSINGS:,}" if crossings > CROSSINGS else f"retraces {RETRACED:,}"
            raise AnnotationError(f"its outline {what} times; simplify or redraw it")
