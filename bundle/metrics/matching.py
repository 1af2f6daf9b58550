"""Which object of one label map belongs to which of another: areas, overlaps and the partner of each."""

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
    """Pixels that the objects of a prediction and of the truth share. Objects are counted from 0 here.

    Attributes:
        areas_predicted: (N,) px of each predicted object.
        areas_true: (M,) px of each true object.
        shared: (N, M) px in both.
    """

    areas_predicted: Plane
    areas_true: Plane
    shared: Plane

    @property
    def partners_of_predicted(self) -> Plane:
        """(N,) the true object that each predicted one overlaps most, -1 where it overlaps none."""
        return _partners(self.shared)

    @property
    def partners_of_true(self) -> Plane:
        """(M,) the predicted object that each true one overlaps most, -1 where it overlaps none."""
        return _partners(self.shared.T)

    def found(self, share: float = 0.5) -> int:
        """Count the true objects of which a predicted one, whose partner they are, covers at least this share."""
        partners = self.partners_of_predicted
        predicted = np.flatnonzero(partners >= 0)
        true = partners[predicted]
        covered = self.shared[predicted, true] >= share * self.areas_true[true]
        return len(np.unique(true[covered]))

    def dice(self) -> Values:
        """(N, M) Dice of every pair."""
        return 2.0 * self.shared / (self.areas_predicted[:, None] + self.areas_true[None, :])


def numbered(plane: Plane, connected: bool = False) -> Plane:
    """Number the objects of a label map 1..N, in the order of their numbers.

    Args:
        plane: (H, W), 0 is background.
        connected: whether each connected piece of a number (by sides and corners) is an object of its own. So a mask of
            0 and 1 can be given, and glands that touch stay apart where their numbers differ.
    """
    if connected:
        return label(plane, background=0, connectivity=2)
    if plane.max(initial=0) > plane.size:  # then a table of all numbers may not fit into memory
        plane = np.asarray(relabel_sequential(plane)[0], np.int64)
    present = np.bincount(plane.ravel(), minlength=1) > 0
    present[0] = False
    return np.cumsum(present, dtype=np.int64)[plane]


def overlaps(predicted: Plane, truth: Plane) -> Overlaps:
    """Count the pixels that objects share.

    Args:
        predicted: (H, W), objects 1..N.
        truth: (H, W), objects 1..M.
    """
    rows, columns = int(predicted.max(initial=0)) + 1, int(truth.max(initial=0)) + 1
    table = np.bincount((predicted * columns + truth).ravel(), minlength=rows * columns).reshape(rows, columns)
    return Overlaps(table[1:].sum(1), table[:, 1:].sum(0), table[1:, 1:])


def _partners(shared: Plane) -> Plane:
    """For each row the column with the largest number, the first of several; -1 where all are 0."""
    if shared.shape[1] == 0:
        return np.full(len(shared), -1)
    best = shared.argmax(1)
    return np.where(shared.max(1) > 0, best, -1)
