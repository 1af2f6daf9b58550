"""Match the objects of two label maps: areas, overlaps and partners."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from skimage.segmentation import relabel_sequential

Plane = NDArray[np.int64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Overlaps:
    """Areas and overlaps of predicted and true objects, with indices from 0.

    Attributes:
        areas_predicted: (N,) areas of the predicted objects, in px.
        areas_true: (M,) areas of the true objects, in px.
        shared: (N, M) areas of the overlaps, in px.
    """

    areas_predicted: Plane
    areas_true: Plane
    shared: Plane

    @property
    def partners_of_predicted(self) -> Plane:
        """(N,) true object with the largest overlap for each predicted one, -1 for none."""
        return _partners(self.shared)

    @property
    def partners_of_true(self) -> Plane:
        """(M,) predicted object with the largest overlap for each true one, -1 for none."""
        return _partners(self.shared.T)

    def detected(self, share: float = 0.5) -> int:
        """Count the true objects of which a predicted object, whose partner they are, covers at least this share."""
        partners = self.partners_of_predicted
        predicted = np.flatnonzero(partners >= 0)
        true = partners[predicted]
        covered = self.shared[predicted, true] >= share * self.areas_true[true]
        return len(np.unique(true[covered]))

    def dice(self) -> Values:
        """Return the Dice of every pair, (N, M)."""
        return 2.0 * self.shared / (self.areas_predicted[:, None] + self.areas_true[None, :])


def numbered(plane: Plane, connected: bool = False) -> Plane:
    """Relabel the objects of a label map to 1..N, keeping their order.

    Args:
        plane: (H, W), 0 is background.
        connected: whether each connected component (8-connectivity) of a number is a separate object. Allows a mask of
            0 and 1; touching glands with different numbers stay separate.
    """
    if connected:
        return label(plane, background=0, connectivity=2)
    if plane.max(initial=0) > plane.size:  # a table of all numbers might not fit into memory
        plane = np.asarray(relabel_sequential(plane)[0], np.int64)
    present = np.bincount(plane.ravel(), minlength=1) > 0
    present[0] = False
    return np.cumsum(present, dtype=np.int64)[plane]


def overlaps(predicted: Plane, truth: Plane) -> Overlaps:
    """Compute the areas of all objects and their overlaps.

    Args:
        predicted: (H, W), objects 1..N.
        truth: (H, W), objects 1..M.
    """
    rows, columns = int(predicted.max(initial=0)) + 1, int(truth.max(initial=0)) + 1
    table = np.bincount((predicted * columns + truth).ravel(), minlength=rows * columns).reshape(rows, columns)
    return Overlaps(table[1:].sum(1), table[:, 1:].sum(0), table[1:, 1:])


def _partners(shared: Plane) -> Plane:
    """Return the column with the largest value of each row, the first of several; -1 if all are 0."""
    if shared.shape[1] == 0:
        return np.full(len(shared), -1)
    best = shared.argmax(1)
    return np.where(shared.max(1) > 0, best, -1)
