"""Resampling of a slide to the working resolution, as ``Spacingd`` does for a whole picture."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from monai.data.utils import AFFINE_TOL, compute_shape_offset
from numpy.typing import NDArray
from torch.nn import functional

from bundle.slides.slide import Level, Slide, SlideError

COARSER = 1.01
"""Maximum ratio of the pixel size of a level to the working pixel size, for levels to read."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scale:
    """Scale between native and working pixels: working pixel ``i`` is centered on native pixel ``i * ratio``.

    Attributes:
        size: (width, height) of level 0, px.
        mpp: um/px of level 0.
        pixel_size: um/px of the working resolution.
    """

    size: tuple[int, int]
    mpp: float
    pixel_size: float

    @property
    def is_native(self) -> bool:
        """Whether no resampling is needed; MONAI tolerates a difference of 0.001 um."""
        return abs(self.pixel_size - self.mpp) <= AFFINE_TOL or math.isclose(self.pixel_size, self.mpp, rel_tol=1e-6)

    @property
    def ratio(self) -> float:
        """Native pixels per working pixel along one axis."""
        return 1.0 if self.is_native else self.pixel_size / self.mpp

    @cached_property
    def working_size(self) -> tuple[int, int]:
        """(width, height) of the whole slide, working px."""
        if self.is_native:
            return self.size
        native, working = (np.diag([side, side, 1.0]) for side in (self.mpp, self.pixel_size))
        width, height = compute_shape_offset(self.size, native, working)[0].tolist()
        return width, height

    def best_level(self, levels: Sequence[Level]) -> int:
        """Return the index of the coarsest level that is not coarser than the working resolution, else 0."""
        fine = [index for index, level in enumerate(levels) if level.downsample <= self.ratio * COARSER]
        return max(fine, key=lambda index: levels[index].downsample, default=0)


def scale_of(slide: Slide, pixel_size: float, mpp: float | None = None, quiet: bool = False) -> Scale:
    """Return the scale of a slide.

    Args:
        slide: open slide.
        pixel_size: um/px of the working resolution.
        mpp: um/px of level 0, in place of that of the file; ``None`` uses that of the file.
        quiet: whether to suppress the warning about upsampling, which one process should log.

    Raises:
        SlideError: if the pixel size of the slide is unknown, or one of both sizes is not above 0.
    """
    native_mpp = slide.mpp if mpp is None else mpp
    if native_mpp is None:
        raise SlideError(f"{slide.path} has no pixel size in its metadata; give --mpp")
    for name, value in (("microns per pixel", native_mpp), ("working pixel size", pixel_size)):
        if not 0 < value < math.inf:
            raise SlideError(f"the {name} of {slide.path} is {value} um; it must be above 0")
    if pixel_size < native_mpp / 2 and not quiet:
        logger.warning(
            "%s has %g um per pixel; upsampling it to the working resolution of %g um adds no detail.",
            *(slide.path, native_mpp, pixel_size),
        )
    return Scale(slide.size, native_mpp, pixel_size)


def read_working(slide: Slide, scale: Scale, x0: int, y0: int, x1: int, y1: int) -> NDArray[np.uint8]:
    """Read a rectangle at the working resolution, with bilinear interpolation and the border repeated outside.

    From a level of downsample 1 the result equals ``Spacingd(mode="bilinear", padding_mode="border")`` on the whole
    picture, rounded, and does not depend on the position of the rectangle.

    Args:
        slide: open slide.
        scale: scale of the slide.
        x0: left edge, working px, from 0.
        y0: top edge.
        x1: right edge, above ``x0`` and at most the working width.
        y1: bottom edge, likewise.

    Returns:
        (y1 - y0, x1 - x0, 3) RGB in [0, 255].

    Raises:
        SlideError: if the file is damaged in this rectangle.
    """
    if scale.is_native:
        return slide.read(0, x0, y0, x1 - x0, y1 - y0)
    index = scale.best_level(slide.levels)
    level = slide.levels[index]
    (left, right, across), (top, bottom, down) = (
        _span(low, high, scale.ratio, level.downsample, length)
        for low, high, length in zip((x0, y0), (x1, y1), level.size, strict=True)
    )
    return sample(slide.read(index, left, top, right - left, bottom - top), across, down)


def sample(pixels: NDArray[np.uint8], across: NDArray[np.float64], down: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Sample pixels on a grid of columns ``across`` and rows ``down``, bilinearly, with the border repeated outside.

    Args:
        pixels: (H, W, 3).
        across: coordinates along the width, px; 0 is the center of the first pixel.
        down: coordinates along the height, likewise.

    Returns:
        (rows, columns, 3), rounded.
    """
    height, width = pixels.shape[:2]
    columns, rows = np.clip(across, 0, width - 1), np.clip(down, 0, height - 1)
    nearest = np.rint(rows).astype(np.intp), np.rint(columns).astype(np.intp)
    if np.array_equal(nearest[0], rows) and np.array_equal(nearest[1], columns):
        return pixels[np.ix_(*nearest)]  # integer ratio on level 0: no interpolation
    grid = torch.stack(
        torch.meshgrid(
            *(
                torch.from_numpy((2 * coordinates + 1) / length - 1).float()
                for coordinates, length in ((rows, height), (columns, width))
            ),
            indexing="ij",
        )[::-1],
        dim=-1,
    )
    # grid_sample took 0.18 s on one core for 2,300 x 2,300 px; interpolating rows and then columns took 0.30 s.
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    sampled = functional.grid_sample(image, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[0].round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _span(low: int, high: int, ratio: float, downsample: float, length: int) -> tuple[int, int, NDArray[np.float64]]:
    """Return the first pixel and the end to read along one axis of a level, and the working pixels relative to it."""
    coordinates = (np.arange(low, high) * ratio + 0.5) / downsample - 0.5
    first = min(max(math.floor(coordinates[0]), 0), length - 1)
    end = min(max(math.floor(coordinates[-1]) + 2, first + 1), length)
    return first, end, coordinates - first
