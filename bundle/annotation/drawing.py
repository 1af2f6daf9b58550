"""Annotations as a picture of numbers.

A pixel belongs to a shape if its center lies inside. A center on the border belongs to what lies right of it or below
it, so shapes that touch never share a pixel and leave none out, and shapes along pixel sides give their pixels back.
Libraries count centers on a border in or out on all sides; hence the few lines here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from bundle.annotation.shapes import Annotation, AnnotationError, Shape


def draw_instances(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    offset: tuple[float, float] = (0, 0),
    scale: float = 1.0,
) -> NDArray[np.uint16] | NDArray[np.int32]:
    """Draw each annotation with a number of its own: 1 for the first, 2 for the second. Later ones lie on top.

    Args:
        annotations: what is drawn; may lie outside in part or whole.
        size: (width, height) of the picture, in its px.
        offset: (x, y) of the picture's upper left corner, in px of the annotations.
        scale: px of the annotations for each px of the picture.

    Returns:
        (H, W), 0 is background; int32 where there are more than 65,535 annotations.

    Raises:
        AnnotationError: for a size or a scale that is not positive.
    """
    kind = np.uint16 if len(annotations) <= np.iinfo(np.uint16).max else np.int32
    return _drawn(annotations, range(1, len(annotations) + 1), np.dtype(kind), size, offset, scale)


def draw_classes(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    numbers: Mapping[str, int],
    offset: tuple[float, float] = (0, 0),
    scale: float = 1.0,
) -> NDArray[np.uint8]:
    """Draw each annotation with the number of its class. Later ones lie on top.

    Args:
        annotations: what is drawn; may lie outside in part or whole.
        size: (width, height) of the picture, in its px.
        numbers: of the classes, by name, in any case; 0 to 255.
        offset: (x, y) of the picture's upper left corner, in px of the annotations.
        scale: px of the annotations for each px of the picture.

    Returns:
        (H, W) class indices, 0 is background.

    Raises:
        AnnotationError: for a name that is not in ``numbers``, a number out of range, and as for instances.
    """
    folded = {name.strip().casefold(): number for name, number in numbers.items()}
    wrong = [f"{name!r}: {number}" for name, number in numbers.items() if not 0 <= number <= 255]
    if wrong:
        raise AnnotationError(f"the class {wrong[0]} has no number from 0 to 255; give it one")
    names = [annotation.name.strip().casefold() for annotation in annotations]
    for annotation, name in zip(annotations, names, strict=True):
        if name not in folded:
            known = ", ".join(numbers) or "none"
            raise AnnotationError(
                f"no class is called {annotation.name!r}; known are: {known}; rename it in the viewer"
            )
    return _drawn(annotations, [folded[name] for name in names], np.dtype(np.uint8), size, offset, scale)


def _drawn(
    annotations: Sequence[Annotation],
    numbers: Sequence[int],
    kind: np.dtype[Any],
    size: tuple[int, int],
    offset: tuple[float, float],
    scale: float,
) -> NDArray[Any]:
    """A picture of the numbers, the last on top."""
    width, height = size
    if not (width > 0 and height > 0 and 0 < scale < math.inf):
        raise AnnotationError(f"the picture is {width} x {height} px at the scale {scale}; all must be positive")
    picture = np.zeros((height, width), kind)
    shapes = np.array([annotation.shape for annotation in annotations], object)
    boxes = (shapely.bounds(shapes).reshape(-1, 2, 2) - offset) / scale
    met = (boxes[:, 0] < size).all(axis=1) & (boxes[:, 1] > 0).all(axis=1)
    for place in np.flatnonzero(met).tolist():
        _fill(picture, shapes[place], numbers[place], offset, scale)
    return picture


def _fill(picture: NDArray[Any], shape: Shape, number: int, offset: tuple[float, float], scale: float) -> None:
    """Write a number where a shape is, by even-odd filling of all its rings, in the box around it."""
    rings = shapely.get_rings(shapely.get_parts(shape))
    places, belongs = shapely.get_coordinates(rings, return_index=True)
    points = (places - offset) / scale - 0.5  # so that pixel centers are whole numbers
    limit = picture.shape[::-1]
    left, top = np.clip(np.ceil(points.min(axis=0)), 0, limit).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, limit).astype(int)
    if right <= left or bottom <= top:
        return
    side = belongs[1:] == belongs[:-1]
    starts, ends = points[:-1][side], points[1:][side]
    # each side from its upper end, whichever way it was walked: a side that two shapes share gives the same numbers
    upward = (starts[:, 1] > ends[:, 1])[:, None]
    (upper_x, upper_y), (lower_x, lower_y) = np.where(upward, ends, starts).T, np.where(upward, starts, ends).T
    first, last = (np.clip(np.ceil(edge), top, bottom).astype(int) for edge in (upper_y, lower_y))
    counts = last - first  # rows whose centers a side passes, its upper end included, its lower end not
    which = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts) + first[which]
    slope = (lower_x[which] - upper_x[which]) / (lower_y[which] - upper_y[which])
    crossed = upper_x[which] + (rows - upper_y[which]) * slope
    columns = np.clip(np.ceil(crossed), left, right).astype(int)
    turns = np.zeros((bottom - top, right - left + 1), np.uint8)
    np.add.at(turns, (rows - top, columns - left), 1)  # may pass 255: only odd and even count
    inside = np.add.accumulate(turns[:, :-1], axis=1, dtype=np.uint8) & 1
    picture[top:bottom, left:right][inside.astype(bool)] = number
