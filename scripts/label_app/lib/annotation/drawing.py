"""Drawing of annotations as label images.

A pixel belongs to a shape if its center lies inside. A center on the border belongs to the shape to its right or below,
so touching shapes neither share nor miss a pixel, and shapes along pixel edges give their pixels back. Common libraries
count centers on a border always as inside, or always as outside, so they are not used here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from .shapes import Annotation, AnnotationError, Shape


def draw_instances(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    offset: tuple[float, float] = (0, 0),
    scale: float = 1.0,
) -> NDArray[np.uint16] | NDArray[np.int32]:
    """Draw each annotation with its number: 1 for the first, 2 for the second, ... Later ones are drawn on top.

    Args:
        annotations: annotations; may extend beyond the picture.
        size: (width, height) of the picture, in its px.
        offset: (x, y) of the upper left corner of the picture, in px of the annotations.
        scale: px of the annotations per px of the picture.

    Returns:
        (H, W), 0 is background; int32 if there are more than 65,535 annotations, else uint16.

    Raises:
        AnnotationError: if the size or scale is not positive.
    """
    dtype = np.uint16 if len(annotations) <= np.iinfo(np.uint16).max else np.int32
    return _draw(annotations, range(1, len(annotations) + 1), np.dtype(dtype), size, offset, scale)


def draw_classes(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    numbers: Mapping[str, int],
    offset: tuple[float, float] = (0, 0),
    scale: float = 1.0,
) -> NDArray[np.uint8]:
    """Draw each annotation with its class index. Later ones are drawn on top.

    Args:
        annotations: annotations; may extend beyond the picture.
        size: (width, height) of the picture, in its px.
        numbers: class name (case is ignored) -> class index, 0 to 255.
        offset: (x, y) of the upper left corner of the picture, in px of the annotations.
        scale: px of the annotations per px of the picture.

    Returns:
        (H, W) class indices, 0 is background.

    Raises:
        AnnotationError: if a name is not in ``numbers``, a number is out of range, or the size or scale not positive.
    """
    folded = {name.strip().casefold(): number for name, number in numbers.items()}
    wrong = [f"{name!r}: {number}" for name, number in numbers.items() if not 0 <= number <= 255]
    if wrong:
        raise AnnotationError(f"class numbers must be from 0 to 255, got {wrong[0]}")
    names = [annotation.name.strip().casefold() for annotation in annotations]
    for annotation, name in zip(annotations, names, strict=True):
        if name not in folded:
            known = ", ".join(numbers) or "none"
            raise AnnotationError(
                f"no class is called {annotation.name!r}; the classes are: {known}; rename it in the viewer"
            )
    return _draw(annotations, [folded[name] for name in names], np.dtype(np.uint8), size, offset, scale)


def _draw(
    annotations: Sequence[Annotation],
    numbers: Sequence[int],
    dtype: np.dtype[Any],
    size: tuple[int, int],
    offset: tuple[float, float],
    scale: float,
) -> NDArray[Any]:
    """Draw annotations with the given numbers, the last on top."""
    width, height = size
    if not (width > 0 and height > 0 and 0 < scale < math.inf):
        raise AnnotationError(f"the picture is {width} x {height} px at the scale {scale}; all must be positive")
    picture = np.zeros((height, width), dtype)
    shapes = np.array([annotation.shape for annotation in annotations], object)
    boxes = (shapely.bounds(shapes).reshape(-1, 2, 2) - offset) / scale
    overlaps = (boxes[:, 0] < size).all(axis=1) & (boxes[:, 1] > 0).all(axis=1)
    for index in np.flatnonzero(overlaps).tolist():
        _fill(picture, shapes[index], numbers[index], offset, scale)
    return picture


def _fill(picture: NDArray[Any], shape: Shape, number: int, offset: tuple[float, float], scale: float) -> None:
    """Draw a shape with a number, by even-odd filling of all its rings within its bounding box."""
    rings = shapely.get_rings(shapely.get_parts(shape))
    coordinates, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    points = (coordinates - offset) / scale - 0.5  # so that pixel centers are whole numbers
    limit = picture.shape[::-1]
    left, top = np.clip(np.ceil(points.min(axis=0)), 0, limit).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, limit).astype(int)
    if right <= left or bottom <= top:
        return
    is_edge = ring_of_point[1:] == ring_of_point[:-1]
    starts, ends = points[:-1][is_edge], points[1:][is_edge]
    # Edges start at their upper end, whatever their direction, so that an edge shared by two shapes rounds alike.
    upward = (starts[:, 1] > ends[:, 1])[:, None]
    (upper_x, upper_y), (lower_x, lower_y) = np.where(upward, ends, starts).T, np.where(upward, starts, ends).T
    first, last = (np.clip(np.ceil(edge), top, bottom).astype(int) for edge in (upper_y, lower_y))
    counts = last - first  # number of rows whose centers an edge crosses, with its upper end but not its lower one
    edge_of_row = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(edge_of_row)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge_of_row]
    slope = (lower_x[edge_of_row] - upper_x[edge_of_row]) / (lower_y[edge_of_row] - upper_y[edge_of_row])
    crossings = upper_x[edge_of_row] + (rows - upper_y[edge_of_row]) * slope
    columns = np.clip(np.ceil(crossings), left, right).astype(int)
    parity = np.zeros((bottom - top, right - left + 1), np.uint8)
    np.add.at(parity, (rows - top, columns - left), 1)  # may overflow: only odd and even count
    inside = np.add.accumulate(parity[:, :-1], axis=1, dtype=np.uint8) & 1
    picture[top:bottom, left:right][inside.astype(bool)] = number
