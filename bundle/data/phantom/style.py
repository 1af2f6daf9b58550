"""Style of phantom patients: the appearance of their tissue, the same in all tiles of a patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bundle.data.phantom.layout import Layout


@dataclass(frozen=True)
class Style:
    """Appearance of the tissue of one patient; lengths in um, shares in [0, 1], densities in optical density.

    Attributes:
        layout: shape and packing of the glands.
        height: height of the epithelium.
        layers: share of the height that nuclei fill from the base: 0.35 is one row, 0.8 stratified.
        nucleus: kind of nuclei of glands, a key of ``STAMPS``.
        nucleus_scale: factor of their size.
        nucleus_density: hematoxylin density of these nuclei.
        goblets: share of occupied positions of mucin vacuoles.
        halo: width of the retraction cleft around glands.
        cytoplasm: hematoxylin and eosin density of the epithelium.
        holes: amount of further lumens in thick epithelium (cribriform).
        debris: share of lumens with debris.
        fiber: eosin density of the stroma.
        loose: share of the stroma that is empty.
        lymphocytes: share of occupied positions of lymphocytes in the stroma.
        spindles: share of occupied positions of fibroblasts in the stroma.
    """

    layout: Layout
    height: float
    layers: float
    nucleus: str
    nucleus_scale: float
    nucleus_density: float
    goblets: float
    halo: float
    cytoplasm: tuple[float, float]
    holes: float
    debris: float
    fiber: float
    loose: float
    lymphocytes: float
    spindles: float


def benign_style(generator: np.random.Generator) -> Style:
    """Draw a patient with regular crypts: one row of basal nuclei, goblet cells, loose lamina propria."""
    reach = float(generator.choice([3.0, 14.0, 30.0, 60.0], p=[0.4, 0.25, 0.2, 0.15]))
    radius = generator.uniform(27, 38)
    layout = Layout(
        radius=radius,
        reach=reach,
        gap=generator.uniform(8, 24),
        gap_spread=generator.uniform(6, 14),
        warp=generator.uniform(2, 4.5),
        warp_length=22,
        arms=1,
        missing=generator.uniform(0.05, 0.3),
        pairs=0.12,
    )
    return Style(
        layout=layout,
        height=radius * generator.uniform(0.62, 0.86),
        layers=generator.uniform(0.22, 0.4),
        nucleus=str(generator.choice(["columnar", "oval"], p=[0.7, 0.3])),
        nucleus_scale=generator.uniform(0.85, 1.05),
        nucleus_density=generator.uniform(0.65, 1.0),
        goblets=generator.uniform(0.35, 1.0),
        halo=max(0.0, generator.uniform(-3, 7)),
        cytoplasm=(generator.uniform(0.1, 0.3), generator.uniform(0.3, 0.5)),
        holes=0.0,
        debris=0.15,
        fiber=generator.uniform(0.32, 0.6),
        loose=generator.uniform(0.12, 0.4),
        lymphocytes=generator.uniform(0.25, 0.75),
        spindles=generator.uniform(0.25, 0.6),
    )


def malignant_style(generator: np.random.Generator) -> Style:
    """Draw a patient with irregular crowded glands: stratified large nuclei, few goblet cells, fibrous stroma."""
    crowded = generator.uniform() < 0.5
    radius = generator.uniform(26, 44)
    layout = Layout(
        radius=radius,
        reach=generator.uniform(4, 50),
        gap=generator.uniform(2, 10) if crowded else generator.uniform(14, 34),
        gap_spread=generator.uniform(8, 16),
        warp=generator.uniform(6, 13),
        warp_length=20,
        arms=int(generator.integers(1, 4)),
        missing=generator.uniform(0.2, 0.42),
        pairs=0.2,
    )
    return Style(
        layout=layout,
        height=radius * generator.uniform(0.55, 0.95),
        layers=generator.uniform(0.45, 0.82),
        nucleus=str(generator.choice(["pencil", "vesicular", "bizarre"], p=[0.5, 0.3, 0.2])),
        nucleus_scale=generator.uniform(0.8, 1.1),
        nucleus_density=generator.uniform(0.55, 0.95),
        goblets=generator.uniform(0, 0.12),
        halo=max(0.0, generator.uniform(-6, 6)),
        cytoplasm=(generator.uniform(0.08, 0.3), generator.uniform(0.32, 0.58)),
        holes=generator.uniform(0.0, 1.0),
        debris=0.6,
        fiber=generator.uniform(0.4, 0.75),
        loose=generator.uniform(0.02, 0.25),
        lymphocytes=generator.uniform(0.08, 0.45),
        spindles=generator.uniform(0.5, 1.0),
    )
