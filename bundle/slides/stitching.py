"""Stitching of gland outlines across the blocks of a slide, while the blocks are predicted.

The cores of the blocks tile the tissue. A part of a gland that touches a core not yet received waits for it. Parts in
two cores are joined if they share a border; parts that meet at a corner only are not, as inside of a block. A gland is
emitted as soon as no core to come can touch it, so about one row of blocks waits in memory.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely import Polygon

from bundle.inference.polygons import Outline, simplify_shape

Core = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in px of the full resolution; x1 and y1 are exclusive."""
Axis = Literal[0, 1]


@dataclass
class _Gland:
    """Parts of a gland, the number of its contacts with cores to come, and the glands that were merged into it."""

    value: int
    shapes: list[Polygon]
    pending_contacts: int = 0
    merged: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Seam:
    """Common border of two cores: the line ``axis`` = ``position`` from ``low`` to ``high``; axis 0 is x (vertical)."""

    axis: Axis
    position: int
    low: int
    high: int


Contact = tuple[float, float, int, int]
"""Interval of a seam that a part covers (start, end), its class, and its number."""


class OutlineJoiner:
    """Join outlines across blocks.

    Args:
        cores: cores of all blocks; they must not overlap, may differ in size and leave gaps.
        emit: function that is called with each complete gland.
        min_area: smaller glands are removed, in px.
        tolerance: maximum distance that the border of a gland may move by simplification, in px; 0 keeps every step.
            The joined gland is simplified, so no seams remain.

    Raises:
        ValueError: if cores overlap.
    """

    def __init__(
        self,
        cores: Sequence[Core],
        emit: Callable[[Outline], None],
        min_area: float = 0.0,
        tolerance: float = 0.0,
    ) -> None:
        self.cores = list(cores)
        self.emit = emit
        self.min_area = min_area
        self.tolerance = tolerance
        self._seams = _seams(self.cores)
        self._received = [False] * len(self.cores)
        self._contacts: dict[tuple[int, int], list[Contact]] = {}
        self._glands: dict[int, _Gland] = {}
        self._merged_into: dict[int, int] = {}
        self._next = 0

    @property
    def waiting(self) -> int:
        """Number of parts that wait for cores to come."""
        return sum(len(gland.shapes) for gland in self._glands.values())

    def put(self, index: int, outlines: Iterable[Outline]) -> None:
        """Add the outlines of one block and emit the glands that they complete; blocks may come in any order.

        Args:
            index: index of the core.
            outlines: outlines in the core, exact along pixel edges; may be empty.

        Raises:
            ValueError: if the core was added before, or an outline exceeds it.
        """
        if self._received[index]:
            raise ValueError(f"block {index} was added twice; add each block once")
        self._received[index] = True
        added = [self._add(index, outline.value, part) for outline in outlines for part in _polygons(outline)]
        changed = {number for number, *_ in added}
        for neighbor, seam in self._seams[index]:
            contacts = [
                (low, high, value, number) for number, value, shape in added for low, high in _stretches(shape, seam)
            ]
            if self._received[neighbor]:
                changed |= self._join_contacts(self._contacts.pop((neighbor, index)), contacts)
            else:
                self._contacts[index, neighbor] = contacts
                for *_, number in contacts:
                    self._glands[self._gland(number)].pending_contacts += 1
        for number in sorted({self._gland(number) for number in changed}):
            if self._glands[number].pending_contacts == 0:
                self._emit_gland(number)

    def close(self) -> None:
        """Emit all waiting glands; blocks that were not added count as empty."""
        for number in sorted(self._glands):
            self._emit_gland(number)
        self._contacts.clear()
        self._received = [True] * len(self._received)

    def _add(self, index: int, value: int, shape: Polygon) -> tuple[int, int, Polygon]:
        """Give a part a number and a new gland."""
        x0, y0, x1, y1 = shape.bounds
        core = self.cores[index]
        if x0 < core[0] or y0 < core[1] or x1 > core[2] or y1 > core[3]:
            raise ValueError(f"an outline with the bounds {shape.bounds} exceeds its block's core {core}")
        number = self._next
        self._next += 1
        self._glands[number] = _Gland(value, [shape])
        return number, value, shape

    def _join_contacts(self, earlier: list[Contact], later: list[Contact]) -> set[int]:
        """Join parts that overlap along a seam, and remove the pending contacts of the earlier parts."""
        lows: dict[int, list[float]] = defaultdict(list)
        earlier_of: dict[int, list[Contact]] = defaultdict(list)
        for contact in sorted(earlier):  # in one core and of one class, so no two overlap
            lows[contact[2]].append(contact[0])
            earlier_of[contact[2]].append(contact)
            self._glands[self._gland(contact[3])].pending_contacts -= 1
        for low, high, value, number in later:
            index = max(bisect_right(lows[value], low) - 1, 0)
            for earlier_low, earlier_high, _, earlier_number in earlier_of[value][index:]:
                if earlier_low >= high:
                    break
                if earlier_high > low:
                    self._merge(earlier_number, number)
        return {number for *_, number in earlier}

    def _gland(self, number: int) -> int:
        """Return the gland that a part belongs to (union-find with path compression)."""
        visited = []
        while number in self._merged_into:
            visited.append(number)
            number = self._merged_into[number]
        for previous in visited:
            self._merged_into[previous] = number
        return number

    def _merge(self, target: int, source: int) -> None:
        """Merge two glands."""
        target, source = self._gland(target), self._gland(source)
        if target == source:
            return
        if len(self._glands[target].shapes) < len(self._glands[source].shapes):
            target, source = source, target
        removed = self._glands.pop(source)
        self._glands[target].shapes += removed.shapes
        self._glands[target].pending_contacts += removed.pending_contacts
        self._glands[target].merged += [source, *removed.merged]
        self._merged_into[source] = target

    def _emit_gland(self, number: int) -> None:
        """Emit a complete gland."""
        gland = self._glands.pop(number)
        for merged_number in gland.merged:
            del self._merged_into[merged_number]
        merged_shape = gland.shapes[0] if len(gland.shapes) == 1 else shapely.union_all(gland.shapes)
        if merged_shape.area >= self.min_area:
            self.emit(Outline(gland.value, simplify_shape(merged_shape, self.tolerance)))


def _polygons(outline: Outline) -> list[Polygon]:
    return list(shapely.get_parts(outline.shape))


def _seams(cores: list[Core]) -> list[list[tuple[int, _Seam]]]:
    """Return for each core its neighbors with a common border, and the border."""
    seams: list[list[tuple[int, _Seam]]] = [[] for _ in cores]
    corners = np.array(cores).reshape(-1, 4)
    non_empty = np.flatnonzero((corners[:, 2:] > corners[:, :2]).all(axis=1))  # an empty core has no seams
    boxes = shapely.box(*corners[non_empty].T)
    for first, second in non_empty[shapely.STRtree(boxes).query(boxes, predicate="intersects").T].tolist():
        if first == second:
            continue
        low = np.maximum(corners[first, :2], corners[second, :2])
        high = np.minimum(corners[first, 2:], corners[second, 2:])
        if (high > low).all():
            raise ValueError(f"the cores {cores[first]} and {cores[second]} overlap; they must tile the slide")
        if (high > low).any():  # otherwise they touch at a corner
            axis: Axis = 0 if high[0] == low[0] else 1
            seams[first].append((second, _Seam(axis, int(low[axis]), int(low[1 - axis]), int(high[1 - axis]))))
    return seams


def _stretches(shape: Polygon, seam: _Seam) -> list[tuple[float, float]]:
    """Return the intervals of a seam that a part covers; only its outer ring can lie there."""
    bounds = shape.bounds
    if seam.position not in (bounds[seam.axis], bounds[seam.axis + 2]):
        return []
    points: NDArray[np.float64] = shapely.get_coordinates(shape.exterior)
    coordinates = points[:, 1 - seam.axis]
    on_line = points[:, seam.axis] == seam.position
    sides = np.flatnonzero(on_line[:-1] & on_line[1:])
    low = np.maximum(np.minimum(coordinates[sides], coordinates[sides + 1]), seam.low)
    high = np.minimum(np.maximum(coordinates[sides], coordinates[sides + 1]), seam.high)
    return [(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True) if a < b]
