"""Where the tissue of a slide is: optical density of a coarse picture above a threshold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from bundle.inference.instances import component_instances
from bundle.inference.slides.scale import Scale
from bundle.inference.slides.slide import Slide

CHUNK = 4096
"""Side of the squares that are read of a level, px: what a slide of one level costs in memory."""
DENSITIES = (0.06, 0.15)
"""Least and greatest threshold of optical density. Below the first, glass is uneven; above the second, all is tissue.
Between them Otsu's threshold decides. So a slide of glass alone gives nothing, and one full of tissue gives all."""
BLACK = 60
"""What is darker in all three colors is border or black ink: nuclei that are averaged over a cell never are."""
WHITE = 254
"""What is brighter in all three colors was never scanned: it tells nothing of the glass."""
GLASS_LEAST, GLASS_SPREAD, GLASS_USUAL = 200, 20, 240.0
"""The brightest pixels are taken for glass if no color is darker than the first, and they differ by no more than the
second; else the glass is taken to have the third in all colors."""
GREEN = 0.08
"""By how much the optical density of green must fall below that of red and blue for green ink: stains are the other
way round."""


@dataclass(frozen=True)
class Tissue:
    """A map of the tissue of a slide, in cells.

    Attributes:
        mask: (H, W) bool, cell (0, 0) at the corner; the last ones may reach over the border of the slide.
        cell: side of a cell, um.
        scale: that of the slide, in whose working pixels one asks.
        corner: (x, y) of the map, px of level 0; that of the slide unless the map is of a part of it.
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
        """Whether there is tissue in a rectangle in working px."""
        return self.box(x0, y0, x1, y1) is not None

    def box(self, x0: int, y0: int, x1: int, y1: int) -> tuple[int, int, int, int] | None:
        """The part of a rectangle in working px that holds all of its tissue; ``None`` where there is none.

        Returns:
            (x0, y0, x1, y1), whole cells as far as they lie in the rectangle.
        """
        left, right = self._cells(x0, x1, 0)
        top, bottom = self._cells(y0, y1, 1)
        part = self.mask[top:bottom, left:right]
        columns, rows = np.flatnonzero(part.any(axis=0)), np.flatnonzero(part.any(axis=1))
        if not len(rows):
            return None
        found_left, found_right = self._pixels(left + int(columns[0]), left + int(columns[-1]) + 1, 0, x0, x1)
        found_top, found_bottom = self._pixels(top + int(rows[0]), top + int(rows[-1]) + 1, 1, y0, y1)
        return found_left, found_top, found_right, found_bottom

    def at(self, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
        """Where there is tissue in a rectangle in px of level 0, (y1 - y0, x1 - x0)."""
        side = self.cell / self.scale.mpp
        rows, columns = (
            np.clip(np.floor((np.arange(low, high) + 0.5 - start) / side).astype(np.intp), 0, count - 1)
            for low, high, start, count in zip((y0, x0), (y1, x1), self.corner[::-1], self.mask.shape, strict=True)
        )
        return self.mask[np.ix_(rows, columns)]

    def _cells(self, low: int, high: int, axis: int) -> tuple[int, int]:
        """Cells that a stretch of working pixels along x (0) or y (1) touches; those at the rim stand for the rest."""
        ratio, side = self.scale.ratio, self.cell / self.scale.mpp
        count, corner = self.mask.shape[1 - axis], self.corner[axis]
        first = math.floor(((low - 0.5) * ratio + 0.5 - corner) / side)
        end = math.ceil(((high - 0.5) * ratio + 0.5 - corner) / side)
        first = min(max(first, 0), count - 1)
        return first, min(max(end, first + 1), count)

    def _pixels(self, first: int, end: int, axis: int, low: int, high: int) -> tuple[int, int]:
        """Working pixels that a stretch of cells touches, within those asked for."""
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
    """Find the tissue of a slide.

    Black borders, black ink and green ink are told from tissue; blue and red ink are not, since stains have these
    colors: there a network looks in vain, but no tissue is left out.

    Args:
        slide: an open slide, of which the coarsest level that is fine enough is read once.
        scale: its scale.
        resolution: side of a cell, um, about: a whole number of the level's pixels is averaged.
        margin: how far the tissue is widened, um.
        least: specks of a smaller area are dropped, um2.
        holes: holes of at most this area are filled, um2.

    Returns:
        The map.

    Raises:
        SlideError: where the file is damaged.
        ValueError: for a setting out of its range.
    """
    for name, value in (("resolution", resolution), ("margin", margin), ("least", least), ("holes", holes)):
        if not value >= 0 or (name == "resolution" and value == 0):
            raise ValueError(f"{name} of the tissue is {value!r}; write a number from 0 on, a resolution above 0")
    level = _fine_enough(slide, scale, resolution)
    pixel = scale.mpp * slide.levels[level].downsample
    count = max(round(resolution / pixel), 1)
    picture = averaged(slide, level, count)
    cell = pixel * count
    mask = tissue_of(picture)
    mask = component_instances(mask, min_area=least / cell**2, hole_area=holes / cell**2) > 0
    if margin > 0 and mask.any():
        mask = ndimage.distance_transform_edt(~mask) <= margin / cell
    return Tissue(mask, cell, scale)


def averaged(slide: Slide, level: int, count: int) -> NDArray[np.uint8]:
    """A level whose squares of ``count`` px are averaged, (H, W, 3); those at the end over as many as there are."""
    width, height = slide.levels[level].size
    small = np.empty((-(-height // count), -(-width // count), 3), np.uint8)
    side = max(CHUNK // count, 1) * count
    for y, rows in _steps(height, side):
        for x, columns in _steps(width, side):
            pixels = slide.read(level, x, y, columns, rows)
            means = pixels if count == 1 else _means(pixels, count)
            small[y // count : y // count + means.shape[0], x // count : x // count + means.shape[1]] = means
    return small


def tissue_of(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell tissue from glass, (H, W), in a coarse picture (H, W, 3)."""
    mask = (picture.min(axis=-1) < WHITE) & (picture.max(axis=-1) >= BLACK)
    if not mask.any():
        return mask
    glass = _glass(picture[mask])
    table = np.log((glass + 1) / (np.arange(256, dtype=np.float32)[:, None] + 1)).astype(np.float32)
    strongest = np.empty(mask.shape, np.float32)
    for row, colors in enumerate(picture):  # row by row: densities of the whole picture would take much memory
        red, green, blue = (table[colors[:, channel], channel] for channel in range(3))
        strongest[row] = np.clip(np.maximum(np.maximum(red, green), blue), 0, 1)
        mask[row] &= green + GREEN >= np.minimum(red, blue)
    return mask & (strongest > np.clip(threshold_otsu(strongest[mask]), *DENSITIES)) if mask.any() else mask


def _glass(colors: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Color of the empty slide, (3,), from colors (N, 3) of it: that of the brightest, if it may be glass."""
    brightness = colors.sum(axis=-1, dtype=np.uint16)
    brightest = np.median(colors[brightness >= np.quantile(brightness, 0.98)], axis=0).astype(np.float32)
    is_glass = brightest.min() >= GLASS_LEAST and np.ptp(brightest) <= GLASS_SPREAD
    return brightest if is_glass else np.full(3, GLASS_USUAL, np.float32)


def _fine_enough(slide: Slide, scale: Scale, resolution: float) -> int:
    """The coarsest level whose pixels are not larger than ``resolution``, um; level 0 where there is none."""
    return Scale(scale.size, scale.mpp, resolution).best_level(slide.levels)


def _steps(length: int, side: int) -> Iterator[tuple[int, int]]:
    """Starts and lengths of the pieces of an axis."""
    return ((start, min(side, length - start)) for start in range(0, length, side))


def _means(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Means of the squares of ``count`` px of (H, W, 3)."""
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % count), (0, -width % count), (0, 0)))
    sums = padded.reshape(padded.shape[0] // count, count, -1).sum(axis=1, dtype=np.uint32)
    sums = sums.reshape(sums.shape[0], -1, count, 3).sum(axis=2)
    rows, columns = (np.minimum(count, length - np.arange(0, length, count)) for length in (height, width))
    areas = np.outer(rows, columns)[..., None]
    return ((sums + areas // 2) // areas).astype(np.uint8)
