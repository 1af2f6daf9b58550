"""Layout of phantom tiles: positions and outlines of glands."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import measure

from bundle.data.phantom.texture import Map, noise

FAR = 1e3


@dataclass(frozen=True)
class Layout:
    """Shape and packing of the glands of one patient; lengths in um.

    Attributes:
        radius: half width of a gland.
        reach: half length of the straight part of a gland; 0 is round, 80 a long tube.
        gap: typical width of stroma between neighbors.
        gap_spread: spatial variation of the gap; glands touch where it is below 0.
        warp: amplitude of the deformation of outlines.
        warp_length: correlation length of the deformation.
        arms: largest number of capsules of one gland (branching).
        missing: share of positions in [0, 1] without a gland.
        pairs: share of glands in [0, 1] that are moved towards their neighbor until they touch.
    """

    radius: float
    reach: float
    gap: float
    gap_spread: float
    warp: float
    warp_length: float
    arms: int
    missing: float
    pairs: float


@dataclass(frozen=True)
class Glands:
    """Gland outlines on a canvas.

    Attributes:
        labels: (H, W), int32, 0 is stroma, 1..N are glands; each label is one connected component.
        depth: (H, W), distance (um) to the gland's outline, 0 in stroma.
        foot: (2, H, W), the outline pixel (row, column) nearest to each gland pixel.
        outside: (H, W), distance (um) to the nearest gland, 0 in glands.
        angle: main direction of the glands, radians.
    """

    labels: NDArray[np.int32]
    depth: Map
    foot: NDArray[np.int32]
    outside: Map
    angle: float


def _centers(generator: np.random.Generator, extent: NDArray, layout: Layout, angle: float) -> NDArray[np.float64]:
    """Draw gland centers (N, 2), um, in a jittered brick pattern over ``extent`` (height, width) and a margin."""
    across = 2 * layout.radius + layout.gap
    along = across + 2 * layout.reach
    half = 0.5 * float(np.hypot(*extent)) + along
    rows = np.arange(-math.ceil(half / (0.9 * across)), math.ceil(half / (0.9 * across)) + 1)
    columns = np.arange(-math.ceil(half / along), math.ceil(half / along) + 1)
    grid_row, grid_column = (grid.ravel() for grid in np.meshgrid(rows, columns, indexing="ij"))
    positions = np.stack([grid_row * 0.9 * across, (grid_column + 0.5 * (grid_row % 2)) * along], axis=1)
    positions += generator.uniform(-0.5, 0.5, positions.shape) * np.array([0.28 * across, 0.28 * along])
    positions += generator.uniform(-0.5, 0.5, 2) * np.array([across, along])
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    center = positions @ rotation.T + 0.5 * extent
    margin = layout.radius + layout.reach
    near = np.all((center > -margin) & (center < extent + margin), axis=1)
    return center[near]


def _capsules(generator: np.random.Generator, center: NDArray, layout: Layout, angle: float) -> NDArray[np.float64]:
    """Draw the capsules of one gland, (K, 5): row, column, half length, radius (um) and angle (radians)."""
    radius = layout.radius * generator.uniform(0.82, 1.12)
    direction = angle + generator.normal(0, 0.12 if layout.reach > 12 else 0.6)
    capsules = [[center[0], center[1], layout.reach * generator.uniform(0.6, 1.2), radius, direction]]
    for _ in range(generator.integers(0, layout.arms)):
        arm_direction = direction + generator.choice([-1, 1]) * generator.uniform(0.6, 1.5)
        length = generator.uniform(0.5, 1.1) * layout.radius
        start = center + generator.uniform(-1, 1) * layout.reach * np.array([math.sin(direction), math.cos(direction)])
        arm = start + (length + 0.4 * radius) * np.array([math.sin(arm_direction), math.cos(arm_direction)])
        capsules.append([arm[0], arm[1], length, radius * generator.uniform(0.55, 0.8), arm_direction])
    return np.array(capsules)


def _close_gaps(
    generator: np.random.Generator, gap: Map, centers: NDArray, layout: Layout, rows: Map, columns: Map
) -> Map:
    """Lower ``gap`` (H, W), um, below 0 between some neighbors, so that these pairs touch."""
    for number in np.flatnonzero(generator.uniform(size=len(centers)) < layout.pairs):
        distance = np.hypot(*(centers - centers[number]).T)
        distance[number] = FAR
        middle = 0.5 * (centers[number] + centers[distance.argmin()]).astype(np.float32)
        squared = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2
        gap = gap - np.float32(1.3 * layout.gap + 12) * np.exp(-(squared / np.float32(2 * (0.8 * layout.radius) ** 2)))
    return gap


def _nearest_glands(
    capsules: list[NDArray], rows: Map, columns: Map, mpp: float, slack: float
) -> tuple[Map, Map, NDArray]:
    """Return distances (um) to the nearest and second nearest gland and the nearest gland's number, each (H, W)."""
    first = np.full(rows.shape, FAR, np.float32)
    second = np.full(rows.shape, FAR, np.float32)
    owner = np.zeros(rows.shape, np.int32)
    for number, parts in enumerate(capsules, start=1):
        size = (parts[:, 2] + parts[:, 3] + slack)[:, None]
        low = np.floor((parts[:, :2] - size).min(axis=0) / mpp).astype(int).clip(0)
        high = np.ceil((parts[:, :2] + size).max(axis=0) / mpp).astype(int).clip(0)
        box = (slice(low[0], high[0]), slice(low[1], high[1]))
        near = first[box]
        if near.size == 0:
            continue
        distance = np.full(near.shape, FAR, np.float32)
        for row, column, half, radius, angle in parts.astype(np.float32):
            down, right = rows[box] - row, columns[box] - column
            along = right * np.cos(angle) + down * np.sin(angle)
            across = down * np.cos(angle) - right * np.sin(angle)
            beyond = np.maximum(np.abs(along) - half, 0)
            swell = radius * (1 + 0.12 * np.clip(along / (half + radius), -1, 1))
            distance = np.minimum(distance, np.sqrt(beyond**2 + across**2) - swell)
        nearer = distance < near
        second[box] = np.where(nearer, near, np.minimum(second[box], distance))
        first[box] = np.where(nearer, distance, near)
        owner[box][nearer] = number
    return first, second, owner


def number_components(labels: NDArray, smallest: float) -> NDArray[np.int32]:
    """Number connected components 1..N without those below ``smallest`` px; touching glands stay separate."""
    pieces = measure.label(labels, background=0, connectivity=1)
    keep = np.bincount(pieces.ravel()) >= smallest
    keep[0] = False
    return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[pieces]


def measure_glands(labels: NDArray[np.int32], angle: float, mpp: float) -> Glands:
    """Compute depth, foot points and distance to glands for given ``labels`` (H, W)."""
    inner = labels > 0
    inner[:-1] &= labels[:-1] == labels[1:]
    inner[:, :-1] &= labels[:, :-1] == labels[:, 1:]
    inner[0, 0] = False
    depth, foot = ndimage.distance_transform_edt(inner, return_indices=True)
    stroma = labels == 0
    outside = ndimage.distance_transform_edt(stroma) if not stroma.all() else np.full(labels.shape, FAR)
    return Glands(labels, (depth * mpp).astype(np.float32), foot, (outside * mpp).astype(np.float32), angle)


def draw_glands(
    generator: np.random.Generator, shape: tuple[int, int], layout: Layout, mpp: float, excluded: NDArray[np.bool_]
) -> Glands:
    """Draw the glands of one tile; there is always at least one.

    Args:
        generator: random generator of the tile.
        shape: canvas (height, width), px.
        layout: layout of the patient.
        mpp: um/px.
        excluded: (H, W), bool, pixels without glands (muscle, background).
    """
    extent = np.array(shape) * mpp
    angle = generator.uniform(0, math.pi)
    bend = layout.warp * noise(generator, shape, layout.warp_length / mpp)
    sway = layout.warp * noise(generator, shape, layout.warp_length / mpp)
    rows = (np.arange(shape[0], dtype=np.float32) * mpp)[:, None] + bend
    columns = (np.arange(shape[1], dtype=np.float32) * mpp)[None] + sway
    gap = layout.gap + layout.gap_spread * noise(generator, shape, 45 / mpp)
    centers = _centers(generator, extent, layout, angle)
    present = generator.uniform(size=len(centers)) >= layout.missing
    if not present.any():
        centers, present = 0.5 * extent[None], np.array([True])
    centers = centers[present]
    gap = _close_gaps(generator, gap, centers, layout, rows, columns)
    capsules = [_capsules(generator, center, layout, angle) for center in centers]
    first, second, owner = _nearest_glands(capsules, rows, columns, mpp, slack=2.5 * layout.warp + layout.gap + 20)
    inside = (first < np.clip(-gap, 0, 0.5 * layout.gap + 6)) & (second - first > np.maximum(gap, 0))
    smallest = 0.25 * math.pi * layout.radius**2 / mpp**2
    labels = number_components(np.where(inside & ~excluded, owner, 0), smallest)
    if not labels.any():
        labels = number_components(np.where(inside, owner, 0), 1)
    if not labels.any():
        labels = number_components(first <= np.quantile(first, 0.4), 1)
    return measure_glands(labels, angle, mpp)
