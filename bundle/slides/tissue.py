"""Tissue detection: a threshold on the optical density of a slide at low resolution."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from bundle.inference.components import component_instances
from bundle.slides.resampling import Scale
from bundle.slides.slide import Slide

CHUNK = 4096
"""Side of the squares in which a level is read, px; it bounds the memory for slides with one level."""
DENSITIES = (0.06, 0.15)
"""Range of the threshold on optical density. Below the first value glass is uneven; above the second all is tissue. In
between, Otsu's threshold is used. So a slide without tissue gives an empty map, and one full of tissue a full one."""
BLACK = 60
"""Pixels darker than this in all colors are borders or black ink; nuclei averaged over a cell are never so dark."""
WHITE = 254
"""Pixels brighter than this in all colors were not scanned, and are not used for the glass color."""
GLASS_LEAST, GLASS_SPREAD, GLASS_USUAL = 200, 20, 240.0
"""The brightest pixels give the glass color if no channel is below the first value and the channels differ by at most
the second; otherwise all channels of the glass are set to the third."""
GREEN = 0.08
"""Green ink: the optical density of green is lower than that of red and blue by this much; in stains it is higher."""


@dataclass(frozen=True)
class Tissue:
    """Tissue map of a slide, on a grid of square cells.

    Attributes:
        mask: (H, W) bool, cell (0, 0) at the corner; the last cells may extend beyond the slide.
        cell: side of a cell, um.
        scale: scale of the slide; queries are in its working px.
        corner: (x, y) of the map, px of level 0; (0, 0) unless the map covers a part of the slide.
    """

    mask: NDArray[np.bool_]
    cell: float
    scale: Scale
    corner: tuple[int, int] = (0, 0)

    @property
    def share(self) -> float:
        """Share of the cells with tissue, in [0, 1]."""
        return float(self.mask.mean())

    def any(self, x0: int, y0: int, x1: int, y1: int) -> bool:
        """Return whether a rectangle in working px contains tissue."""
        return self.box(x0, y0, x1, y1) is not None

    def box(self, x0: int, y0: int, x1: int, y1: int) -> tuple[int, int, int, int] | None:
        """Return the part of a rectangle in working px that contains all its tissue; ``None`` if there is none.

        Returns:
            (x0, y0, x1, y1), in whole cells, cropped to the rectangle.
        """
        left, right = self._cells(x0, x1, 0)
        top, bottom = self._cells(y0, y1, 1)
        part = self.mask[top:bottom, left:right]
        columns, rows = np.flatnonzero(part.any(axis=0)), np.flatnonzero(part.any(axis=1))
        if not len(rows):
            return None
        x_start, x_end = self._pixels(left + int(columns[0]), left + int(columns[-1]) + 1, 0, x0, x1)
        y_start, y_end = self._pixels(top + int(rows[0]), top + int(rows[-1]) + 1, 1, y0, y1)
        return x_start, y_start, x_end, y_end

    def at(self, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
        """Return the tissue mask of a rectangle in px of level 0, (y1 - y0, x1 - x0)."""
        side = self.cell / self.scale.mpp
        rows, columns = (
            np.clip(np.floor((np.arange(low, high) + 0.5 - start) / side).astype(np.intp), 0, count - 1)
            for low, high, start, count in zip((y0, x0), (y1, x1), self.corner[::-1], self.mask.shape, strict=True)
        )
        return self.mask[np.ix_(rows, columns)]

    def _cells(self, low: int, high: int, axis: int) -> tuple[int, int]:
        """Return the range of cells that working pixels touch along x (0) or y (1), clipped to the map."""
        ratio, side = self.scale.ratio, self.cell / self.scale.mpp
        count, corner = self.mask.shape[1 - axis], self.corner[axis]
        first = math.floor(((low - 0.5) * ratio + 0.5 - corner) / side)
        end = math.ceil(((high - 0.5) * ratio + 0.5 - corner) / side)
        first = min(max(first, 0), count - 1)
        return first, min(max(end, first + 1), count)

    def _pixels(self, first: int, end: int, axis: int, low: int, high: int) -> tuple[int, int]:
        """Return the range of working pixels that cells touch, clipped to the queried range."""
        ratio, side, corner = self.scale.ratio, self.cell / self.scale.mpp, self.corner[axis]
        start = low if first == 0 else math.floor((first * side + corner - 0.5) / ratio + 0.5)
        is_last = end == self.mask.shape[1 - axis]
        stop = high if is_last else math.ceil((end * side + corner - 0.5) / ratio + 0.5)
        start = min(max(start, low), high - 1)
        return start, min(max(stop, start + 1), high)


def find_tissue(
    slide: Slide,
    scale: Scale,
    resolution: float = 16.0,
    margin: float = 32.0,
    least: float = 10_000.0,
    holes: float = 40_000.0,
) -> Tissue:
    """Detect the tissue of a slide.

    Black borders, black ink and green ink are excluded. Blue and red ink are not, because stains have these colors:
    there the network runs in vain, but no tissue is lost.

    Args:
        slide: open slide; the coarsest level that is fine enough is read once.
        scale: scale of the slide.
        resolution: approximate side of a cell, um; an integer number of pixels of the level is averaged.
        margin: margin that is added around tissue, um.
        least: smaller objects are removed, um2.
        holes: holes of at most this area are filled, um2.

    Returns:
        The tissue map.

    Raises:
        SlideError: if the file is damaged.
        ValueError: if a setting is out of range.
    """
    for name, value in (("resolution", resolution), ("margin", margin), ("least", least), ("holes", holes)):
        if not value >= 0 or (name == "resolution" and value == 0):
            raise ValueError(f"{name} of the tissue is {value!r}; write a number from 0, for the resolution above 0")
    level = _level_for(slide, scale, resolution)
    pixel = scale.mpp * slide.levels[level].downsample
    count = max(round(resolution / pixel), 1)
    picture = average_level(slide, level, count)
    cell = pixel * count
    mask = tissue_of(picture)
    mask = component_instances(mask, min_area=least / cell**2, hole_area=holes / cell**2) > 0
    if margin > 0 and mask.any():
        mask = ndimage.distance_transform_edt(~mask) <= margin / cell
    return Tissue(mask, cell, scale)


def average_level(slide: Slide, level: int, count: int) -> NDArray[np.uint8]:
    """Average a level over squares of ``count`` px, (H, W, 3); squares at the border over the pixels that exist."""
    width, height = slide.levels[level].size
    reduced = np.empty((-(-height // count), -(-width // count), 3), np.uint8)
    side = max(CHUNK // count, 1) * count
    for y, rows in _steps(height, side):
        for x, columns in _steps(width, side):
            pixels = slide.read(level, x, y, columns, rows)
            means = pixels if count == 1 else _means(pixels, count)
            reduced[y // count : y // count + means.shape[0], x // count : x // count + means.shape[1]] = means
    return reduced


def tissue_of(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the tissue mask (H, W) of a picture (H, W, 3) at low resolution."""
    mask = (picture.min(axis=-1) < WHITE) & (picture.max(axis=-1) >= BLACK)
    if not mask.any():
        return mask
    glass = _glass_color(picture[mask])
    table = np.log((glass + 1) / (np.arange(256, dtype=np.float32)[:, None] + 1)).astype(np.float32)
    density = np.empty(mask.shape, np.float32)
    for row, colors in enumerate(picture):  # row by row: densities of the whole picture would take much memory
        red, green, blue = (table[colors[:, channel], channel] for channel in range(3))
        density[row] = np.clip(np.maximum(np.maximum(red, green), blue), 0, 1)
        mask[row] &= green + GREEN >= np.minimum(red, blue)
    return mask & (density > np.clip(threshold_otsu(density[mask]), *DENSITIES)) if mask.any() else mask


def _glass_color(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the color of empty glass, (3,), from colors (N, 3): the brightest ones, if they are plausible."""
    brightness = colors.sum(axis=-1, dtype=np.uint16)
    brightest = np.median(colors[brightness >= np.quantile(brightness, 0.98)], axis=0).astype(np.float32)
    is_glass = brightest.min() >= GLASS_LEAST and np.ptp(brightest) <= GLASS_SPREAD
    return brightest if is_glass else np.full(3, GLASS_USUAL, np.float32)


def _level_for(slide: Slide, scale: Scale, resolution: float) -> int:
    """Return the coarsest level whose pixels are at most ``resolution`` um; level 0 if there is none."""
    return Scale(scale.size, scale.mpp, resolution).best_level(slide.levels)


def _steps(length: int, side: int) -> Iterator[tuple[int, int]]:
    """Return starts and lengths of the steps along an axis."""
    return ((start, min(side, length - start)) for start in range(0, length, side))


def _means(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return the means over squares of ``count`` px of (H, W, 3)."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % count), (0, -width % count), (0, 0)))
    sums = padded.reshape(padded.shape[0] // count, count, -1).sum(axis=1, dtype=np.uint32)
    sums = sums.reshape(sums.shape[0], -1, count, 3).sum(axis=2)
    rows, columns = (np.minimum(count, length - np.arange(0, length, count)) for length in (height, width))
    areas = np.outer(rows, columns)[..., None]
    return ((sums + areas // 2) // areas).astype(np.uint8)
