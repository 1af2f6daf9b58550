"""From a map of glands to single glands: connected components, and a watershed seeded by distance and boundary.

Functions on planes (H, W) in numpy. Both give a map of instances: 0 background, 1..N one number per gland.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import relabel_sequential, watershed

Plane = NDArray[Any]
Instances = NDArray[np.int32]


def check_areas(connectivity: int, **areas: float) -> None:
    """Refuse a connectivity other than 1 and 2, and areas below 0.

    Raises:
        ValueError: names the setting, its value and what it may be.
    """
    if connectivity not in (1, 2):
        raise ValueError(f"connectivity is {connectivity!r}; write 1 (four neighbors) or 2 (eight)")
    for name, area in areas.items():
        if not area >= 0:
            raise ValueError(f"{name} is {area!r} px; it must be 0 or more")


def check_levels(seed_level: float, boundary_level: float, boundary_weight: float) -> None:
    """Refuse levels and weights of the watershed outside their ranges.

    Raises:
        ValueError: names the setting, its value and its range.
    """
    if not -1.0 <= seed_level < 1.0:
        raise ValueError(f"seed_level is {seed_level!r}; a signed distance asks for a level from -1 to below 1")
    if not 0.0 <= boundary_level <= 1.0:
        raise ValueError(f"boundary_level is {boundary_level!r}; a probability asks for a level from 0 to 1")
    if not 0.0 <= boundary_weight < np.inf:
        raise ValueError(f"boundary_weight is {boundary_weight!r}; it must be 0 or more, and finite")


def component_instances(
    foreground: Plane, connectivity: int = 2, min_area: float = 0, hole_area: float = 0
) -> Instances:
    """Number the connected components of the foreground. Glands that touch are one.

    Args:
        foreground: (H, W), any value above 0 is gland.
        connectivity: 1 joins pixels by their sides, 2 by their corners too.
        min_area: pieces of fewer px are dropped.
        hole_area: holes of at most so many px are filled first, 0 fills none. A hole is background that the foreground
            encloses; what reaches the image border is none.

    Returns:
        (H, W) int32, 0 background, 1..N in the order in which rows meet the pieces.

    Raises:
        ValueError: for another number of dimensions, another connectivity or an area below 0.
    """
    check_areas(connectivity, min_area=min_area, hole_area=hole_area)
    mask = np.asarray(foreground) > 0
    if mask.ndim != 2:
        raise ValueError(f"the foreground has the shape {mask.shape}; a plane has (H, W)")
    if hole_area > 0:
        mask = mask | _holes(mask, connectivity, hole_area)
    return _without_small(_numbered(mask, connectivity), min_area)


def watershed_instances(
    foreground: Plane,
    distance: Plane,
    boundary: Plane,
    seed_level: float = 0.3,
    boundary_level: float = 0.5,
    boundary_weight: float = 1.0,
    min_seed_area: float = 0,
    min_area: float = 0,
    hole_area: float = 0,
    connectivity: int = 2,
) -> Instances:
    """Part the pieces of the foreground where the signed distance has a neck or the boundary a wall.

    Seeds are the connected regions (by sides, so that a wall one px thick parts them) of the foreground where the
    distance lies above ``seed_level`` and the boundary not above ``boundary_level``. Where a piece of the foreground
    holds two or more, they grow from the lowest place up, on the landscape ``boundary_weight`` x boundary - distance,
    until they meet. A piece with one seed or none stays whole. A part smaller than ``min_area`` gives up its seed, and
    its neighbors in the piece take its place. So the foreground is exactly that of :func:`component_instances` with
    the same areas; only where it is parted differs.

    Args:
        foreground: (H, W), any value above 0 is gland.
        distance: (H, W), signed distance in [-1, 1], positive inside; the unit is that of the target, for example
            20 px at working resolution.
        boundary: (H, W), probability of a boundary in [0, 1].
        seed_level: distance above which a pixel may be a seed, in [-1, 1); -1 asks nothing of the distance.
        boundary_level: probability above which a pixel is none, in [0, 1]; 1 asks nothing of the boundary.
        boundary_weight: how high a boundary of probability 1 stands in the landscape, in units of the distance, 0 or
            more; 0 lets seeds meet at the neck of the distance alone.
        min_seed_area: seeds of fewer px are dropped.
        min_area: glands of fewer px are joined to a neighbor in their piece; pieces of fewer px are dropped.
        hole_area: holes of at most so many px are filled first, 0 fills none.
        connectivity: of the pieces, and of the neighbors into which seeds grow; 1 by sides, 2 by corners too.

    Returns:
        (H, W) int32, 0 background, 1..N.

    Raises:
        ValueError: for maps of different shapes or a setting outside its range.
    """
    check_levels(seed_level, boundary_level, boundary_weight)
    check_areas(connectivity, min_seed_area=min_seed_area)
    distance, boundary = np.asarray(distance, np.float32), np.asarray(boundary, np.float32)
    pieces = component_instances(foreground, connectivity, min_area, hole_area)
    if not pieces.shape == distance.shape == boundary.shape:
        shapes = f"foreground {pieces.shape}, distance {distance.shape}, boundary {boundary.shape}"
        raise ValueError(f"the maps differ in shape: {shapes}; they must show the same pixels")
    core = (pieces > 0) & (distance > seed_level) & (boundary <= boundary_level)
    seeds = _without_small(_numbered(core, 1), min_seed_area)
    landscape = np.float32(boundary_weight) * boundary - distance
    parts = _grown(seeds, pieces, landscape, connectivity)
    if min_area > 0:
        too_small = np.bincount(parts.ravel(), minlength=seeds.max() + 1)[: seeds.max() + 1] < min_area
        if too_small[1:].any():
            parts = _grown(np.where(too_small[seeds], 0, seeds), pieces, landscape, connectivity)
    return relabel_sequential(parts)[0].astype(np.int32)


def _grown(seeds: Instances, pieces: Instances, landscape: Plane, connectivity: int) -> Instances:
    """Grow seeds in the pieces that hold two or more: they keep their numbers, other pieces get numbers above them.

    A piece with one seed gets that seed's number.
    """
    count = int(seeds.max())
    piece_of_seed = np.zeros(count + 1, np.intp)
    piece_of_seed[seeds] = pieces
    piece_of_seed[0] = 0
    held = np.bincount(piece_of_seed[piece_of_seed > 0], minlength=int(pieces.max()) + 1)
    number = np.arange(len(held), dtype=np.int32) + np.int32(count)
    number[piece_of_seed] = np.arange(count + 1, dtype=np.int32)
    number[0] = 0
    parts = number[pieces]
    contested = (held > 1)[pieces]
    if contested.any():
        markers = np.where(contested, seeds, 0)
        parts[contested] = watershed(landscape, markers, connectivity=connectivity, mask=contested)[contested]
    return parts


def _numbered(mask: NDArray[np.bool_], connectivity: int) -> Instances:
    """Number the connected regions of a mask, 1..N."""
    return ndimage.label(mask, ndimage.generate_binary_structure(2, connectivity), output=np.int32)[0]


def _without_small(regions: Instances, area: float) -> Instances:
    """Drop regions of fewer than ``area`` px and close the gaps in the numbers."""
    if area <= 1:
        return regions
    keep = np.bincount(regions.ravel()) >= area
    keep[0] = False
    return (np.cumsum(keep, dtype=np.int32) * keep)[regions]


def _holes(mask: NDArray[np.bool_], connectivity: int, area: float) -> NDArray[np.bool_]:
    """Mark the background that the foreground encloses, in holes of at most ``area`` px.

    Background joins by the other connectivity: a corner at which the foreground holds together parts it.
    """
    outside = _numbered(~mask, 3 - connectivity)
    size = np.bincount(outside.ravel())
    hole = size <= area
    hole[np.unique(np.concatenate([outside[0], outside[-1], outside[:, 0], outside[:, -1]]))] = False
    hole[0] = False
    return hole[outside]
