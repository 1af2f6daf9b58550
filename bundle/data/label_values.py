"""What the values of a label mean: glands or not, numbered glands, or classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LARGEST = 2**24
"""The largest value: float32, the type of the tensors, tells whole numbers apart up to here."""
SPARE_PIECES = 8
"""How many pieces more than twice its values a mask may have, and how many specks at a rim: glands fall into pieces
where they are cut or drawn carelessly, seldom all of them. In GlaS no numbered mask has more than 2 spare pieces;
smoothing gives hundreds."""
SPECK = 3
"""Area in px up to which a piece may be a step of a smoothed rim."""


def reading_of(label: NDArray[Any], classes: int | None = None) -> str:
    """How the values of a label are to be read.

    Args:
        label: (H, W), integers or whole floats; 0 is background.
        classes: number of classes, background included, where values are classes.

    Returns:
        ``empty`` where all is background; with ``classes`` else ``classes``; without, ``full`` for one value
        everywhere, ``binary`` for background and one other value (0/1, 0/255), ``instances`` for more.

    Raises:
        ValueError: where values are negative, fractional, above 2^24 or ``classes - 1``, or look like those of a mask
            that JPEG or resizing has smoothed. That is so where a mask falls into far more pieces than it has values,
            or mostly into specks that touch other values.
    """
    if label.size == 0:
        raise ValueError("it has no pixel; export it again")
    if label.dtype.kind not in "biuf":
        raise ValueError(f"values are of the type {label.dtype}; give a mask of whole numbers, 0 for background")
    if label.dtype.kind == "f" and not (np.isfinite(label).all() and (label == np.rint(label)).all()):
        raise ValueError("some values are fractions or not finite; give a mask of whole numbers, 0 for background")
    lowest, highest = int(label.min()), int(label.max())
    if lowest < 0:
        raise ValueError(f"the lowest value is {lowest}; give a mask of whole numbers, 0 for background")
    if classes is not None and highest >= classes:
        raise ValueError(f"the highest value is {highest}, but {classes} classes have values up to {classes - 1}")
    if highest > LARGEST:
        raise ValueError(f"the highest value is {highest}; number the glands 1, 2, 3 and so on, up to {LARGEST}")
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
    values, areas, at_rim = _pieces(label)
    count = len(np.unique(values))
    specks = np.count_nonzero((areas <= SPECK) & at_rim)
    if len(values) > 2 * count + SPARE_PIECES or (specks > SPARE_PIECES and 2 * specks > len(values)):
        raise ValueError(
            f"{count} values lie in {len(values)} pieces, as in a mask smoothed by JPEG or resizing; export it without "
            f"either, or give the number of classes where values are classes"
        )


def _pieces(label: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.bool_]]:
    """Connected pieces of one value other than 0: value, area in px, and whether each touches another such value.

    Pixels are connected by their sides. The pieces are those of the graph of runs, the stretches of a row with one
    value, which is far smaller than the picture: scikit-image's ``label`` takes several times as long.
    """
    width = label.shape[1]
    starts = np.ones(label.shape, bool)
    np.not_equal(label[:, 1:], label[:, :-1], out=starts[:, 1:])
    first = np.flatnonzero(starts)
    equal = label[1:] == label[:-1]
    # Two runs that touch do so, first of all, where one of them starts.
    upper = np.flatnonzero(equal & (starts[1:] | starts[:-1]))
    edges = (np.searchsorted(first, upper, "right") - 1, np.searchsorted(first, upper + width, "right") - 1)
    graph = coo_array((np.ones(len(upper), bool), edges), shape=(len(first), len(first)))
    count, piece = connected_components(graph, directed=False)
    values = np.zeros(count, label.dtype)
    values[piece] = label.ravel()[first]
    areas = np.bincount(piece, weights=np.diff(first, append=label.size), minlength=count)
    at_rim = np.zeros(count, bool)
    beside = np.flatnonzero(starts[:, 1:] & (label[:, 1:] != 0) & (label[:, :-1] != 0))
    beside += beside // (width - 1) if width > 1 else 0
    above = np.flatnonzero(~equal & (label[1:] != 0) & (label[:-1] != 0))
    for pixels in (beside, beside + 1, above, above + width):
        at_rim[piece[np.searchsorted(first, pixels, "right") - 1]] = True
    kept = values != 0
    return values[kept], areas[kept], at_rim[kept]
