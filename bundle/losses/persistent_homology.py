"""0-dimensional persistent homology: birth and death of the connected components of super-level sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import minimum_spanning_tree

Indices = NDArray[np.int64]
Levels = NDArray[np.float32]

NEVER = -1
"""Saddle of a component that never merges with an older one. As an index it reads the last value, an added 0."""


@dataclass(frozen=True)
class Components:
    """Components of several maps, one per entry.

    Attributes:
        peak: index, into the flattened maps, of the highest pixel of the component, where it is born.
        saddle: index of the pixel where it merges with an older component, the highest on any path to a higher peak;
            ``NEVER`` for the oldest component of each patch.
        birth: value at the peak.
        death: value at the saddle; 0 for the oldest component of each patch.
        patch: index of its patch, in row order within a map, then by map.
    """

    peak: Indices
    saddle: Indices
    birth: Levels
    death: Levels
    patch: Indices

    @property
    def persistence(self) -> Levels:
        """Birth minus death, above 0."""
        return self.birth - self.death

    def where(self, mask: NDArray[np.bool_]) -> Components:
        """Return the components where ``mask`` is true."""
        return Components(self.peak[mask], self.saddle[mask], self.birth[mask], self.death[mask], self.patch[mask])


def components_of(maps: Levels, patch_size: int) -> Components:
    """Compute the 0-dimensional persistence of super-level sets in each patch (Edelsbrunner, Harer 2010).

    As a threshold decreases from the largest value to 0, the pixels at or above it form growing components
    (4-connectivity, within a patch). If two meet, the one with the lower peak dies. All patches of all maps are
    processed at once: each pixel is assigned to the peak that steepest ascent reaches, neighboring basins are connected
    by their highest saddle, and the maximum spanning tree of the saddles contains all merges. So the Python loop runs
    over peaks, not over pixels.

    Args:
        maps: (N, H, W), finite, 0 or more. Of equal values, the first in reading order counts as higher.
        patch_size: side of a patch, in px; patches at the right and lower edge may be smaller.

    Returns:
        All components whose birth and death differ.
    """
    height, width = maps.shape[1:]
    values = maps.ravel()
    order = np.argsort(-values, kind="stable")
    rank = np.empty_like(order)  # 0 for the highest pixel; below, pixels are identified by their rank
    rank[order] = np.arange(order.size)
    rank = rank.reshape(maps.shape)

    # Steepest ascent: each pixel points to its highest neighbor in the patch, until only peaks are left.
    highest = rank.copy()
    firsts, seconds = [], []
    for upper, lower, touch in (
        (np.s_[:, :-1], np.s_[:, 1:], (np.arange(1, height) % patch_size > 0)[:, None]),
        (np.s_[:, :, :-1], np.s_[:, :, 1:], np.arange(1, width) % patch_size > 0),
    ):
        np.minimum(highest[upper], rank[lower], out=highest[upper], where=touch)
        np.minimum(highest[lower], rank[upper], out=highest[lower], where=touch)
        same_patch = np.broadcast_to(touch, rank[upper].shape)
        firsts.append(rank[upper][same_patch])
        seconds.append(rank[lower][same_patch])
    peak = np.empty_like(order)
    peak[rank.ravel()] = highest.ravel()
    while not np.array_equal(peak, next_peak := peak[peak]):
        peak = next_peak

    is_highest = peak == np.arange(peak.size)
    basin = (np.cumsum(is_highest) - 1)[peak]
    merges = _merges(np.concatenate(firsts), np.concatenate(seconds), basin)

    peaks = order[is_highest]
    saddles = np.where(merges == NEVER, NEVER, order[merges])
    image, row, column = np.unravel_index(peaks, maps.shape)
    patches = (image * -(-height // patch_size) + row // patch_size) * -(-width // patch_size) + column // patch_size
    levels = np.append(values, np.float32(0.0))
    components = Components(peaks, saddles, levels[peaks], levels[saddles], patches)
    return components.where(components.persistence > 0.0)


def _merges(first: Indices, second: Indices, basin: Indices) -> Indices:
    """Return the rank at which each basin merges with an older one; ``NEVER`` for the oldest of each patch.

    Args:
        first: rank of a pixel, for each pair of neighbors.
        second: rank of its neighbor.
        basin: index of the basin of each rank; older basins have lower indices.
    """
    count = int(basin.max()) + 1
    border = basin[first] != basin[second]
    first, second = first[border], second[border]
    saddle = np.maximum(first, second)
    by_height = np.argsort(saddle, kind="stable")
    pair = np.minimum(basin[first], basin[second]) * count + np.maximum(basin[first], basin[second])
    pair, index = np.unique(pair[by_height], return_index=True)  # keeps the highest saddle of each pair of basins
    weight = saddle[by_height][index] + 1  # 0 would mean no edge
    tree = minimum_spanning_tree(csr_matrix((weight, (pair // count, pair % count)), shape=(count, count))).tocoo()

    # Union-find over the edges of the tree, the highest first.
    merges = np.full(count, NEVER)
    parent = list(range(count))

    def oldest(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    edges = np.argsort(tree.data, kind="stable")
    for row, column, rank in zip(*(part[edges].tolist() for part in (tree.row, tree.col, tree.data)), strict=True):
        survivor, younger = sorted((oldest(row), oldest(column)))
        parent[younger] = survivor
        merges[younger] = rank - 1
    return merges
