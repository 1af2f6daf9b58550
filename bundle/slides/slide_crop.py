"""View of a rectangle of a slide, which is itself a slide; only the rectangle is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.slides.region_grid import Box
from bundle.slides.slide import Level, Slide, SlideError

ALIGNED = 512
"""Largest alignment of the corner of an expanded box, px of level 0: levels with an integer downsample up to this stay
usable, and the box does not grow by more."""


def inside(slide: Slide, box: Sequence[float]) -> Box:
    """Crop a rectangle to a slide; px of level 0.

    Args:
        slide: open slide.
        box: (x, y, width, height), px of level 0; may extend beyond the slide.

    Raises:
        SlideError: if it is not such a box, is empty or lies outside of the slide.
    """
    try:
        x, y, width, height = (float(side) for side in box)
    except (TypeError, ValueError) as error:
        raise SlideError(f"the box {box!r} of {slide.path} is invalid; give x, y, width and height in px") from error
    if not all(math.isfinite(side) for side in (x, y, width, height)) or not min(width, height) > 0:
        raise SlideError(f"the box {tuple(box)} of {slide.path} has no size; give x, y, width and height in px")
    clipped = Box(
        max(math.floor(x), 0),
        max(math.floor(y), 0),
        min(math.ceil(x + width), slide.size[0]),
        min(math.ceil(y + height), slide.size[1]),
    )
    if min(clipped.width, clipped.height) < 1:
        size = f"{slide.size[0]} x {slide.size[1]}"
        raise SlideError(f"the box {tuple(box)} lies outside of {slide.path}, which has {size} px; give one inside")
    return clipped


def expand_box(slide: Slide, box: Box, margin: float) -> Box:
    """Expand a box by a margin, with its corner aligned to pixels of the levels; px of level 0.

    Args:
        slide: open slide.
        box: box inside of the slide.
        margin: margin on all sides, cropped to the slide.
    """
    step = 1
    for level in slide.levels:
        if level.downsample.is_integer() and math.lcm(step, int(level.downsample)) <= ALIGNED:
            step = math.lcm(step, int(level.downsample))
    return Box(
        max(math.floor((box.x0 - margin) / step) * step, 0),
        max(math.floor((box.y0 - margin) / step) * step, 0),
        min(math.ceil(box.x1 + margin), slide.size[0]),
        min(math.ceil(box.y1 + margin), slide.size[1]),
    )


class SlideView(Slide):
    """Rectangle of a slide, with exactly the pixels of the slide.

    It has the levels of the slide that have a pixel corner at its own corner; level 0 always does. View and
    slide share the open file; a closed slide opens again when it is read.

    Args:
        slide: open slide.
        box: (x, y, width, height), px of level 0; it is cropped to the slide.

    Attributes:
        box: the cropped box, px of level 0.

    Raises:
        SlideError: if the box is empty or outside of the slide.
    """

    def __init__(self, slide: Slide, box: Sequence[float]) -> None:
        self.box = inside(slide, box)
        self.path, self.mpp = slide.path, slide.mpp
        self.size = (self.box.width, self.box.height)
        self._slide = slide
        # for each level of the view: its index in the slide, and the corner of the view there
        self._origins: list[tuple[int, int, int]] = []
        levels = []
        for number, level in enumerate(slide.levels):
            view_level = self._level(level)
            if view_level is not None:
                self._origins.append((number, *view_level[0]))
                levels.append(Level(level.downsample, view_level[1]))
        self.levels = tuple(levels)

    def close(self) -> None:
        """Close the slide; may be called twice."""
        self._slide.close()

    def __del__(self) -> None:
        """Leave the slide open for other users when a view is deleted; the slide closes itself."""

    def __reduce__(self) -> tuple[type[Slide], tuple[Any, ...]]:
        return type(self), (self._slide, (self.box.x0, self.box.y0, *self.size))

    def _level(self, level: Level) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Return corner and size of the view on a level of the slide; ``None`` if the level is not usable."""
        if self.box.x0 % level.downsample or self.box.y0 % level.downsample:
            return None
        left, top = round(self.box.x0 / level.downsample), round(self.box.y0 / level.downsample)
        right, bottom = (
            size if end == whole else min(math.ceil(end / level.downsample), size)
            for end, whole, size in zip((self.box.x1, self.box.y1), self._slide.size, level.size, strict=True)
        )
        return ((left, top), (right - left, bottom - top)) if left < right and top < bottom else None

    def _read_inside(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        number, left, top = self._origins[level]
        return self._slide._read_inside(number, left + x, top + y, width, height)
