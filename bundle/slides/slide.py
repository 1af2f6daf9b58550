"""Base class of slide readers: size, um/px, levels, and rectangles of pixels of a level."""

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
"""Gray value outside of a slide, and where it was not scanned."""


class SlideError(ValueError):
    """A slide cannot be read, or not at one position; the message names the file."""


class OtherReaderError(SlideError):
    """A slide cannot be read with one backend, but another may read it."""


@dataclass(frozen=True)
class Level:
    """One resolution of a slide.

    Attributes:
        downsample: ratio of its pixel size to that of level 0, 1 or more.
        size: (width, height), px of this level.
    """

    downsample: float
    size: tuple[int, int]


class Slide(ABC):
    """Whole slide image, open for reading; a context manager that closes it.

    A pickled slide is opened again when it is unpickled, so worker processes share no file position.

    Attributes:
        path: path of the file.
        size: (width, height) of level 0, px.
        mpp: um/px of level 0, the same along both axes; ``None`` if the file does not give it.
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
            x: left edge in px of that level; may lie outside of the slide.
            y: top edge, likewise.
            width: px of that level, 0 or more.
            height: px of that level, 0 or more.

        Returns:
            (height, width, 3) RGB in [0, 255]; white outside of the slide and where it is transparent.

        Raises:
            SlideError: if the file is damaged in this rectangle; with file, level and position.
        """
        level_width, level_height = self.levels[level].size
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, level_width), min(y + height, level_height)
        if (left, top, right, bottom) == (x, y, x + width, y + height) and width > 0 and height > 0:
            return self._read_inside(level, x, y, width, height)
        pixels = np.full((height, width, 3), GLASS, np.uint8)
        if left < right and top < bottom:
            inside = self._read_inside(level, left, top, right - left, bottom - top)
            pixels[top - y : bottom - y, left - x : right - x] = inside
        return pixels

    @abstractmethod
    def _read_inside(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Read a rectangle of at least 1 px that lies inside of the level; see :meth:`read`."""

    @abstractmethod
    def close(self) -> None:
        """Close the file; may be called twice."""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[Slide], tuple[Any, ...]]:
        return type(self), (self.path,)

    def _read_error(self, level: int, x: int, y: int, width: int, height: int, error: Exception) -> SlideError:
        """Return the error for a rectangle that cannot be read."""
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return SlideError(
            f"{self.path} is damaged at level {level}, x {x} to {x + width}, y {y} to {y + height} px ({reason}); "
            "copy or export the slide again"
        )


def as_levels(sizes: Sequence[tuple[int, int]]) -> tuple[Level, ...]:
    """Return the levels of the sizes (width, height), from fine to coarse.

    A level of 500 px of a slide of 1001 px has downsample 2 with the last pixel cut off, not 2.002.
    """
    width, height = sizes[0]
    return tuple(Level(_downsample(width, height, *size), size) for size in sizes)


def _downsample(width: int, height: int, small_width: int, small_height: int) -> float:
    mean_ratio = (width / small_width + height / small_height) / 2
    rounded = max(round(mean_ratio), 1)
    is_integer = all(abs(small - full / rounded) < 1 for full, small in ((width, small_width), (height, small_height)))
    return float(rounded) if is_integer else mean_ratio


def existing_path(path: str | os.PathLike[str]) -> Path:
    """Return a path if it exists.

    Raises:
        FileNotFoundError: if the file does not exist.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return Path(path)
