"""Label maps made of masks: the size of their image, and numbered glands or classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.data.label_values import reading_of
from bundle.data.pictures import picture_size

CORNERS = np.ones((3, 3), dtype=bool)
"""Pixels that touch by a side or a corner belong together."""
NUMBERED = "one value for all glands, connected pieces numbered"
RENUMBERED = "numbers above 65535, numbered anew"


def check_pair(image: str | Path, mask: str | Path) -> None:
    """Refuse a mask whose size is not that of its image; only headers are read.

    Raises:
        FileNotFoundError: where a file is missing.
        ValueError: where the sizes differ, or a header cannot be read.
    """
    (height, width), (rows, columns) = picture_size(image), picture_size(mask)
    if (height, width) != (rows, columns):
        raise ValueError(
            f"{mask} is {columns} x {rows} px and its image {width} x {height} px; "
            f"give each image the mask that was drawn on it"
        )


def as_instances(label: NDArray[Any]) -> tuple[NDArray[Any], str | None]:
    """Turn a label map into numbered glands.

    Args:
        label: (H, W) whole numbers; with one value beside 0 it says where glands are, with more it numbers them.

    Returns:
        (H, W), 0 background and at most 65535; and what was done, ``None`` where numbers stay as they are.
    """
    reading = reading_of(label)
    if reading in ("binary", "full"):
        return ndimage.label(label, CORNERS)[0], NUMBERED
    if label.max() <= np.iinfo(np.uint16).max:
        return label, None
    values, places = np.unique(label, return_inverse=True)
    places = places.reshape(label.shape)
    return (places if values[0] == 0 else places + 1), RENUMBERED


def as_classes(label: NDArray[Any], classes: int) -> tuple[NDArray[Any], str | None]:
    """Turn a label map into class indices; with two classes any one value beside 0, such as 255, is the class 1.

    Args:
        label: (H, W) whole numbers.
        classes: number of classes, background included.

    Raises:
        ValueError: where a value is no class.
    """
    if classes == 2 and reading_of(label) in ("binary", "full") and label.max() > 1:
        return (label > 0).astype(label.dtype), f"{label.max()} read as class 1"
    reading_of(label, classes)
    return label, None


def has_split_numbers(label: NDArray[Any]) -> bool:
    """Whether numbers of a label map stand for several pieces each, as classes do and glands do not."""
    if reading_of(label) != "instances":
        return False
    values = np.unique(label[label > 0])
    boxes = ndimage.find_objects(np.searchsorted(values, label) * (label > 0) + (label > 0))
    pieces = (ndimage.label(label[box] == value, CORNERS)[1] for value, box in zip(values, boxes, strict=True))
    return any(count > 1 for count in pieces)
