"""Exact Hausdorff distances between the objects of two label maps, without distance maps of the whole image."""

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
        on_edge: (n,) whether one of its four neighbors is outside the object or the image.
        low, high: (2,) smallest and largest row and column.
    """

    def __init__(self, mask: NDArray[np.bool_], origin: Points) -> None:
        """Initialize from a mask (h, w) of the bounding box, whose corner is at ``origin`` (2,)."""
        self.points = np.argwhere(mask) + origin
        self.on_edge = ~binary_erosion(mask)[mask]
        self.low, self.high = self.points.min(0), self.points.max(0)

    @cached_property
    def tree(self) -> KDTree:
        """Search tree of the edge pixels. The nearest pixel from outside the object is always on its edge."""
        return KDTree(self.points[self.on_edge])


class ObjectDistances:
    """Hausdorff distances between predicted and true objects, in px, computed on demand and cached.

    The Hausdorff distance of two sets of pixels is the largest distance of a pixel of either set to the nearest pixel
    of the other. Shared pixels have the distance 0.
    """

    def __init__(self, predicted: Plane, truth: Plane) -> None:
        """Initialize from label maps (H, W) with objects 1..N and 1..M; indices here start at 0."""
        self._planes = (predicted, truth)
        self._shapes = (_shapes(predicted), _shapes(truth))
        self._boxes = [
            np.array([[*shape.low, *shape.high] for shape in shapes]).reshape(-1, 4) for shapes in self._shapes
        ]
        self._cache: dict[tuple[int, int], float] = {}

    def of_partners(self, side: int, partners: Plane) -> Values:
        """Return the distance of each object of one map to its partner, or to the nearest object if it has none.

        Args:
            side: 0 for the predicted objects, 1 for the true objects.
            partners: (n,) objects of the other map, -1 for none.

        Returns:
            Distances (n,), in px; infinite if the other map has no object.
        """
        distances = [
            self._between(side, index, partner) if partner >= 0 else self._of_nearest(side, index)
            for index, partner in enumerate(partners.tolist())
        ]
        return np.array(distances, np.float64)

    def _between(self, side: int, index: int, other: int) -> float:
        """Return the distance of an object of one map to an object of the other."""
        pair = (index, other) if side == 0 else (other, index)
        if pair not in self._cache:
            self._cache[pair] = max(self._directed(side, index, other), self._directed(1 - side, other, index))
        return self._cache[pair]

    def _directed(self, side: int, index: int, other: int) -> float:
        """Return the largest distance of a pixel of an object to an object of the other map."""
        shape, goal = self._shapes[side][index], self._shapes[1 - side][other]
        # A pixel whose row or column is not strictly inside the goal's box has a neighbor that is farther from every
        # pixel of the goal. So only edge pixels and pixels inside the box can be the farthest.
        within = ((shape.points > goal.low) & (shape.points < goal.high)).all(1)
        points = shape.points[shape.on_edge | within]
        outside = points[self._planes[1 - side][points[:, 0], points[:, 1]] != other + 1]
        return float(goal.tree.query(outside)[0].max()) if len(outside) else 0.0

    def _of_nearest(self, side: int, index: int) -> float:
        """Return the smallest distance of an object to any object of the other map."""
        # The difference of the box sides is a lower bound of the distance: skip objects that cannot be the nearest.
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
