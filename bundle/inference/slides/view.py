"""A rectangle of a slide that is itself a slide: what is asked of a region costs no more than the region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.inference.slides.grid import Box
from bundle.inference.slides.slide import Level, Slide, SlideError

ALIGNED = 512
"""The largest step to which the corner of a grown box is moved, px of level 0: levels of a whole downsample up to here
stay usable, and no box grows by more for their sake."""


def inside(slide: Slide, box: Sequence[float]) -> Box:
    """The part of a rectangle that lies on a slide, px of level 0.

    Args:
        slide: an open slide.
        box: (x, y, width, height), px of level 0; it may reach over the border of the slide.

    Raises:
        SlideError: for something else, a rectangle of no size or one that lies beside the slide.
    """
    try:
        x, y, width, height = (float(side) for side in box)
    except (TypeError, ValueError) as error:
        raise SlideError(f"the box {box!r} of {slide.path} is none; give x, y, width and height in px") from error
    if not all(math.isfinite(side) for side in (x, y, width, height)) or not min(width, height) > 0:
        raise SlideError(f"the box {tuple(box)} of {slide.path} has no size; give x, y, width and height in px")
    found = Box(
        max(math.floor(x), 0),
        max(math.floor(y), 0),
        min(math.ceil(x + width), slide.size[0]),
        min(math.ceil(y + height), slide.size[1]),
    )
    if min(found.width, found.height) < 1:
        size = f"{slide.size[0]} x {slide.size[1]}"
        raise SlideError(f"the box {tuple(box)} lies beside {slide.path}, which has {size} px; give one that is on it")
    return found


def grown(slide: Slide, box: Box, reach: float) -> Box:
    """A rectangle with its surroundings, px of level 0, whose corner leaves the levels of the slide usable.

    Args:
        slide: an open slide.
        box: inside of the slide.
        reach: how far it grows to all sides, as far as the slide goes.
    """
    step = 1
    for level in slide.levels:
        if level.downsample.is_integer() and math.lcm(step, int(level.downsample)) <= ALIGNED:
            step = math.lcm(step, int(level.downsample))
    return Box(
        max(math.floor((box.x0 - reach) / step) * step, 0),
        max(math.floor((box.y0 - reach) / step) * step, 0),
        min(math.ceil(box.x1 + reach), slide.size[0]),
        min(math.ceil(box.y1 + reach), slide.size[1]),
    )


class SlideView(Slide):
    """A rectangle of a slide. Its pixels are exactly those of the slide.

    Its levels are those of the slide of which a pixel begins where the rectangle does; level 0 always does. The view
    and its slide are open and closed together; a slide that is read again opens again.

    Args:
        slide: an open slide.
        box: (x, y, width, height), px of level 0; what reaches over the border of the slide is cut.

    Attributes:
        box: what is left of it, px of level 0.

    Raises:
        SlideError: for a box of no size, or beside the slide.
    """

    def __init__(self, slide: Slide, box: Sequence[float]) -> None:
        self.box = inside(slide, box)
        self.path, self.mpp = slide.path, slide.mpp
        self.size = (self.box.width, self.box.height)
        self._slide = slide
        self._parts: list[tuple[int, int, int]] = []
        # Of each level of the view: its number on the slide, and where the view begins there.
        levels = []
        for number, level in enumerate(slide.levels):
            found = self._level(level)
            if found is not None:
                self._parts.append((number, *found[0]))
                levels.append(Level(level.downsample, found[1]))
        self.levels = tuple(levels)

    def close(self) -> None:
        """Close the slide; a second time does nothing."""
        self._slide.close()

    def __del__(self) -> None:
        """A view that is forgotten leaves its slide open for others; the slide closes itself."""

    def __reduce__(self) -> tuple[type[Slide], tuple[Any, ...]]:
        return type(self), (self._slide, (self.box.x0, self.box.y0, *self.size))

    def _level(self, level: Level) -> tuple[tuple[int, int], tuple[int, int]] | None:
        """Corner and size of the view on a level of the slide; ``None`` where it has no place there."""
        if self.box.x0 % level.downsample or self.box.y0 % level.downsample:
            return None
        left, top = round(self.box.x0 / level.downsample), round(self.box.y0 / level.downsample)
        right, bottom = (
            size if end == whole else min(math.ceil(end / level.downsample), size)
            for end, whole, size in zip((self.box.x1, self.box.y1), self._slide.size, level.size, strict=True)
        )
        return ((left, top), (right - left, bottom - top)) if left < right and top < bottom else None

    def _read_inside(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        number, left, top = self._parts[level]
        return self._slide._read_inside(number, left + x, top + y, width, height)
