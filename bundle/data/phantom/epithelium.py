"""Epithelium of phantom glands: cytoplasm, lumen, mucin vacuoles and nuclei."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.data.phantom.layout import Glands
from bundle.data.phantom.style import Style
from bundle.data.phantom.texture import STAMPS, Map, noise, noise_bank, sample_periodic, stamp_bank, stamp_map
from bundle.data.phantom.tissue import Densities, one_per_cell, pixels_at, scatter

STRATIFIED = 0.42
"""Value of ``Style.layers`` above which nuclei are in several rows."""


@dataclass(frozen=True)
class Lining:
    """Maps of the layers of the epithelium, each (H, W).

    Attributes:
        height: height of the epithelium, um.
        lumen: in [0, 1], 1 in the lumen.
        hole: in [0, 1], slightly wider than ``lumen``; no nuclei are drawn there.
    """

    height: Map
    lumen: Map
    hole: Map


def draw_lining(generator: np.random.Generator, glands: Glands, style: Style, mpp: float) -> Lining:
    """Draw the lumens; the height varies between glands, and some show no lumen."""
    shape = glands.labels.shape
    variation = generator.uniform(0.8, 1.15, glands.labels.max() + 1).astype(np.float32)
    height = style.height * variation[glands.labels] * (1 + 0.12 * noise(generator, shape, 6 / mpp))
    open_share = np.clip((glands.depth - height) / 1.5, 0, 1)
    level = 2.6 - 1.4 * style.holes
    mucin_noise = noise(generator, shape, 7 / mpp)
    thick = np.clip((glands.depth - 9.0) / 4, 0, 1) * (style.holes > 0)
    pierced = np.clip((mucin_noise - level) * 6, 0, 1) * thick
    pierced_rim = np.clip((mucin_noise - level + 0.5) * 4, 0, 1) * thick
    rim = np.maximum(pierced_rim, np.clip((glands.depth - height + 3) / 2, 0, 1))
    return Lining(height, np.maximum(open_share, pierced), rim)


def _project(glands: Glands, positions: NDArray, depth: NDArray, mpp: float) -> tuple[NDArray, NDArray]:
    """Move positions (N, 2), px, along their normal to ``depth`` (N,), um; return them and angles of the normals."""
    rows, columns = pixels_at(positions, glands.labels.shape)
    foot = np.stack([glands.foot[0][rows, columns], glands.foot[1][rows, columns]], axis=1).astype(np.float32)
    step = np.stack([rows, columns], axis=1) - foot
    length = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-3)[:, None]
    return foot + step / length * (depth / mpp)[:, None], np.arctan2(step[:, 0], step[:, 1])


def add_epithelium(
    generator: np.random.Generator, densities: Densities, glands: Glands, lining: Lining, style: Style, mpp: float
) -> None:
    """Draw cytoplasm with stripes of columnar cells, pale mucin vacuoles, and the lumen with debris and mucus."""
    shape = glands.labels.shape
    inside = (glands.labels > 0).astype(np.float32)
    level = np.clip(glands.depth / np.maximum(lining.height, 1), 0, 1.2)
    cells = sample_periodic(noise_bank(round(max(2.0 / mpp, 0.5), 2)), *glands.foot.astype(np.float32)) * (level > 0.12)
    grain = noise(generator, shape, 1.6 / mpp)
    tone = generator.normal(1, 0.1, (2, glands.labels.max() + 1)).astype(np.float32)
    blue = style.cytoplasm[0] * tone[0][glands.labels] * (1.25 - 0.6 * level + 0.12 * cells + 0.1 * grain)
    pink = style.cytoplasm[1] * tone[1][glands.labels] * (0.8 + 0.3 * level + 0.16 * cells + 0.12 * grain)
    densities.hematoxylin += inside * (blue - densities.hematoxylin)
    densities.eosin += inside * (pink - densities.eosin)
    _add_vacuoles(generator, densities, glands, lining, style, mpp)
    densities.eosin += inside * 0.16 * np.exp(-(((glands.depth - lining.height) / 1.6) ** 2)).astype(np.float32)
    filled = generator.uniform(size=glands.labels.max() + 1) < style.debris
    clumps = np.clip(noise(generator, shape, 3 / mpp) + 0.8 * noise(generator, shape, 9 / mpp) - 0.2, 0, 1)
    debris = clumps * filled[glands.labels] * 0.45 * np.clip((glands.depth - lining.height - 2) / 3, 0, 1)
    mucus = 0.03 + 0.05 * np.clip(noise(generator, shape, 8 / mpp), 0, 1)
    lumen = lining.lumen * inside
    densities.hematoxylin += lumen * (mucus + 0.35 * debris - densities.hematoxylin)
    densities.eosin += lumen * (0.6 * mucus + debris - densities.eosin)


def _add_vacuoles(
    generator: np.random.Generator, densities: Densities, glands: Glands, lining: Lining, style: Style, mpp: float
) -> None:
    """Draw goblet cells: pale vacuoles in the inner half of the epithelium."""
    shape = glands.labels.shape
    spacing = 8.5 / mpp
    positions = scatter(generator, shape, spacing)
    rows, columns = pixels_at(positions, shape)
    height = lining.height[rows, columns]
    share = np.minimum(style.goblets * generator.uniform(0.5, 1.25, glands.labels.max() + 1), 1)
    chosen = (glands.depth[rows, columns] > 0.45 * height) & (glands.depth[rows, columns] < 1.2 * height)
    chosen &= (glands.labels[rows, columns] > 0) & (
        generator.uniform(size=len(rows)) < share[glands.labels[rows, columns]]
    )
    if not chosen.any():
        return
    depth = height[chosen] * generator.uniform(0.6, 0.85, chosen.sum())
    positions, angles = _project(glands, positions[chosen], depth, mpp)
    keep = one_per_cell(positions, spacing * 1.1)
    drops = stamp_map(generator, shape, positions[keep], angles[keep], stamp_bank("vacuole", mpp, 0.9))
    drops = np.clip(drops, 0, 1) * (glands.depth > 4)
    densities.blend(drops.astype(np.float32) * 0.85, 0.06, 0.08)


def add_gland_nuclei(
    generator: np.random.Generator, densities: Densities, glands: Glands, lining: Lining, style: Style, mpp: float
) -> None:
    """Draw the ring of nuclei at the base of the cells, perpendicular to the outline; several rows if stratified."""
    shape = glands.labels.shape
    stamp = STAMPS[style.nucleus]
    stratified = style.layers > STRATIFIED
    pitch = 0.92 * math.sqrt(stamp.length * stamp.width) if stratified else 1.02 * stamp.width
    spacing = pitch * style.nucleus_scale / mpp
    top = np.maximum(style.layers * style.height, 4.0)
    base = 0.5 * stamp.length * style.nucleus_scale * 0.9
    positions = scatter(generator, shape, 0.8 * spacing)
    rows, columns = pixels_at(positions, shape)
    depth = glands.depth[rows, columns]
    chosen = (
        (glands.labels[rows, columns] > 0) & (depth > 0.5) & (depth < top + base) & (lining.hole[rows, columns] < 0.5)
    )
    positions, depth = positions[chosen], depth[chosen]
    in_row = base + np.abs(generator.normal(0, 0.25, len(depth))) * top
    depth = np.maximum(depth, base) if stratified else in_row
    positions, angles = _project(glands, positions, depth, mpp)
    keep = one_per_cell(positions, spacing)
    positions, angles = positions[keep], angles[keep] + generator.normal(0, 0.3 if stratified else 0.18, len(keep))
    rows, columns = pixels_at(positions, shape)
    inside = glands.depth[rows, columns] > 1.0
    bank = stamp_bank(style.nucleus, mpp, round(style.nucleus_scale, 1))
    nuclei = stamp_map(generator, shape, positions[inside], angles[inside], bank)
    densities.add_nuclei(nuclei * (glands.labels > 0), style.nucleus_density)
    dust_positions = scatter(generator, shape, 15 / mpp)
    rows, columns = pixels_at(dust_positions, shape)
    keep_dust = (lining.lumen[rows, columns] > 0.8) & (glands.labels[rows, columns] > 0)
    keep_dust &= generator.uniform(size=len(dust_positions)) < 0.5 * style.debris**2
    dust_angles = np.full(keep_dust.sum(), math.pi / 3)
    dust = stamp_map(generator, shape, dust_positions[keep_dust], dust_angles, stamp_bank("dust", mpp))
    densities.hematoxylin += 0.7 * dust
