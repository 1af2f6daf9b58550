"""Connected components of super-level sets: where each is born, and where it joins an older one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

Indices = NDArray[np.int64]
Levels = NDArray[np.float32]

NEVER = -1
"""Death of a component that no older one takes in. As an index it is the last, where a 0 can be kept."""


@dataclass(frozen=True)
class Components:
    """Components of some maps, one an entry.

    Attributes:
        peak: index, into the flattened maps, of the pixel where the component appears: its highest.
        saddle: index of the pixel that joins it with an older one, the highest on any way to a higher peak; ``NEVER``
            for the oldest of each patch.
        birth: value at the peak.
        death: value at the saddle; 0 for the oldest of each patch.
        patch: which patch it lies in, counted through patch rows, then maps.
    """

    peak: Indices
    saddle: Indices
    birth: Levels
    death: Levels
    patch: Indices

    @property
    def persistence(self) -> Levels:
        """For how many levels each component lives, above 0."""
        return self.birth - self.death

    def where(self, kept: NDArray[np.bool_]) -> Components:
        """Some of them."""
        return Components(self.peak[kept], self.saddle[kept], self.birth[kept], self.death[kept], self.patch[kept])


def components_of(maps: Levels, patch_size: int) -> Components:
    """0-dimensional persistence of the super-level sets of maps, patch by patch (Edelsbrunner, Harer 2010).

    While a level falls from the highest value to 0, the pixels at or above it grow components; pixels touch
    by their sides, within one patch. Where two meet, the one with the lower peak dies. All patches of all maps are
    worked on at once: each pixel climbs to the peak above it (the steepest neighbor, again and again), peaks are
    joined by the highest saddle between neighboring basins, and the maximum spanning tree of these saddles holds all
    that ever merge. So the loop runs over peaks, and not over pixels.

    Args:
        maps: (N, H, W), finite, 0 or more. Of equal values the first in reading order is taken for the higher.
        patch_size: side of a patch, in px; patches at the right and lower edge may be smaller.

    Returns:
        All components whose birth and death are not the same value.
    """
    height, width = maps.shape[1:]
    values = maps.ravel()
    order = np.argsort(-values, kind="stable")
    place = np.empty_like(order)  # 0 for the highest pixel; from here on a pixel is called by its place
    place[order] = np.arange(order.size)
    place = place.reshape(maps.shape)

    highest = place.copy()
    one, other = [], []
    for upper, lower, touch in (
        (np.s_[:, :-1], np.s_[:, 1:], (np.arange(1, height) % patch_size > 0)[:, None]),
        (np.s_[:, :, :-1], np.s_[:, :, 1:], np.arange(1, width) % patch_size > 0),
    ):
        np.minimum(highest[upper], place[lower], out=highest[upper], where=touch)
        np.minimum(highest[lower], place[upper], out=highest[lower], where=touch)
        same_patch = np.broadcast_to(touch, place[upper].shape)
        one.append(place[upper][same_patch])
        other.append(place[lower][same_patch])
    peak = np.empty_like(order)
    peak[place.ravel()] = highest.ravel()
    while not np.array_equal(peak, further := peak[peak]):
        peak = further

    is_highest = peak == np.arange(peak.size)
    basin = (np.cumsum(is_highest) - 1)[peak]
    met = _meetings(np.concatenate(one), np.concatenate(other), basin)

    peaks = order[is_highest]
    saddles = np.where(met == NEVER, NEVER, order[met])
    image, row, column = np.unravel_index(peaks, maps.shape)
    patches = (image * -(-height // patch_size) + row // patch_size) * -(-width // patch_size) + column // patch_size
    levels = np.append(values, np.float32(0.0))
    found = Components(peaks, saddles, levels[peaks], levels[saddles], patches)
    return found.where(found.persistence > 0.0)


def _meetings(one: Indices, other: Indices, basin: Indices) -> Indices:
    """The place where each basin joins an older one, by its number; ``NEVER`` for the oldest of each patch.

    Args:
        one: place of a pixel, for each two neighbors.
        other: place of its neighbor.
        basin: number of the basin of each place; the older a basin, the lower its number.
    """
    count = int(basin.max()) + 1
    apart = basin[one] != basin[other]
    one, other = one[apart], other[apart]
    saddle = np.maximum(one, other)
    first = np.argsort(saddle, kind="stable")
    pair = (np.minimum(basin[one], basin[other]) * count + np.maximum(basin[one], basin[other]))[first]
    pair, index = np.unique(pair, return_index=True)  # with the highest saddle of each two basins
    weight = saddle[first][index] + 1  # not 0, which would mean no edge
    tree = minimum_spanning_tree(csr_matrix((weight, (pair // count, pair % count)), shape=(count, count))).tocoo()

    met = np.full(count, NEVER)
    older = list(range(count))

    def oldest(number: int) -> int:
        while older[number] != number:
            older[number] = number = older[older[number]]
        return number

    edges = np.argsort(tree.data, kind="stable")
    for left, right, meeting in zip(*(part[edges].tolist() for part in (tree.row, tree.col, tree.data)), strict=True):
        survivor, younger = sorted((oldest(left), oldest(right)))
        older[younger] = survivor
        met[younger] = meeting - 1
    return met
