"""Conversion of label maps to instances or classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.data.image_io.label_values import label_kind

CORNERS = np.ones((3, 3), dtype=bool)
"""Neighborhood of 8-connected components."""
NUMBERED = "one value for all glands, connected components numbered"
RENUMBERED = "numbers above 65535, renumbered"


def as_instances(label: NDArray[Any]) -> tuple[NDArray[Any], str | None]:
    """Convert a label map to instances.

    Args:
        label: (H, W), integer values; one value besides 0 marks all glands, several are instance numbers.

    Returns:
        Instances (H, W), 0 background, values up to 65535; and a note, ``None`` if values are unchanged.
    """
    reading = label_kind(label)
    if reading in ("binary", "full"):
        return ndimage.label(label, CORNERS)[0], NUMBERED
    if label.max() <= np.iinfo(np.uint16).max:
        return label, None
    values, indices = np.unique(label, return_inverse=True)
    indices = indices.reshape(label.shape)
    return (indices if values[0] == 0 else indices + 1), RENUMBERED


def as_classes(label: NDArray[Any], classes: int) -> tuple[NDArray[Any], str | None]:
    """Convert a label map to class indices; with two classes any single value besides 0, such as 255, is class 1.

    Args:
        label: (H, W), integer values.
        classes: number of classes, background included.

    Returns:
        Class indices (H, W), and a note, ``None`` if values are unchanged.

    Raises:
        ValueError: if a value is not a class.
    """
    if classes == 2 and label_kind(label) in ("binary", "full") and label.max() > 1:
        return (label > 0).astype(label.dtype), f"{label.max()} read as class 1"
    label_kind(label, classes)
    return label, None


def has_split_numbers(label: NDArray[Any]) -> bool:
    """Return whether a value of a label map has several connected components, as classes have."""
    if label_kind(label) != "instances":
        return False
    values = np.unique(label[label > 0])
    boxes = ndimage.find_objects(np.searchsorted(values, label) * (label > 0) + (label > 0))
    pieces = (ndimage.label(label[box] == value, CORNERS)[1] for value, box in zip(values, boxes, strict=True))
    return any(count > 1 for count in pieces)
