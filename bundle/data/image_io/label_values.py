"""Interpretation of label values: binary mask, instances, or classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LARGEST_VALUE = 2**24
"""Largest value: float32, the type of the tensors, represents all integers up to it exactly."""
SPARE_COMPONENTS = 8
"""Number of connected components that a mask may have beyond twice its values, and of specks that touch other values:
few glands are split, by cuts or careless annotation. Instance masks of GlaS have at most 2 extra components; smoothing
makes hundreds."""
SPECK = 3
"""Largest area (px) of a component that may come from a smoothed edge."""


def label_kind(label: NDArray[Any], classes: int | None = None) -> str:
    """Return how the values of a label are interpreted.

    Args:
        label: (H, W), integers or floats with integer values; 0 is background.
        classes: number of classes, background included, if values are classes.

    Returns:
        ``empty`` if all is background; else ``classes`` if that number is given; else ``full`` for one value
        everywhere, ``binary`` for background and one other value (0/1, 0/255), ``instances`` for more.

    Raises:
        ValueError: if values are negative, fractional, above 2^24 or ``classes - 1``, or look smoothed by JPEG or
            resizing: the mask has far more connected components than values, or mostly specks that touch other values.
    """
    if label.size == 0:
        raise ValueError("it has no pixels; export it again")
    if label.dtype.kind not in "biuf":
        raise ValueError(f"values have the type {label.dtype}; give a mask of integers, 0 for background")
    if label.dtype.kind == "f" and not (np.isfinite(label).all() and (label == np.rint(label)).all()):
        raise ValueError("some values are fractions or not finite; give a mask of integers, 0 for background")
    lowest, highest = int(label.min()), int(label.max())
    if lowest < 0:
        raise ValueError(f"the lowest value is {lowest}; give a mask of integers, 0 for background")
    if classes is not None and highest >= classes:
        raise ValueError(f"the highest value is {highest}, but {classes} classes have values up to {classes - 1}")
    if highest > LARGEST_VALUE:
        raise ValueError(f"the highest value is {highest}; number the glands 1, 2, 3 and so on, up to {LARGEST_VALUE}")
    if highest == 0:
        return "empty"
    if classes is not None:
        return "classes"
    if lowest == highest:
        return "full"
    if lowest == 0 and np.count_nonzero(label) == np.count_nonzero(label == highest):
        return "binary"
    _refuse_smoothed(label)
    return "instances"


def _refuse_smoothed(label: NDArray[Any]) -> None:
    values, areas, touching = _components(label)
    count = len(np.unique(values))
    specks = np.count_nonzero((areas <= SPECK) & touching)
    if len(values) > 2 * count + SPARE_COMPONENTS or (specks > SPARE_COMPONENTS and 2 * specks > len(values)):
        raise ValueError(
            f"{count} values have {len(values)} separate pieces, as in a mask smoothed by JPEG or resizing; export it "
            "without either, or prepare it with --threshold, or give the number of classes if values are classes"
        )


def _components(label: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Return value, area (px), and whether it touches another value, of each 4-connected foreground component.

    They are the components of the graph of runs (row segments of one value), which is far smaller than the picture:
    scikit-image's ``label`` takes several times as long.
    """
    width = label.shape[1]
    starts = np.ones(label.shape, bool)
    np.not_equal(label[:, 1:], label[:, :-1], out=starts[:, 1:])
    first = np.flatnonzero(starts)
    equal = label[1:] == label[:-1]
    # The first contact of two runs is where one of them starts.
    upper = np.flatnonzero(equal & (starts[1:] | starts[:-1]))
    edges = (np.searchsorted(first, upper, "right") - 1, np.searchsorted(first, upper + width, "right") - 1)
    graph = coo_array((np.ones(len(upper), bool), edges), shape=(len(first), len(first)))
    count, component = connected_components(graph, directed=False)
    values = np.zeros(count, label.dtype)
    values[component] = label.ravel()[first]
    areas = np.bincount(component, weights=np.diff(first, append=label.size), minlength=count)
    touching = np.zeros(count, bool)
    left_pixels = np.flatnonzero(starts[:, 1:] & (label[:, 1:] != 0) & (label[:, :-1] != 0))
    left_pixels += left_pixels // (width - 1) if width > 1 else 0
    upper_pixels = np.flatnonzero(~equal & (label[1:] != 0) & (label[:-1] != 0))
    for pixels in (left_pixels, left_pixels + 1, upper_pixels, upper_pixels + width):
        touching[component[np.searchsorted(first, pixels, "right") - 1]] = True
    foreground = values != 0
    return values[foreground], areas[foreground], touching[foreground]
