"""A slide as every backend gives it: size, microns per pixel, levels, and rectangles of pixels of one level."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

GLASS = 255
"""Gray value of what lies beyond the border of a slide, and of what was never scanned."""


class SlideError(ValueError):
    """A slide that cannot be read, wholly or at one place; the sentence names the file."""


class OtherReaderError(SlideError):
    """A slide that one backend cannot read, but another may."""


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes:
        downsample: pixels of level 0 along one pixel of this level, 1 or more.
        size: (width, height), px of this level.
    """

    downsample: float
    size: tuple[int, int]


class Slide(ABC):
    """A whole-slide image, open for reading. It closes itself at the end of a ``with``.

    A pickled slide is opened again where it is unpickled, so worker processes share no file position.

    Attributes:
        path: the file.
        size: (width, height) of level 0, px.
        mpp: microns per pixel of level 0, the same along both axes; ``None`` where the file does not tell.
        levels: from fine to coarse; the first has the downsample 1.
    """

    path: Path
    size: tuple[int, int]
    mpp: float | None
    levels: tuple[Level, ...]

    def read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a rectangle of one level.

        Args:
            level: index into ``levels``.
            x: left edge in pixels of that level; it may lie outside the slide.
            y: top edge, likewise.
            width: px of that level, 0 or more.
            height: px of that level, 0 or more.

        Returns:
            (height, width, 3) RGB in [0, 255]; white beyond the border and where the slide is transparent.

        Raises:
            SlideError: where the file is damaged at this place; names file, level and place.
        """
        across, down = self.levels[level].size
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, across), min(y + height, down)
        if (left, top, right, bottom) == (x, y, x + width, y + height) and width > 0 and height > 0:
            return self._read_inside(level, x, y, width, height)
        pixels = np.full((height, width, 3), GLASS, np.uint8)
        if left < right and top < bottom:
            inside = self._read_inside(level, left, top, right - left, bottom - top)
            pixels[top - y : bottom - y, left - x : right - x] = inside
        return pixels

    @abstractmethod
    def _read_inside(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """As ``read``, for a rectangle of 1 px or more that lies wholly inside the level."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; a second time does nothing."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Slide], tuple[Any, ...]]:
        return type(self), (self.path,)

    def _broken(self, level: int, x: int, y: int, width: int, height: int, error: Exception) -> SlideError:
        """What to raise for a rectangle that cannot be read."""
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return SlideError(
            f"{self.path} is damaged at level {level}, x {x} to {x + width}, y {y} to {y + height} px ({reason}); "
            "copy or export the slide again"
        )


def as_levels(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Levels of the sizes (width, height), from fine to coarse.

    A level of 500 px of a slide of 1001 px is one of downsample 2 whose last pixel was cut off, not one of 2.002.
    """
    width, height = sizes[0]
    return tuple(Level(_downsample(width, height, *size), size) for size in sizes)


def _downsample(width: int, height: int, small_width: int, small_height: int) -> float:
    measured = (width / small_width + height / small_height) / 2
    whole = max(round(measured), 1)
    is_whole = all(abs(small - full / whole) < 1 for full, small in ((width, small_width), (height, small_height)))
    return float(whole) if is_whole else measured


def existing(path: str | os.PathLike[str]) -> Path:
    """A path that is there.

    Raises:
        FileNotFoundError: where there is no such file.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return Path(path)
