"""Distances and boundaries on planes (H, W) in numpy, used by the targets."""

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
"""Value of unknown pixels in a label map of glands; any negative value means the same. Files do not contain it, because
labels are read as values from 0 on. Targets have ``bundle.types.IGNORE`` there."""

LARGEST_SEARCH = 64
"""Largest distance (px) for which the search in a limited range is faster than scipy's distance transform."""


def map_planes(
    stack: NdarrayOrTensor, measure: Callable[[NDArray[Any]], NDArray[Any]], dtype: DtypeLike
) -> NdarrayOrTensor:
    """Apply ``measure`` to each plane (H, W) of a stack (..., H, W).

    Returns:
        Array of ``dtype`` with the same shape, type (numpy, tensor or MetaTensor with its metadata) and device.

    Raises:
        ValueError: if ``stack`` has fewer than two dimensions.
    """
    array = convert_to_numpy(stack)
    if array.ndim < 2:
        raise ValueError(f"a label map has the shape (..., H, W), not {tuple(array.shape)}")
    result: NDArray[Any] = np.empty(array.shape, dtype)
    for index in np.ndindex(array.shape[:-2]):
        result[index] = measure(array[index])
    return convert_to_dst_type(result, stack, dtype=dtype)[0]


def distance_within(mask: NDArray[np.bool_], reach: int) -> NDArray[np.float32]:
    """Compute the distance of each pixel to the nearest pixel outside ``mask``, at most ``reach``.

    Exact below ``reach``: first along rows, then the smallest sum of squares along columns (Felzenszwalb and
    Huttenlocher, 2012). For the short distances of the targets it takes a quarter of the time of scipy's transform,
    which is used for longer ones.

    Args:
        mask: (H, W).
        reach: largest distance (px), at least 1.

    Returns:
        (H, W) float32, px between pixel centers, 0 outside ``mask``.
    """
    if reach > LARGEST_SEARCH:
        distance = np.full(mask.shape, reach) if mask.all() else distance_transform_edt(mask)
        return np.minimum(distance, reach).astype(np.float32)
    columns = np.arange(mask.shape[1], dtype=np.int32)
    previous = np.maximum.accumulate(np.where(mask, np.int32(-reach), columns), axis=1)
    following = np.minimum.accumulate(np.where(mask, columns[-1] + np.int32(reach), columns)[:, ::-1], axis=1)[:, ::-1]
    along_row = np.minimum(np.minimum(columns - previous, following - columns), reach).astype(np.int16) ** 2
    squared = along_row.copy()
    for step in range(1, min(reach, mask.shape[0])):
        reached = along_row + np.int16(step * step)
        np.minimum(squared[step:], reached[:-step], out=squared[step:])
        np.minimum(squared[:-step], reached[step:], out=squared[:-step])
    return np.sqrt(squared, dtype=np.float32)


def clipped_distance(inside: NDArray[np.bool_], maximum_distance: float) -> NDArray[np.float32]:
    """Compute (distance - 1/2 px) / ``maximum_distance`` (px), clipped at 1, negative outside; (H, W) float32."""
    reach = math.ceil(maximum_distance + 0.5)
    signed = distance_within(inside, reach) - distance_within(~inside, reach)
    signed -= np.copysign(np.float32(0.5), signed)
    signed /= np.float32(maximum_distance)
    return np.clip(signed, -1.0, 1.0, out=signed)


def pixel_distance(inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute the distance (px between centers) to the nearest pixel of the other side, negative outside; (H, W).

    Infinite if the mask is empty or full.
    """
    if inside.all() or not inside.any():
        return np.full(inside.shape, np.inf if inside.any() else -np.inf)
    return distance_transform_edt(inside) - distance_transform_edt(~inside)


def scaled_distance(signed: NDArray[np.float64], unknown: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Divide distances by the largest known distance of their side; edge pixels of glands become 0.

    An edge pixel is a gland pixel with background among its 4 neighbors; its distance is 1.

    Args:
        signed: (H, W), from :func:`pixel_distance`.
        unknown: (H, W), pixels that do not count for the largest distance.

    Returns:
        (H, W) float32, in [-1, 1] at known pixels.
    """
    known = signed[~unknown]
    deepest, farthest = known.max(initial=1.0), -known.min(initial=-1.0)
    scaled = signed / np.where(signed > 0.0, deepest, farthest)
    scaled[signed == 1.0] = 0.0
    return scaled.astype(np.float32)


def measure_known(
    label: NDArray[Any], measure: Callable[[NDArray[Any]], NDArray[Any]]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Apply ``measure`` to a label map that may have unknown pixels.

    It is applied twice, with unknown pixels as background and as one more gland. Where both results agree, the value
    does not depend on the unknown pixels; elsewhere it is unknown.

    Args:
        label: (H, W), 0 is background, values below 0 are unknown.
        measure: label map, with every value but 0 a gland -> value of each pixel.

    Returns:
        Values (H, W), and a mask (H, W), bool, of unknown values.
    """
    unknown = label < 0
    if not unknown.any():
        return measure(label), unknown
    as_background, as_gland = measure(np.where(unknown, 0, label)), measure(label)
    return as_background, unknown | (as_background != as_gland)


def band_between(label: NDArray[Any], radius: int) -> NDArray[np.bool_]:
    """Mark the pixels that have a pixel of another gland within ``radius`` px.

    Compares the map with copies of itself, shifted by each offset in the disk; an offset and its opposite share one
    comparison.

    Args:
        label: (H, W), 0 is background.
        radius: radius of the disk (px).

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
