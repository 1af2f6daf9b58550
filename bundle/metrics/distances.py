"""Hausdorff distance between the objects of two label maps, exact and without a look at the whole image."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import KDTree

from bundle.metrics.matching import Plane, Values

Points = NDArray[np.intp]


class Shape:
    """Pixels of one object.

    Attributes:
        points: (n, 2) row and column of each pixel.
        on_edge: (n,) whether one of its four neighbors is no pixel of the object, or lies outside the image.
        low, high: (2,) smallest and largest row and column.
    """

    def __init__(self, mask: NDArray[np.bool_], origin: Points) -> None:
        """Take the object as a mask (h, w) of its bounding box, whose corner lies at ``origin`` (2,)."""
        self.points = np.argwhere(mask) + origin
        self.on_edge = ~binary_erosion(mask)[mask]
        self.low, self.high = self.points.min(0), self.points.max(0)

    @cached_property
    def tree(self) -> KDTree:
        """The edge, to be asked for the nearest of its pixels: a pixel inside is never the nearest from outside."""
        return KDTree(self.points[self.on_edge])


class ObjectDistances:
    """Hausdorff distances between predicted and true objects, in px, each worked out once and only when asked for.

    The distance of two sets of pixels is the largest that a pixel of either has to the nearest pixel of the other. A
    pixel that both have is at distance 0.
    """

    def __init__(self, predicted: Plane, truth: Plane) -> None:
        """Take label maps (H, W) with objects 1..N and 1..M; here they are counted from 0."""
        self._planes = (predicted, truth)
        self._shapes = (_shapes(predicted), _shapes(truth))
        self._boxes = [np.array([[*one.low, *one.high] for one in shapes]).reshape(-1, 4) for shapes in self._shapes]
        self._known: dict[tuple[int, int], float] = {}

    def of_partners(self, side: int, partners: Plane) -> Values:
        """Distance of each object of one side to its partner, and to the nearest object where it has none.

        Args:
            side: 0 for the predicted objects, 1 for the true ones.
            partners: (n,) objects of the other side, -1 for none.

        Returns:
            (n,) px; infinite where the other side has no object.
        """
        measured = [
            self._between(side, index, partner) if partner >= 0 else self._of_nearest(side, index)
            for index, partner in enumerate(partners.tolist())
        ]
        return np.array(measured, np.float64)

    def _between(self, side: int, index: int, other: int) -> float:
        """Distance of an object of one side to one of the other."""
        pair = (index, other) if side == 0 else (other, index)
        if pair not in self._known:
            self._known[pair] = max(self._directed(side, index, other), self._directed(1 - side, other, index))
        return self._known[pair]

    def _directed(self, side: int, index: int, other: int) -> float:
        """Largest distance of a pixel of an object on one side to an object of the other side."""
        shape, goal = self._shapes[side][index], self._shapes[1 - side][other]
        # From a pixel whose row or column is not strictly within the goal's box one step leads away from every pixel of
        # the goal. So only edges and pixels within the box can be the farthest.
        within = ((shape.points > goal.low) & (shape.points < goal.high)).all(1)
        points = shape.points[shape.on_edge | within]
        outside = points[self._planes[1 - side][points[:, 0], points[:, 1]] != other + 1]
        return float(goal.tree.query(outside)[0].max()) if len(outside) else 0.0

    def _of_nearest(self, side: int, index: int) -> float:
        """Distance of an object to the nearest of the other side; nearest by this distance."""
        # Objects are at least as far apart as the sides of their boxes: no need to measure those that cannot win.
        bounds = np.abs(self._boxes[1 - side] - self._boxes[side][index]).max(1)
        nearest = np.inf
        for other in np.argsort(bounds, kind="stable").tolist():
            if bounds[other] >= nearest:
                break
            nearest = min(nearest, self._between(side, index, other))
        return float(nearest)


def _shapes(plane: Plane) -> list[Shape]:
    boxes = find_objects(plane)
    return [
        Shape(plane[box] == number, np.array([box[0].start, box[1].start]))
        for number, box in enumerate(boxes, start=1)
        if box is not None
    ]
