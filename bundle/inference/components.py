"""Connected components of a predicted mask: one instance per gland.

The functions take numpy arrays (H, W) and return a map of instances: 0 background, 1..N one number per gland.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Plane = NDArray[Any]
Instances = NDArray[np.int32]


def check_areas(connectivity: int, **areas: float) -> None:
    """Check that the connectivity is 1 or 2 and that no area is negative.

    Raises:
        ValueError: if a setting is outside its range.
    """
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity is {connectivity!r}; write 1 (four neighbors) or 2 (eight)")
    for name, area in areas.items():
        if not area >= 0:
            raise ValueError(f"{name} is {area!r} px; it must be 0 or more")


def component_instances(
    foreground: Plane, connectivity: int = 2, min_area: float = 0, hole_area: float = 0
) -> Instances:
    """Label the connected components of the foreground. Glands that touch become one instance.

    Args:
        foreground: (H, W); values above 0 are gland.
        connectivity: 1 connects pixels by their sides, 2 also by their corners.
        min_area: components with fewer px are removed.
        hole_area: holes of at most this many px are filled first; 0 fills none. A hole is background enclosed by the
            foreground; background that reaches the image border is not a hole.

    Returns:
        (H, W) int32, 0 background, 1..N in raster order.

    Raises:
        ValueError: if ``foreground`` is not 2D, or a setting is outside its range.
    """
    check_areas(connectivity, min_area=min_area, hole_area=hole_area)
    mask = np.asarray(foreground) > 0
    if mask.ndim != 2:
        raise ValueError(f"the foreground has the shape {mask.shape}; a plane has (H, W)")
    if hole_area > 0:
        mask = mask | small_holes(mask, connectivity, hole_area)
    return remove_small(label_components(mask, connectivity), min_area)


def label_components(mask: NDArray[np.bool_], connectivity: int) -> Instances:
    """Label the connected components of a mask, 1..N."""
    return ndimage.label(mask, ndimage.generate_binary_structure(2, connectivity), output=np.int32)[0]


def remove_small(regions: Instances, area: float) -> Instances:
    """Remove regions with fewer than ``area`` px and renumber the others without gaps."""
    if area <= 1:
        return regions
    keep = np.bincount(regions.ravel()) >= area
    keep[0] = False
    return (np.cumsum(keep, dtype=np.int32) * keep)[regions]


def small_holes(mask: NDArray[np.bool_], connectivity: int, area: float) -> NDArray[np.bool_]:
    """Return a mask of the holes of at most ``area`` px that the foreground encloses.

    The background uses the other connectivity: where foreground pixels connect by a corner, background pixels do not.
    """
    background = label_components(~mask, 3 - connectivity)
    areas = np.bincount(background.ravel())
    is_hole = areas <= area
    is_hole[np.unique(np.concatenate([background[0], background[-1], background[:, 0], background[:, -1]]))] = False
    is_hole[0] = False
    return is_hole[background]
