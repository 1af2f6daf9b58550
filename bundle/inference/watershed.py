"""Watershed that separates touching glands, seeded by signed distance and boundary."""

from __future__ import annotations

import numpy as np
from skimage.segmentation import relabel_sequential, watershed

from bundle.inference.components import (
    Instances,
    Plane,
    check_areas,
    component_instances,
    label_components,
    remove_small,
)


def check_levels(seed_level: float, boundary_level: float, boundary_weight: float) -> None:
    """Check the ranges of the watershed's settings.

    Raises:
        ValueError: if a setting is outside its range.
    """
    if not -1.0 <= seed_level < 1.0:
        raise ValueError(f"seed_level is {seed_level!r}; a signed distance needs a level from -1 to below 1")
    if not 0.0 <= boundary_level <= 1.0:
        raise ValueError(f"boundary_level is {boundary_level!r}; a probability needs a level from 0 to 1")
    if not 0.0 <= boundary_weight < np.inf:
        raise ValueError(f"boundary_weight is {boundary_weight!r}; it must be 0 or more, and finite")


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
    """Split connected components where the signed distance has a neck or the boundary map has a ridge.

    Seeds are the connected regions of the foreground (by sides, so that a boundary 1 px thick separates them) where the
    distance is above ``seed_level`` and the boundary is at most ``boundary_level``. In each component with two or more
    seeds, a watershed floods the landscape ``boundary_weight`` x boundary - distance from the seeds. A component with
    one seed or none stays whole. The seed of an instance smaller than ``min_area`` is removed, and its neighbors in the
    component grow into its area. The foreground therefore equals that of :func:`component_instances` with the same
    areas; only the splits differ.

    Args:
        foreground: (H, W); values above 0 are gland.
        distance: (H, W), signed distance in [-1, 1], positive inside; in units of the target's distance, for example
            20 px at working resolution.
        boundary: (H, W), boundary probability in [0, 1].
        seed_level: minimum distance of a seed pixel (exclusive), in [-1, 1); -1 ignores the distance.
        boundary_level: maximum boundary probability of a seed pixel, in [0, 1]; 1 ignores the boundary.
        boundary_weight: height of a boundary of probability 1 in the landscape, in units of the distance, 0 or more;
            with 0, seeds meet at the neck of the distance.
        min_seed_area: seeds with fewer px are removed.
        min_area: glands with fewer px are merged into a neighbor in their component; smaller components are removed.
        hole_area: holes of at most this many px are filled first; 0 fills none.
        connectivity: of the components and of the growing seeds; 1 by sides, 2 also by corners.

    Returns:
        (H, W) int32, 0 background, 1..N.

    Raises:
        ValueError: if the maps differ in shape or a setting is outside its range.
    """
    check_levels(seed_level, boundary_level, boundary_weight)
    check_areas(connectivity, min_seed_area=min_seed_area)
    distance, boundary = np.asarray(distance, np.float32), np.asarray(boundary, np.float32)
    components = component_instances(foreground, connectivity, min_area, hole_area)
    if not components.shape == distance.shape == boundary.shape:
        shapes = f"foreground {components.shape}, distance {distance.shape}, boundary {boundary.shape}"
        raise ValueError(f"the maps differ in shape: {shapes}; they must show the same pixels")
    # One seed for each core of the foreground; the watershed grows them inside their component.
    core = (components > 0) & (distance > seed_level) & (boundary <= boundary_level)
    seeds = remove_small(label_components(core, 1), min_seed_area)
    landscape = np.float32(boundary_weight) * boundary - distance
    instances = _grow(seeds, components, landscape, connectivity)
    # Instances that are too small lose their seed, so that their neighbors grow into their area.
    if min_area > 0:
        too_small = np.bincount(instances.ravel(), minlength=seeds.max() + 1)[: seeds.max() + 1] < min_area
        if too_small[1:].any():
            instances = _grow(np.where(too_small[seeds], 0, seeds), components, landscape, connectivity)
    return relabel_sequential(instances)[0].astype(np.int32)


def _grow(seeds: Instances, components: Instances, landscape: Plane, connectivity: int) -> Instances:
    """Run the watershed in components with two or more seeds.

    Instances keep the numbers of their seeds. A component with one seed gets its number, one without a seed gets a
    number above those of the seeds.
    """
    count = int(seeds.max())
    component_of_seed = np.zeros(count + 1, np.intp)
    component_of_seed[seeds] = components
    component_of_seed[0] = 0
    seeds_per_component = np.bincount(component_of_seed[component_of_seed > 0], minlength=int(components.max()) + 1)
    number = np.arange(len(seeds_per_component), dtype=np.int32) + np.int32(count)
    number[component_of_seed] = np.arange(count + 1, dtype=np.int32)
    number[0] = 0
    instances = number[components]
    contested = (seeds_per_component > 1)[components]
    if contested.any():
        markers = np.where(contested, seeds, 0)
        instances[contested] = watershed(landscape, markers, connectivity=connectivity, mask=contested)[contested]
    return instances
