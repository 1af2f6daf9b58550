"""Tissue of phantom tiles: hematoxylin and eosin densities of stroma and nuclei."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.data.phantom.layout import FAR, Glands
from bundle.data.phantom.style import Style
from bundle.data.phantom.texture import Map, noise, noise_bank, sample_periodic, stamp_bank, stamp_map


@dataclass
class Densities:
    """Haematoxylin and eosin densities of a canvas, (H, W) each, changed in place by the drawing functions."""

    hematoxylin: Map
    eosin: Map

    def blend(self, cover: Map, hematoxylin: float, eosin: float) -> None:
        """Blend to the given densities by ``cover`` (H, W) in [0, 1]."""
        self.hematoxylin += cover * (hematoxylin - self.hematoxylin)
        self.eosin += cover * (eosin - self.eosin)

    def add_nuclei(self, nuclei: Map, density: float) -> None:
        """Draw nuclei over the tissue; ``nuclei`` (H, W) is a sum of stamps."""
        cover = np.minimum(nuclei, 1)
        self.hematoxylin += density * 1.5 * (1 - np.exp(-nuclei)) - 0.6 * cover * self.hematoxylin
        self.eosin -= 0.45 * cover * self.eosin


def scatter(generator: np.random.Generator, shape: tuple[int, int], spacing: float) -> NDArray[np.float32]:
    """Draw random positions (N, 2), px, about ``spacing`` px apart, in random order."""
    counts = np.ceil(np.array(shape) / spacing).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(count) for count in counts), indexing="ij"), axis=-1).reshape(-1, 2)
    positions = (grid + 0.5 + generator.uniform(-0.42, 0.42, grid.shape)) * spacing
    return generator.permutation(positions.astype(np.float32))


def pixels_at(positions: NDArray, shape: tuple[int, int]) -> tuple[NDArray, NDArray]:
    """Return rows and columns of the pixels at ``positions`` (N, 2), clipped to the canvas."""
    corner = np.floor(positions).astype(np.int32)
    return corner[:, 0].clip(0, shape[0] - 1), corner[:, 1].clip(0, shape[1] - 1)


def one_per_cell(positions: NDArray, spacing: float) -> NDArray[np.intp]:
    """Return indices of ``positions`` (N, 2) so that each grid cell of ``spacing`` px has at most one."""
    cell = np.floor(positions / spacing).astype(np.int64)
    return np.unique(cell[:, 0] * 100_003 + cell[:, 1], return_index=True)[1]


@dataclass(frozen=True)
class Flow:
    """Fiber direction of the stroma: coordinates (H, W), px, across and along the fibers."""

    across: Map
    along: Map

    @classmethod
    def draw(cls, generator: np.random.Generator, glands: Glands, mpp: float) -> Flow:
        """Draw randomly bent fibers that follow the outlines of nearby glands."""
        shape = glands.labels.shape
        angle = glands.angle + generator.normal(0, 0.3)
        rows = np.arange(shape[0], dtype=np.float32)[:, None]
        columns = np.arange(shape[1], dtype=np.float32)[None]
        bend = noise(generator, shape, 30 / mpp) * np.float32(7 / mpp)
        across = rows * np.float32(math.cos(angle)) - columns * np.float32(math.sin(angle)) + bend
        along = rows * np.float32(math.sin(angle)) + columns * np.float32(math.cos(angle))
        near = np.exp(-glands.outside / 9.0) if glands.outside.min() < FAR else np.zeros(shape, np.float32)
        return cls(across * (1 - near) + near * glands.outside / mpp, along)

    def angles(self, rows: NDArray, columns: NDArray) -> NDArray[np.float32]:
        """Return the direction of the fibers at given pixels, radians."""
        height, width = self.across.shape
        below, above = np.minimum(rows + 1, height - 1), np.maximum(rows - 1, 0)
        right, left = np.minimum(columns + 1, width - 1), np.maximum(columns - 1, 0)
        down = self.across[below, columns] - self.across[above, columns]
        across = self.across[rows, right] - self.across[rows, left]
        return np.arctan2(down, across) + np.float32(math.pi / 2)


def draw_stroma(
    generator: np.random.Generator, glands: Glands, style: Style, flow: Flow, muscle: Map, tear: Map, mpp: float
) -> Densities:
    """Draw fibers, gaps, clefts around glands and tears; ``muscle`` and ``tear`` are maps (H, W) in [0, 1]."""
    shape = glands.labels.shape
    fibers = sample_periodic(noise_bank(round(max(1.7 / mpp, 0.7), 2), 8.0), flow.across, flow.along)
    clouds = noise(generator, shape, 11 / mpp)
    eosin = style.fiber * (1 + 0.24 * fibers + 0.14 * clouds)
    eosin = eosin * (1 - muscle) + muscle * (style.fiber * 1.15 + 0.08) * (1 + 0.12 * fibers)
    hematoxylin = 0.07 + 0.05 * muscle + 0.03 * noise(generator, shape, 6 / mpp)
    densities = Densities(np.maximum(hematoxylin, 0.0), np.maximum(eosin, 0.05))
    empty = 0.7 * fibers * np.minimum(glands.outside / 14, 1) + clouds + 0.9 * noise(generator, shape, 4 / mpp)
    level = 2.4 - 3.6 * style.loose + 3.0 * muscle
    densities.blend(np.clip((empty - level) * 1.5, 0, 1), 0.02, 0.05)
    width = style.halo * (0.7 + 0.8 * noise(generator, shape, 18 / mpp))
    cleft = np.clip((width - glands.outside) / 1.5, 0, 1) * (glands.outside > 1.5)
    densities.blend(cleft.astype(np.float32), 0.01, 0.03)
    densities.eosin += 0.12 * np.exp(-(((glands.outside - 1.5) / 1.2) ** 2))
    densities.blend(tear, 0.0, 0.015)
    return densities


def add_stroma_cells(
    generator: np.random.Generator,
    densities: Densities,
    glands: Glands,
    style: Style,
    flow: Flow,
    muscle: Map,
    tear: Map,
    mpp: float,
) -> None:
    """Draw fibroblasts along the fibers, lymphocytes and plasma cells in clusters, red cells in small vessels."""
    shape = glands.labels.shape
    free = (glands.outside > 2.5) & (tear < 0.3)
    clustering = noise(generator, shape, 16 / mpp)
    stroma_weight = 1 - 0.6 * muscle
    chances = {
        "spindle": (10.0, style.spindles * 0.6 * np.ones_like(stroma_weight), 0.65),
        "lymphocyte": (7.2, style.lymphocytes * np.clip(0.5 + 0.55 * clustering, 0.03, 1) * stroma_weight**3, 1.05),
        "plasma": (8.5, 0.45 * style.lymphocytes * np.clip(0.4 - 0.4 * clustering, 0.03, 1) * stroma_weight**3, 0.8),
    }
    for kind, (spacing, chance, density) in chances.items():
        positions = scatter(generator, shape, spacing / mpp)
        rows, columns = pixels_at(positions, shape)
        keep = free[rows, columns] & (generator.uniform(size=len(rows)) < chance[rows, columns])
        angles = flow.angles(rows[keep], columns[keep]) + generator.normal(0, 0.15, keep.sum())
        if kind != "spindle":
            angles = generator.uniform(0, math.pi, keep.sum())
        densities.add_nuclei(stamp_map(generator, shape, positions[keep], angles, stamp_bank(kind, mpp)), density)
    vessel = np.clip((noise(generator, shape, 9 / mpp) - 2.1) * 3, 0, 1) * free
    positions = scatter(generator, shape, 5.2 / mpp)
    rows, columns = pixels_at(positions, shape)
    keep = vessel[rows, columns] > 0.2
    angles = generator.uniform(0, math.pi, keep.sum())
    cells = stamp_map(generator, shape, positions[keep], angles, stamp_bank("red_cell", mpp))
    densities.eosin += 0.75 * cells
    densities.hematoxylin *= 1 - 0.7 * np.minimum(cells, 1)
