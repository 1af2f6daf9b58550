"""Textures of phantom tiles: banks of smooth noise and of stamps (cells).

Each bank is made once from a fixed seed and cached; tiles sample from it with their own random generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
"""One value per pixel, (H, W), float32."""

BANK_SIDE = 512
ANGLES = 24
VARIANTS = 4


@dataclass(frozen=True)
class Stamp:
    """Shape and texture of one kind of nucleus or vacuole; lengths in um.

    Attributes:
        length: long axis.
        width: short axis.
        rim: in [0, 1], contrast between dark edge and pale center (as of vesicular nuclei).
        grain: in [0, 1], contrast of the chromatin texture.
        wobble: in [0, 1], deviation of the outline from an ellipse.
        spread: in [0, 1], variation of the size between variants.
    """

    length: float
    width: float
    rim: float = 0.2
    grain: float = 0.2
    wobble: float = 0.05
    spread: float = 0.12


STAMPS = {
    "columnar": Stamp(9.0, 4.8, rim=0.1, grain=0.2),
    "oval": Stamp(8.0, 6.0, rim=0.35, grain=0.3),
    "pencil": Stamp(12.5, 5.0, rim=0.3, grain=0.4, wobble=0.08, spread=0.2),
    "vesicular": Stamp(11.5, 8.8, rim=0.6, grain=0.5, wobble=0.08, spread=0.22),
    "bizarre": Stamp(13.5, 8.5, rim=0.3, grain=0.5, wobble=0.18, spread=0.3),
    "spindle": Stamp(14.0, 2.9, rim=0.05, grain=0.2, wobble=0.06, spread=0.25),
    "lymphocyte": Stamp(6.2, 5.8, rim=0.0, grain=0.25),
    "plasma": Stamp(7.0, 6.0, rim=0.35, grain=0.4),
    "vacuole": Stamp(15.0, 10.5, rim=0.0, grain=0.05, wobble=0.08, spread=0.28),
    "red_cell": Stamp(7.0, 6.0, rim=0.25, grain=0.0, wobble=0.1),
    "dust": Stamp(3.2, 2.6, rim=0.0, grain=0.0, wobble=0.25, spread=0.4),
}


@lru_cache(maxsize=64)
def noise_bank(length: float, stretch: float = 1.0) -> Map:
    """Return periodic smooth noise (BANK_SIDE, BANK_SIDE) with mean 0 and standard deviation 1.

    Args:
        length: correlation length along the first axis, px.
        stretch: ratio of the correlation length along the second axis to it.
    """
    generator = np.random.default_rng([7, round(length * 100), round(stretch * 100)])
    rows = np.fft.fftfreq(BANK_SIDE)[:, None] * length
    columns = np.fft.rfftfreq(BANK_SIDE)[None] * length * stretch
    spectrum = np.fft.rfft2(generator.standard_normal((BANK_SIDE, BANK_SIDE)))
    spectrum *= np.exp(-2.0 * math.pi**2 * (rows**2 + columns**2) / 2.0)
    spectrum[0, 0] = 0.0
    field = np.fft.irfft2(spectrum, s=(BANK_SIDE, BANK_SIDE))
    bank = (field / field.std()).astype(np.float32)
    bank.setflags(write=False)
    return bank


def noise(generator: np.random.Generator, shape: tuple[int, int], length: float) -> Map:
    """Draw isotropic noise (H, W) with a standard deviation of about 1; ``length`` is its correlation length, px."""
    bank = noise_bank(float(np.clip(round(length, 2), 0.3, BANK_SIDE / 6)))
    parts = []
    for target_shape in (shape, shape[::-1]):
        starts = generator.integers(0, BANK_SIDE, 2)
        directions = generator.choice([-1, 1], 2)
        rows, columns = (
            (np.arange(side) * direction + start) % BANK_SIDE
            for side, direction, start in zip(target_shape, directions, starts, strict=True)
        )
        parts.append(bank.take(rows, axis=0).take(columns, axis=1))
    return (parts[0] + parts[1].T) * np.float32(math.sqrt(0.5))


def sample_periodic(bank: Map, rows: Map, columns: Map) -> Map:
    """Sample a periodic bank at positions in px, nearest neighbor; the result has their shape."""
    return bank[np.floor(rows).astype(np.int32) % BANK_SIDE, np.floor(columns).astype(np.int32) % BANK_SIDE]


@lru_cache(maxsize=128)
def stamp_bank(kind: str, mpp: float, scale: float = 1.0) -> Map:
    """Return all stamps of one kind, (ANGLES * VARIANTS, S, S), about in [0, 1]; angle ``a`` is at ``a * VARIANTS``.

    Args:
        kind: a key of ``STAMPS``.
        mpp: um/px.
        scale: factor of the size.
    """
    stamp = STAMPS[kind]
    generator = np.random.default_rng([11, list(STAMPS).index(kind)])
    reach = math.ceil(0.5 * scale * max(stamp.length, stamp.width) * (1 + stamp.wobble + stamp.spread) / mpp) + 1
    across = np.arange(-reach, reach + 1) * mpp
    rows, columns = np.meshgrid(across, across, indexing="ij")
    bank = np.empty((ANGLES * VARIANTS, *rows.shape), np.float32)
    for index in range(len(bank)):
        bank[index] = _draw_stamp(stamp, generator, rows, columns, math.pi * (index // VARIANTS) / ANGLES, mpp, scale)
    bank.setflags(write=False)
    return bank


def _draw_stamp(
    stamp: Stamp,
    generator: np.random.Generator,
    rows: NDArray[np.float64],
    columns: NDArray[np.float64],
    angle: float,
    mpp: float,
    scale: float,
) -> NDArray[np.float64]:
    """Draw one stamp with its long axis at ``angle`` (radians from the columns towards the rows)."""
    shift = generator.uniform(-0.5, 0.5, 2) * mpp
    size = scale * (1 + stamp.spread * generator.uniform(-1, 1))
    along = (columns - shift[0]) * math.cos(angle) + (rows - shift[1]) * math.sin(angle)
    across = (rows - shift[1]) * math.cos(angle) - (columns - shift[0]) * math.sin(angle)
    half_length, half_width = 0.5 * size * stamp.length, 0.5 * size * stamp.width
    phases, weights = generator.uniform(0, 2 * math.pi, 3), generator.uniform(0, stamp.wobble, 3)
    polar_angle = np.arctan2(across, along)
    outline = 1 + sum(weights[wave] * np.cos((wave + 2) * polar_angle + phases[wave]) for wave in range(3))
    radius = np.hypot(along / half_length, across / half_width) / outline
    edge = 1 / (1 + np.exp(np.clip((radius - 1) * half_width / (0.4 * max(mpp, 0.5)), -30, 30)))
    waves = generator.uniform(-1, 1, (3, 2)) * 2 * math.pi / (3.0 * scale)
    starts = generator.uniform(0, 2 * math.pi, 3)
    chromatin = sum(np.cos(waves[wave, 0] * along + waves[wave, 1] * across + starts[wave]) for wave in range(3)) / 3
    middle = 1 - stamp.rim * np.exp(-((radius / 0.7) ** 2) * 1.5)
    return edge * middle * (1 + stamp.grain * chromatin)


def stamp_map(
    generator: np.random.Generator,
    shape: tuple[int, int],
    positions: NDArray[np.floating],
    angles: NDArray[np.floating],
    bank: Map,
) -> Map:
    """Return the sum of stamps on a canvas, (H, W); parts outside are cropped.

    Args:
        generator: random generator of variants and strengths.
        shape: canvas, px.
        positions: centers (N, 2), row and column, px.
        angles: directions of the long axes (N,), radians.
        bank: stamps from ``stamp_bank``.
    """
    reach = bank.shape[1] // 2
    width = shape[1] + 2 * reach
    total = np.zeros((shape[0] + 2 * reach) * width, np.float64)
    offsets = np.arange(bank.shape[1])
    patch = (offsets[:, None] * width + offsets).ravel()
    corner = np.rint(positions).astype(np.int64)
    inside = np.all((corner >= 0) & (corner < np.array(shape)), axis=1)
    corner, angles = corner[inside], angles[inside]
    angle_index = np.rint(angles / math.pi * ANGLES).astype(np.int64) % ANGLES
    pick = angle_index * VARIANTS + generator.integers(0, VARIANTS, len(angle_index))
    strength = generator.uniform(0.65, 1.2, len(angle_index)).astype(np.float32)
    flat = bank.reshape(len(bank), -1)
    for start in range(0, len(corner), 4096):
        part = slice(start, start + 4096)
        index = (corner[part, 0] * width + corner[part, 1])[:, None] + patch
        weights = flat[pick[part]] * strength[part, None]
        total += np.bincount(index.ravel(), weights.ravel(), minlength=len(total))
    canvas = total.reshape(-1, width)[reach : reach + shape[0], reach : reach + shape[1]]
    return canvas.astype(np.float32)
