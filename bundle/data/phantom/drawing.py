"""Drawing of one phantom tile: random H&E-like colon tissue with glands, and their instance mask."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.data.phantom.epithelium import add_epithelium, add_gland_nuclei, draw_lining
from bundle.data.phantom.laboratories import DOMAINS, Laboratory
from bundle.data.phantom.layout import draw_glands, number_components
from bundle.data.phantom.style import Style, benign_style, malignant_style
from bundle.data.phantom.texture import Map, noise
from bundle.data.phantom.tissue import Densities, Flow, add_stroma_cells, draw_stroma

GRADES = ("benign", "malignant")
MARGIN = 14.0
"""Margin (um) that is drawn around a tile and cropped, so that cells cross its border."""
SMALLEST_AREA = 30.0
"""Smallest area (um2) of a labeled piece of a gland at the border."""


def draw_tile(
    seed: int | Sequence[int],
    size: tuple[int, int] = (256, 256),
    *,
    grade: str = "benign",
    domain: str = "lab_a",
    mpp: float = 1.0,
    patient_seed: int = 0,
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Draw one tile; the same arguments give the same pixels (on other machines, up to rounding).

    Args:
        seed: seed of the tissue, not negative; ``domain`` changes only staining and scanner.
        size: (height, width), px, at least 16 each.
        grade: one of ``GRADES``.
        domain: a key of ``DOMAINS``.
        mpp: resolution, um/px, in [0.1, 4].
        patient_seed: seed of the patient; its tiles share shape and packing of glands, nuclei, stroma and stain.

    Returns:
        Image (H, W, 3), uint8 RGB, and instances (H, W), uint16: 0 is background, 1..N are glands, lumen included;
        touching glands have different numbers without a gap. Very small tiles may have no gland.

    Raises:
        ValueError: if grade or domain is unknown, or size, seed or resolution is out of range.
    """
    if grade not in GRADES:
        raise ValueError(f"no grade {grade!r}; give one of {', '.join(GRADES)}")
    if domain not in DOMAINS:
        raise ValueError(f"no domain {domain!r}; give one of {', '.join(DOMAINS)}")
    if min(size) < 16:
        raise ValueError(f"a tile of {size[0]} x {size[1]} px is too small; give at least 16 px")
    if not 0.1 <= mpp <= 4:
        raise ValueError(f"{mpp} um/px is out of range; give 0.1 to 4")
    patient = np.random.default_rng([patient_seed, GRADES.index(grade), 1])
    style = benign_style(patient) if grade == "benign" else malignant_style(patient)
    patient_deviation = patient.normal(0, 1, 4)
    streams = [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2)]
    margin = math.ceil(MARGIN / mpp)
    densities, labels = _draw_tissue(streams[0], (size[0] + 2 * margin, size[1] + 2 * margin), style, mpp)
    image = _scan(streams[1], densities, DOMAINS[domain], patient_deviation, mpp)
    inner = (slice(margin, margin + size[0]), slice(margin, margin + size[1]))
    instances = number_components(labels[inner], SMALLEST_AREA / mpp**2)
    return np.ascontiguousarray(image[inner]), instances.astype(np.uint16)


def _draw_tissue(
    generator: np.random.Generator, shape: tuple[int, int], style: Style, mpp: float
) -> tuple[Densities, NDArray[np.int32]]:
    """Draw stain densities and gland labels (H, W) of one canvas."""
    muscle, empty, tear = _draw_landmarks(generator, shape, mpp)
    glands = draw_glands(generator, shape, style.layout, mpp, excluded=(muscle > 0.5) | (empty > 0.2))
    tear = np.maximum(empty, tear)
    flow = Flow.draw(generator, glands, mpp)
    densities = draw_stroma(generator, glands, style, flow, muscle, tear, mpp)
    add_stroma_cells(generator, densities, glands, style, flow, muscle, tear, mpp)
    lining = draw_lining(generator, glands, style, mpp)
    add_epithelium(generator, densities, glands, lining, style, mpp)
    add_gland_nuclei(generator, densities, glands, lining, style, mpp)
    return densities, glands.labels


def _draw_landmarks(generator: np.random.Generator, shape: tuple[int, int], mpp: float) -> tuple[Map, Map, Map]:
    """Draw maps of muscle, background and tears in the stroma, each (H, W) in [0, 1]; most tiles have none."""
    angle = generator.uniform(0, 2 * math.pi)
    rows = np.arange(shape[0], dtype=np.float32)[:, None] - 0.5 * shape[0]
    columns = np.arange(shape[1], dtype=np.float32)[None] - 0.5 * shape[1]
    reach = 0.5 * math.hypot(*shape) * mpp
    side = (rows * np.float32(math.sin(angle)) + columns * np.float32(math.cos(angle))) * mpp
    waves = noise(generator, shape, 28 / mpp)
    has_muscle, has_edge, has_tear = generator.uniform(size=3) < [0.22, 0.1, 0.15]
    distance = generator.uniform(0.35, 0.7, 2) * reach
    empty = np.zeros(shape, np.float32)
    muscle = np.clip((side - distance[0] + 9 * waves) / 6, 0, 1) if has_muscle else empty
    edge = np.clip((-side - distance[1] + 14 * waves) / 2, 0, 1) if has_edge else empty
    tear = np.clip((np.abs(noise(generator, shape, 30 / mpp)) - 2.3) * 10, 0, 1) if has_tear else empty
    return muscle.astype(np.float32), edge.astype(np.float32), tear.astype(np.float32)


def _scan(
    generator: np.random.Generator, densities: Densities, laboratory: Laboratory, patient_deviation: NDArray, mpp: float
) -> NDArray[np.uint8]:
    """Apply blur, stains (Beer-Lambert), uneven light and sensor noise; ``patient_deviation`` is (4,)."""
    shape = densities.eosin.shape
    deviation = generator.normal(0, 1, 8)
    blur = laboratory.blur * (1 + 0.15 * deviation[0]) / mpp
    strength = np.array(laboratory.strength) * np.exp(0.12 * patient_deviation[:2] + 0.06 * deviation[1:3])
    optical_density = np.zeros((*shape, 3), np.float32)
    for density, vector, factor, tint in (
        (densities.hematoxylin, laboratory.hematoxylin, strength[0], patient_deviation[2]),
        (densities.eosin, laboratory.eosin, strength[1], patient_deviation[3]),
    ):
        blurred = ndimage.gaussian_filter(np.maximum(density, 0), max(blur, 0.25))
        hue = np.array(vector) * (1 + 0.05 * tint * np.array([1.0, -0.3, 0.6]))
        optical_density += blurred[..., None] * (factor * hue).astype(np.float32)
    slope = np.linspace(-1, 1, shape[0])[:, None] * deviation[3] + np.linspace(-1, 1, shape[1])[None] * deviation[4]
    light = (np.array(laboratory.light) * (1 + 0.01 * deviation[5:8])).astype(np.float32)
    intensity = 255 * light * (1 + 0.02 * slope.astype(np.float32))[..., None] * np.exp(-2.1 * optical_density)
    intensity += laboratory.sensor * generator.standard_normal(intensity.shape, dtype=np.float32)
    return np.clip(np.rint(intensity), 0, 255).astype(np.uint8)
