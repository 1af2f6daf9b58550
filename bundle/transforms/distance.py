"""Measures on one plane (H, W) in numpy: the arithmetic behind the targets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from monai.config.type_definitions import DtypeLike, NdarrayOrTensor
from monai.utils import convert_to_dst_type, convert_to_numpy
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

UNKNOWN = -1
"""In a label map of glands: nothing is known of this pixel. No file has it, as labels are read from 0 on; targets have
``bundle.types.IGNORE`` there. Any negative number is taken for it."""

NEAR = 64
"""Up to this distance (px) looking only near is faster than scipy's transform, which finds any distance."""


def each_plane(
    stack: NdarrayOrTensor, measure: Callable[[NDArray[Any]], NDArray[Any]], dtype: DtypeLike
) -> NdarrayOrTensor:
    """Apply ``measure`` to each plane (H, W) of a stack (..., H, W).

    Returns:
        The same shape, kind of array (numpy, tensor or MetaTensor with its metadata) and device, of ``dtype``.

    Raises:
        ValueError: for fewer than two dimensions.
    """
    array = convert_to_numpy(stack)
    if array.ndim < 2:
        raise ValueError(f"a label map has the shape (..., H, W), not {tuple(array.shape)}")
    result: NDArray[Any] = np.empty(array.shape, dtype)
    for index in np.ndindex(array.shape[:-2]):
        result[index] = measure(array[index])
    return convert_to_dst_type(result, stack, dtype=dtype)[0]


def distance_within(mask: NDArray[np.bool_], reach: int) -> NDArray[np.float32]:
    """Measure how far each pixel is from the nearest pixel outside ``mask``, at most ``reach``.

    Exact below ``reach``: first along rows, then the smallest sum of squares along columns (Felzenszwalb and
    Huttenlocher, 2012). For the few pixels that a target asks for it takes a quarter of the time of scipy's transform,
    to which longer distances are left.

    Args:
        mask: (H, W).
        reach: longest distance (px), at least 1.

    Returns:
        (H, W) float32, px between centers, 0 outside ``mask``.
    """
    if reach > NEAR:
        distance = np.full(mask.shape, reach) if mask.all() else distance_transform_edt(mask)
        return np.minimum(distance, reach).astype(np.float32)
    column = np.arange(mask.shape[1], dtype=np.int32)
    before = np.maximum.accumulate(np.where(mask, np.int32(-reach), column), axis=1)
    after = np.minimum.accumulate(np.where(mask, column[-1] + np.int32(reach), column)[:, ::-1], axis=1)[:, ::-1]
    along_row = np.minimum(np.minimum(column - before, after - column), reach).astype(np.int16) ** 2
    squared = along_row.copy()
    for step in range(1, min(reach, mask.shape[0])):
        reached = along_row + np.int16(step * step)
        np.minimum(squared[step:], reached[:-step], out=squared[step:])
        np.minimum(squared[:-step], reached[step:], out=squared[:-step])
    return np.sqrt(squared, dtype=np.float32)


def clipped_distance(inside: NDArray[np.bool_], maximum_distance: float) -> NDArray[np.float32]:
    """Measure (distance - 1/2 px) / ``maximum_distance`` (px), cut at 1, negative outside; (H, W) float32."""
    reach = math.ceil(maximum_distance + 0.5)
    signed = distance_within(inside, reach) - distance_within(~inside, reach)
    signed -= np.copysign(np.float32(0.5), signed)
    signed /= np.float32(maximum_distance)
    return np.clip(signed, -1.0, 1.0, out=signed)


def pixel_distance(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Measure the distance (px between centers) to the nearest pixel of the other kind, negative outside; (H, W).

    Infinite where there is no other kind.
    """
    if inside.all() or not inside.any():
        return np.full(inside.shape, np.inf if inside.any() else -np.inf)
    return distance_transform_edt(inside) - distance_transform_edt(~inside)


def scaled_distance(signed: NDArray[np.float64], unknown: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Turn distances into shares of the largest that is known of their side, 0 on the gland's edge pixels.

    An edge pixel is a gland pixel with background among its 4 neighbors: its distance is 1.

    Args:
        signed: (H, W) as :func:`pixel_distance` gives it.
        unknown: (H, W), pixels whose distance takes no part in the largest.

    Returns:
        (H, W) float32, in [-1, 1] where it is known.
    """
    known = signed[~unknown]
    deepest, farthest = known.max(initial=1.0), -known.min(initial=-1.0)
    scaled = signed / np.where(signed > 0.0, deepest, farthest)
    scaled[signed == 1.0] = 0.0
    return scaled.astype(np.float32)


def settled(
    label: NDArray[Any], measure: Callable[[NDArray[Any]], NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Measure a label map of which some pixels may be unknown.

    It is measured twice, unknown pixels taken for background and for a gland of their own. A pixel on which both agree
    has its value whatever they are in truth; the others are unknown too.

    Args:
        label: (H, W), 0 background, below 0 unknown.
        measure: label map, every number but 0 a gland -> value of each pixel.

    Returns:
        Values (H, W), and where they are unknown (H, W), bool.
    """
    unknown = label < 0
    if not unknown.any():
        return measure(label), unknown
    least, most = measure(np.where(unknown, 0, label)), measure(label)
    return least, unknown | (least != most)


def band_between(label: NDArray[Any], radius: int) -> NDArray[np.bool_]:
    """Mark the pixels that have, within ``radius`` px, a pixel of a region that is not their own.

    Compares the map with itself moved by each step of the disk; a step and its opposite share one comparison.

    Args:
        label: (H, W), 0 background.
        radius: of the disk (px).

    Returns:
        (H, W) bool.
    """
    height, width = label.shape
    region = label != 0
    band = np.zeros(label.shape, bool)
    for down in range(min(radius, height - 1) + 1):
        farthest = min(math.isqrt(radius * radius - down * down), width - 1)
        for right in range(1 if down == 0 else -farthest, farthest + 1):
            here = (slice(0, height - down), slice(max(0, -right), width - max(0, right)))
            there = (slice(down, height), slice(max(0, right), width + min(0, right)))
            differs = label[here] != label[there]
            band[here] |= differs & region[there]
            band[there] |= differs & region[here]
    return band
