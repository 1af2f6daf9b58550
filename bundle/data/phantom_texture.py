"""The constant material that phantom tiles are drawn with: banks of smooth noise and of small stamps (cells).

Every bank is made once from a fixed seed and cached; a tile only picks from it with its own random generator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
"""One value a pixel, (H, W) float32."""

BANK_SIDE = 512
ANGLES = 24
VARIANTS = 4


@dataclass(frozen=True)
class Stamp:
    """How one kind of cell part looks; lengths in um.

    Attributes:
        length: long axis.
        width: short axis.
        rim: in [0, 1], how much darker the edge is than the middle (vesicular nuclei have a pale middle).
        grain: in [0, 1], how coarse the chromatin is.
        wobble: in [0, 1], how far the outline leaves an ellipse.
        spread: in [0, 1], how much the size differs between variants.
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
    """Periodic smooth noise with mean 0 and standard deviation 1, (BANK_SIDE, BANK_SIDE).

    Args:
        length: correlation length down the rows, px.
        stretch: how many times longer it is along the columns.
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
    """Fresh isotropic noise (H, W) with standard deviation of about 1; ``length`` is its correlation, px."""
    bank = noise_bank(float(np.clip(round(length, 2), 0.3, BANK_SIDE / 6)))
    parts = []
    for wanted in (shape, shape[::-1]):
        starts = generator.integers(0, BANK_SIDE, 2)
        ways = generator.choice([-1, 1], 2)
        rows, columns = (
            (np.arange(side) * way + start) % BANK_SIDE for side, way, start in zip(wanted, ways, starts, strict=True)
        )
        parts.append(bank.take(rows, axis=0).take(columns, axis=1))
    return (parts[0] + parts[1].T) * np.float32(math.sqrt(0.5))


def look_up(bank: Map, rows: Map, columns: Map) -> Map:
    """Read a periodic bank at places given in px, nearest neighbor; the answer has their shape."""
    return bank[np.floor(rows).astype(np.int32) % BANK_SIDE, np.floor(columns).astype(np.int32) % BANK_SIDE]


@lru_cache(maxsize=128)
def stamp_bank(kind: str, mpp: float, scale: float = 1.0) -> Map:
    """All stamps of one kind, (ANGLES * VARIANTS, S, S) in about [0, 1]; angle ``a`` begins at ``a * VARIANTS``.

    Args:
        kind: a key of ``STAMPS``.
        mpp: um/px.
        scale: factor on the size.
    """
    stamp = STAMPS[kind]
    generator = np.random.default_rng([11, list(STAMPS).index(kind)])
    reach = math.ceil(0.5 * scale * max(stamp.length, stamp.width) * (1 + stamp.wobble + stamp.spread) / mpp) + 1
    across = np.arange(-reach, reach + 1) * mpp
    rows, columns = np.meshgrid(across, across, indexing="ij")
    bank = np.empty((ANGLES * VARIANTS, *rows.shape), np.float32)
    for index in range(len(bank)):
        bank[index] = _one_stamp(stamp, generator, rows, columns, math.pi * (index // VARIANTS) / ANGLES, mpp, scale)
    bank.setflags(write=False)
    return bank


def _one_stamp(
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
    turn = np.arctan2(across, along)
    outline = 1 + sum(weights[wave] * np.cos((wave + 2) * turn + phases[wave]) for wave in range(3))
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
    places: NDArray[np.floating],
    angles: NDArray[np.floating],
    bank: Map,
) -> Map:
    """Sum of stamps over a canvas, (H, W); parts beyond the border are cut off.

    Args:
        generator: chooses variants and strengths.
        shape: canvas, px.
        places: centers (N, 2) as row and column, px.
        angles: long axes (N,), radians.
        bank: from ``stamp_bank``.
    """
    reach = bank.shape[1] // 2
    width = shape[1] + 2 * reach
    total = np.zeros((shape[0] + 2 * reach) * width, np.float64)
    offsets = np.arange(bank.shape[1])
    patch = (offsets[:, None] * width + offsets).ravel()
    corner = np.rint(places).astype(np.int64)
    inside = np.all((corner >= 0) & (corner < np.array(shape)), axis=1)
    corner, angles = corner[inside], angles[inside]
    turn = np.rint(angles / math.pi * ANGLES).astype(np.int64) % ANGLES
    pick = turn * VARIANTS + generator.integers(0, VARIANTS, len(turn))
    strength = generator.uniform(0.65, 1.2, len(turn)).astype(np.float32)
    flat = bank.reshape(len(bank), -1)
    for start in range(0, len(corner), 4096):
        part = slice(start, start + 4096)
        index = (corner[part, 0] * width + corner[part, 1])[:, None] + patch
        weights = flat[pick[part]] * strength[part, None]
        total += np.bincount(index.ravel(), weights.ravel(), minlength=len(total))
    canvas = total.reshape(-1, width)[reach : reach + shape[0], reach : reach + shape[1]]
    return canvas.astype(np.float32)
