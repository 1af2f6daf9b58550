"""Glands that reach over several blocks of a slide, put together from their pieces as the blocks come in.

Blocks tile the tissue of a slide with their cores. A piece that touches a core still to come waits for it. Pieces of
two cores join where they share a border of some length; those that meet at a corner only do not, as inside of a block.
A gland is handed on as soon as no core that is still to come can touch it, so what waits is about one band of blocks.
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

from bundle.inference.polygons import Outline, finished

Core = tuple[int, int, int, int]
"""(x0, y0, x1, y1) in px of the full resolution; x1 and y1 are the first that lie outside."""
Axis = Literal[0, 1]


@dataclass
class _Gland:
    """Pieces that belong together, how many contacts with cores to come still hold them back, and what joined it."""

    value: int
    shapes: list[Polygon]
    waits_for: int = 0
    joined: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Seam:
    """Where two cores touch: the line ``axis`` = ``place`` from ``low`` to ``high``; axis 0 is x, a vertical line."""

    axis: Axis
    place: int
    low: int
    high: int


Contact = tuple[float, float, int, int]
"""Stretch of a seam that a piece covers, from and to, its value, and its number."""


class OutlineJoiner:
    """Puts outlines of blocks together.

    Args:
        cores: of all blocks that will come, which do not overlap; they may differ in size and leave gaps.
        emit: gets each finished gland, one polygon each.
        min_area: glands of fewer px are dropped.
        tolerance: how far the border of a gland may move when it is simplified, in px; 0 keeps every step. It is
            simplified as a whole, so nothing is left of the seams.

    Raises:
        ValueError: for cores that overlap.
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
        self._here = [False] * len(self.cores)
        self._contacts: dict[tuple[int, int], list[Contact]] = {}
        self._glands: dict[int, _Gland] = {}
        self._joined_to: dict[int, int] = {}
        self._next = 0

    @property
    def waiting(self) -> int:
        """How many pieces wait for cores to come."""
        return sum(len(gland.shapes) for gland in self._glands.values())

    def put(self, index: int, outlines: Iterable[Outline]) -> None:
        """Take the outlines of one block, in any order of blocks, and hand on what they finish.

        Args:
            index: which of the cores it is.
            outlines: what its core shows, exact along the sides of its pixels and inside of it; none is fine.

        Raises:
            ValueError: for a core that came before, or an outline that reaches out of it.
        """
        if self._here[index]:
            raise ValueError(f"block {index} came twice; hand in each block once")
        self._here[index] = True
        fresh = [self._taken(index, outline.value, part) for outline in outlines for part in _polygons(outline)]
        touched = {number for number, *_ in fresh}
        for other, seam in self._seams[index]:
            contacts = [
                (low, high, value, number) for number, value, shape in fresh for low, high in _stretches(shape, seam)
            ]
            if self._here[other]:
                touched |= self._join(self._contacts.pop((other, index)), contacts)
            else:
                self._contacts[index, other] = contacts
                for *_, number in contacts:
                    self._glands[self._gland(number)].waits_for += 1
        for number in sorted({self._gland(number) for number in touched}):
            if self._glands[number].waits_for == 0:
                self._hand_on(number)

    def close(self) -> None:
        """Hand on all that waits: a block that has not come by now shows nothing."""
        for number in sorted(self._glands):
            self._hand_on(number)
        self._contacts.clear()
        self._here = [True] * len(self._here)

    def _taken(self, index: int, value: int, shape: Polygon) -> tuple[int, int, Polygon]:
        """Give a piece a number and a gland of its own."""
        x0, y0, x1, y1 = shape.bounds
        core = self.cores[index]
        if x0 < core[0] or y0 < core[1] or x1 > core[2] or y1 > core[3]:
            raise ValueError(f"an outline with the bounds {shape.bounds} reaches out of its block's core {core}")
        number = self._next
        self._next += 1
        self._glands[number] = _Gland(value, [shape])
        return number, value, shape

    def _join(self, waited: list[Contact], fresh: list[Contact]) -> set[int]:
        """Join pieces that cover the same stretch of a seam, and take back that the first ones wait for it."""
        lows: dict[int, list[float]] = defaultdict(list)
        held: dict[int, list[Contact]] = defaultdict(list)
        for contact in sorted(waited):  # of one core and one value, so no two overlap
            lows[contact[2]].append(contact[0])
            held[contact[2]].append(contact)
            self._glands[self._gland(contact[3])].waits_for -= 1
        for low, high, value, number in fresh:
            place = max(bisect_right(lows[value], low) - 1, 0)
            for other_low, other_high, _, other in held[value][place:]:
                if other_low >= high:
                    break
                if other_high > low:
                    self._unite(other, number)
        return {number for *_, number in waited}

    def _gland(self, number: int) -> int:
        """The gland that a piece belongs to, and a short way to it for the next time."""
        way = []
        while number in self._joined_to:
            way.append(number)
            number = self._joined_to[number]
        for passed in way:
            self._joined_to[passed] = number
        return number

    def _unite(self, one: int, other: int) -> None:
        """Make one gland of two."""
        one, other = self._gland(one), self._gland(other)
        if one == other:
            return
        if len(self._glands[one].shapes) < len(self._glands[other].shapes):
            one, other = other, one
        gone = self._glands.pop(other)
        self._glands[one].shapes += gone.shapes
        self._glands[one].waits_for += gone.waits_for
        self._glands[one].joined += [other, *gone.joined]
        self._joined_to[other] = one

    def _hand_on(self, number: int) -> None:
        """Emit a gland that is complete."""
        gland = self._glands.pop(number)
        for gone in gland.joined:
            del self._joined_to[gone]
        whole = gland.shapes[0] if len(gland.shapes) == 1 else shapely.union_all(gland.shapes)
        if whole.area >= self.min_area:
            self.emit(Outline(gland.value, finished(whole, self.tolerance)))


def _polygons(outline: Outline) -> list[Polygon]:
    return list(shapely.get_parts(outline.shape))


def _seams(cores: list[Core]) -> list[list[tuple[int, _Seam]]]:
    """For each core the cores that touch it along some length, and where."""
    seams: list[list[tuple[int, _Seam]]] = [[] for _ in cores]
    corners = np.array(cores).reshape(-1, 4)
    shown = np.flatnonzero((corners[:, 2:] > corners[:, :2]).all(axis=1))  # an empty core has no seams
    boxes = shapely.box(*corners[shown].T)
    for one, other in shown[shapely.STRtree(boxes).query(boxes, predicate="intersects").T].tolist():
        if one == other:
            continue
        low = np.maximum(corners[one, :2], corners[other, :2])
        high = np.minimum(corners[one, 2:], corners[other, 2:])
        if (high > low).all():
            raise ValueError(f"the cores {cores[one]} and {cores[other]} overlap; they must tile the slide")
        if (high > low).any():  # else they meet at a corner
            axis: Axis = 0 if high[0] == low[0] else 1
            seams[one].append((other, _Seam(axis, int(low[axis]), int(low[1 - axis]), int(high[1 - axis]))))
    return seams


def _stretches(shape: Polygon, seam: _Seam) -> list[tuple[float, float]]:
    """The stretches of a seam that a piece covers; only its outer ring can lie there."""
    bounds = shape.bounds
    if seam.place not in (bounds[seam.axis], bounds[seam.axis + 2]):
        return []
    points: NDArray[np.float64] = shapely.get_coordinates(shape.exterior)
    along = points[:, 1 - seam.axis]
    on_line = points[:, seam.axis] == seam.place
    sides = np.flatnonzero(on_line[:-1] & on_line[1:])
    low = np.maximum(np.minimum(along[sides], along[sides + 1]), seam.low)
    high = np.minimum(np.maximum(along[sides], along[sides + 1]), seam.high)
    return [(a, b) for a, b in zip(low.tolist(), high.tolist(), strict=True) if a < b]
