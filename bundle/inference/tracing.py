"""The borders of the regions of a plane as closed rings along pixel sides, found for all regions at once.

A region is a set of pixels of one number that hang together by their sides. Its border runs with the region on the
right hand as a picture is shown (rows downwards): round the outside clockwise, round a hole the other way. Where two
of its pixels meet at a corner only, the border turns right, so it never passes from one to the other there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Rings:
    """Closed rings, one after the other; the last point of a ring is not its first again.

    Args:
        points: (points, 2) int64, columns x and y in px; only the corners of the border.
        starts: (rings,), where each ring begins in ``points``.
        regions: (rings,), number of the region that each ring bounds.
        areas: (rings,), what each encloses in px, positive round the outside of a region, negative round a hole.
    """

    points: Integers
    starts: Integers
    regions: Integers
    areas: Integers


@dataclass(frozen=True)
class _Sides:
    """Straight pieces of border, from corner to corner: start and end as grid points, and the region at the right."""

    start: Integers
    end: Integers
    region: Integers


def rings(regions: Integers) -> Rings:
    """Trace every region of a plane.

    Args:
        regions: (H, W), 0 background; each other number names one set of pixels that hang together by their sides.

    Returns:
        Simple rings: none passes a point twice. For each region exactly one ring runs round the outside.
    """
    padded = np.pad(regions, 1)
    width = padded.shape[1] - 1  # grid points in a row: one more than pixels
    right, left = _horizontal(padded, width)
    down, up = _vertical(padded, width)
    sides = [right, down, left, up]
    firsts = np.cumsum([0, *(len(side.start) for side in sides)])
    following = np.empty(firsts[-1], np.int64)
    for place, side in enumerate(sides):
        turn, other = (place + 1) % 4, (place + 3) % 4  # to the right, to the left
        following[firsts[place] : firsts[place + 1]] = np.where(
            (found := _beginning(sides[turn], side)) >= 0,
            firsts[turn] + found,
            firsts[other] + _beginning(sides[other], side),
        )
    order, starts = _walks(following)
    corners = np.concatenate([side.start for side in sides])[order]
    owners = np.concatenate([side.region for side in sides])[order]
    corners, starts, owners = _simple(corners, starts, owners[starts])
    points = np.stack([corners % width, corners // width], axis=1)
    return Rings(points, starts, owners, _areas(points, starts))


def _runs(row_of_sides: Integers, beyond: Integers) -> tuple[Integers, Integers, Integers]:
    """Runs of one region in lines of unit sides: where they begin and end in the flat array, and the region.

    Args:
        row_of_sides: (lines, sides), the region on the right of each unit side.
        beyond: (lines, sides), the region on its left.
    """
    border = np.where(row_of_sides != beyond, row_of_sides, 0)
    border = np.pad(border, ((0, 0), (0, 1)))  # so that no run goes on in the next line
    flat = border.ravel()
    change = np.flatnonzero(np.diff(flat, prepend=flat.dtype.type(0)))
    region = flat[change]
    inside = np.flatnonzero(region)
    return change[inside], change[inside + 1], region[inside]


def _horizontal(padded: Integers, width: int) -> tuple[_Sides, _Sides]:
    """Sides along rows: to the right over a region's pixels, to the left under them."""
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]  # each line holds width - 1 unit sides, and one of padding
    start, end, region = _runs(below, above)
    right = _Sides(start, end, region)
    start, end, region = _runs(above, below)
    return right, _Sides(end, start, region)


def _vertical(padded: Integers, width: int) -> tuple[_Sides, _Sides]:
    """Sides along columns: down at the right of a region's pixels, up at their left."""
    west, east = padded[1:-1, :-1].T, padded[1:-1, 1:].T
    height = west.shape[1] + 1  # grid points in a column

    def point(place: Integers) -> Integers:
        return (place % height) * width + place // height

    start, end, region = _runs(west, east)
    down = _Sides(point(start), point(end), region)
    start, end, region = _runs(east, west)
    return down, _Sides(point(end), point(start), region)


def _beginning(candidates: _Sides, sides: _Sides) -> Integers:
    """For each side the candidate of the same region that begins where it ends, -1 where none does.

    Of one direction at most one side begins at a point: the pixel on its right is always the same.
    """
    if len(candidates.start) == 0:
        return np.full(len(sides.end), -1)
    order = np.argsort(candidates.start)
    place = np.searchsorted(candidates.start, sides.end, sorter=order)
    found = order[np.minimum(place, len(order) - 1)]
    fits = (candidates.start[found] == sides.end) & (candidates.region[found] == sides.region)
    return np.where(fits, found, -1)


def _walks(following: Integers) -> tuple[Integers, Integers]:
    """Follow a permutation round all its circles: the places in the order of the walk, and where each begins in it."""
    successor = following.tolist()
    met = bytearray(len(successor))
    order: list[int] = []
    starts: list[int] = []
    for first in range(len(successor)):
        if met[first]:
            continue
        starts.append(len(order))
        place = first
        while not met[place]:
            met[place] = 1
            order.append(place)
            place = successor[place]
    return np.array(order, np.int64), np.array(starts, np.int64)


def _simple(corners: Integers, starts: Integers, owners: Integers) -> tuple[Integers, Integers, Integers]:
    """Part rings that pass a point twice into rings that do not: a hole that touches the outside at a corner, say."""
    lengths = np.diff(starts, append=len(corners))
    ring = np.repeat(np.arange(len(starts)), lengths)
    order = np.lexsort((corners, ring))
    twice = (np.diff(ring[order]) == 0) & (np.diff(corners[order]) == 0)
    touched = np.unique(ring[order[1:][twice]])
    if len(touched) == 0:
        return corners, starts, owners
    plain = np.ones(len(starts), bool)
    plain[touched] = False
    kept = [corners[plain[ring]]]
    kept_lengths, kept_owners = lengths[plain].tolist(), owners[plain].tolist()
    for number in touched.tolist():
        for loop in _loops(corners[starts[number] : starts[number] + lengths[number]].tolist()):
            kept.append(np.array(loop, corners.dtype))
            kept_lengths.append(len(loop))
            kept_owners.append(owners[number])
    starts = np.cumsum([0, *kept_lengths[:-1]])
    return np.concatenate(kept), starts, np.array(kept_owners, owners.dtype)


def _loops(walk: list[int]) -> list[list[int]]:
    """Cut a loop off a walk whenever it comes back to a point."""
    path: list[int] = []
    place: dict[int, int] = {}
    loops = []
    for point in walk:
        if point in place:
            first = place[point]
            loops.append(path[first:])
            for passed in path[first + 1 :]:
                del place[passed]
            del path[first + 1 :]
        else:
            place[point] = len(path)
            path.append(point)
    return [*loops, path]


def _areas(points: Integers, starts: Integers) -> Integers:
    """Area that each ring encloses, by the shoelace formula."""
    if len(starts) == 0:
        return np.empty(0, np.int64)
    following = np.arange(1, len(points) + 1)
    following[np.append(starts[1:], len(points)) - 1] = starts
    x, y = points[:, 0], points[:, 1]
    return np.add.reduceat(x * y[following] - x[following] * y, starts) // 2
