"""Border tracing: closed rings along the pixel edges of all regions of an array at once.

A region is a set of pixels of one number that are connected by their sides. Its border is traced with the region on
the right as displayed (rows downwards): clockwise along the outside, counter-clockwise along a hole. Where two of its
pixels meet at a corner only, the border turns right, so it never crosses from one to the other there.

``shapely.polygonize`` of the pixel edges gives the same polygons, but needs several times the time and memory on the
noisy masks of a badly trained network, and the memory of a slide's block must stay bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Rings:
    """Closed rings, concatenated; the first point of a ring is not repeated at its end.

    Args:
        points: (points, 2) int64, columns x and y in px; only the corners of the border.
        starts: (rings,), index of the first point of each ring.
        regions: (rings,), number of the region that each ring bounds.
        areas: (rings,), enclosed area in px, positive for the outside of a region, negative for a hole.
    """

    points: Integers
    starts: Integers
    regions: Integers
    areas: Integers


@dataclass(frozen=True)
class _Sides:
    """Straight segments of the border, between corners: start and end as grid points, and the region on the right."""

    start: Integers
    end: Integers
    region: Integers


def rings(regions: Integers) -> Rings:
    """Trace every region of an array.

    Args:
        regions: (H, W), 0 background; each other number is one set of pixels connected by their sides.

    Returns:
        Simple rings: no ring visits a point twice. Each region has exactly one outer ring.
    """
    padded = np.pad(regions, 1)
    width = padded.shape[1] - 1  # grid points per row: one more than pixels
    right, left = _horizontal(padded, width)
    down, up = _vertical(padded, width)
    sides = [right, down, left, up]
    offsets = np.cumsum([0, *(len(side.start) for side in sides)])
    successor = np.empty(offsets[-1], np.int64)
    for direction, side in enumerate(sides):
        right_turn, left_turn = (direction + 1) % 4, (direction + 3) % 4
        successor[offsets[direction] : offsets[direction + 1]] = np.where(
            (matches := _following(sides[right_turn], side)) >= 0,
            offsets[right_turn] + matches,
            offsets[left_turn] + _following(sides[left_turn], side),
        )
    order, starts = _cycles(successor)
    corners = np.concatenate([side.start for side in sides])[order]
    ring_regions = np.concatenate([side.region for side in sides])[order]
    corners, starts, ring_regions = _split_touching(corners, starts, ring_regions[starts])
    points = np.stack([corners % width, corners // width], axis=1)
    return Rings(points, starts, ring_regions, _areas(points, starts))


def _runs(right_regions: Integers, left_regions: Integers) -> tuple[Integers, Integers, Integers]:
    """Find runs of one region in rows of unit edges; return their start and end in the flat array, and the region.

    Args:
        right_regions: (rows, edges), region on the right of each unit edge.
        left_regions: (rows, edges), region on its left.
    """
    border = np.where(right_regions != left_regions, right_regions, 0)
    border = np.pad(border, ((0, 0), (0, 1)))  # so that no run continues in the next row
    flat = border.ravel()
    change = np.flatnonzero(np.diff(flat, prepend=flat.dtype.type(0)))
    region = flat[change]
    inside = np.flatnonzero(region)
    return change[inside], change[inside + 1], region[inside]


def _horizontal(padded: Integers, width: int) -> tuple[_Sides, _Sides]:
    """Return edges along rows: to the right above the pixels of a region, to the left below them."""
    above, below = padded[:-1, 1:-1], padded[1:, 1:-1]  # each row holds width - 1 unit edges, and one of padding
    start, end, region = _runs(below, above)
    right = _Sides(start, end, region)
    start, end, region = _runs(above, below)
    return right, _Sides(end, start, region)


def _vertical(padded: Integers, width: int) -> tuple[_Sides, _Sides]:
    """Return edges along columns: down on the right of the pixels of a region, up on their left."""
    west, east = padded[1:-1, :-1].T, padded[1:-1, 1:].T
    height = west.shape[1] + 1  # grid points per column

    def point(index: Integers) -> Integers:
        return (index % height) * width + index // height

    start, end, region = _runs(west, east)
    down = _Sides(point(start), point(end), region)
    start, end, region = _runs(east, west)
    return down, _Sides(point(end), point(start), region)


def _following(candidates: _Sides, sides: _Sides) -> Integers:
    """Return for each edge the candidate of the same region that starts at its end, -1 if there is none.

    In one direction, at most one edge starts at a point, because the pixel on its right is always the same.
    """
    if len(candidates.start) == 0:
        return np.full(len(sides.end), -1)
    order = np.argsort(candidates.start)
    position = np.searchsorted(candidates.start, sides.end, sorter=order)
    match = order[np.minimum(position, len(order) - 1)]
    is_match = (candidates.start[match] == sides.end) & (candidates.region[match] == sides.region)
    return np.where(is_match, match, -1)


def _cycles(permutation: Integers) -> tuple[Integers, Integers]:
    """Return the cycles of a permutation: all positions in the order of traversal, and the start of each cycle."""
    successor = permutation.tolist()
    visited = bytearray(len(successor))
    order: list[int] = []
    starts: list[int] = []
    for first in range(len(successor)):
        if visited[first]:
            continue
        starts.append(len(order))
        position = first
        while not visited[position]:
            visited[position] = 1
            order.append(position)
            position = successor[position]
    return np.array(order, np.int64), np.array(starts, np.int64)


def _split_touching(corners: Integers, starts: Integers, regions: Integers) -> tuple[Integers, Integers, Integers]:
    """Split rings that visit a point twice into simple rings, for example at a hole that touches the outside."""
    lengths = np.diff(starts, append=len(corners))
    ring = np.repeat(np.arange(len(starts)), lengths)
    order = np.lexsort((corners, ring))
    repeated = (np.diff(ring[order]) == 0) & (np.diff(corners[order]) == 0)
    touching = np.unique(ring[order[1:][repeated]])
    if len(touching) == 0:
        return corners, starts, regions
    is_simple = np.ones(len(starts), bool)
    is_simple[touching] = False
    pieces = [corners[is_simple[ring]]]
    piece_lengths, piece_regions = lengths[is_simple].tolist(), regions[is_simple].tolist()
    for number in touching.tolist():
        for loop in _loops(corners[starts[number] : starts[number] + lengths[number]].tolist()):
            pieces.append(np.array(loop, corners.dtype))
            piece_lengths.append(len(loop))
            piece_regions.append(regions[number])
    starts = np.cumsum([0, *piece_lengths[:-1]])
    return np.concatenate(pieces), starts, np.array(piece_regions, regions.dtype)


def _loops(walk: list[int]) -> list[list[int]]:
    """Split a closed walk into simple loops at repeated points."""
    path: list[int] = []
    index_of: dict[int, int] = {}
    loops = []
    for point in walk:
        if point in index_of:
            first = index_of[point]
            loops.append(path[first:])
            for visited in path[first + 1 :]:
                del index_of[visited]
            del path[first + 1 :]
        else:
            index_of[point] = len(path)
            path.append(point)
    return [*loops, path]


def _areas(points: Integers, starts: Integers) -> Integers:
    """Return the signed area that each ring encloses, by the shoelace formula."""
    if len(starts) == 0:
        return np.empty(0, np.int64)
    successor = np.arange(1, len(points) + 1)
    successor[np.append(starts[1:], len(points)) - 1] = starts
    x, y = points[:, 0], points[:, 1]
    return np.add.reduceat(x * y[successor] - x[successor] * y, starts) // 2
