"""Tiles of images and slides for viewers in a browser: a deep-zoom pyramid that is cut on request."""

from __future__ import annotations

import hashlib
import io
import math
import os
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
from lib.request_errors import NOT_FOUND, RefusalError
from lib.uploads import is_slide_file
from numpy.typing import NDArray
from PIL import Image

from bundle.data import read_image
from bundle.slides import open_slide

SIDE = 256
"""Side of a tile, px."""
QUALITY = 90
"""JPEG quality of tiles."""
REDUCTION = 8
"""Largest ratio by which pixels of a level are reduced: a tile reads at most ``(SIDE * REDUCTION) ** 2`` of them."""
OPEN = 4
"""Number of images that are kept open; a flat image is in memory while it is open."""


class PictureTiles:
    """Deep-zoom tiles of one image or slide; may be shared by threads.

    Zoom level ``deepest`` has the full resolution, and each level before it half of that of the next. OpenSlide's
    ``DeepZoomGenerator`` reads neither flat images nor the slides that only tifffile reads.

    Args:
        path: path of the file.

    Raises:
        RefusalError: if the file is damaged.
    """

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self.is_slide = is_slide_file(path)
        self._slide = open_slide(path) if self.is_slide else None
        self._pixels: NDArray[np.uint8] | None = None
        if self._slide is not None:
            self.size, self.mpp = self._slide.size, self._slide.mpp
            coarsest = max(level.downsample for level in self._slide.levels) * REDUCTION
        else:
            self._pixels, self.mpp = read_image(path).pixels, None
            self.size = (self._pixels.shape[1], self._pixels.shape[0])
            coarsest = float("inf")
        self.deepest = math.ceil(math.log2(max(self.size)))
        self.first = max(self.deepest - math.floor(math.log2(min(coarsest, 2**self.deepest))), 0)

    def tile(self, level: int, column: int, row: int) -> bytes:
        """Return a tile as JPEG.

        Args:
            level: zoom level from ``first`` to ``deepest``.
            column: position of the tile, from 0.
            row: likewise.

        Raises:
            RefusalError: 404 if there is no such tile.
            SlideError: if the slide is damaged there.
        """
        scale = 2 ** (self.deepest - level) if self.first <= level <= self.deepest else 0
        left, top = column * SIDE * scale, row * SIDE * scale
        if not scale or min(column, row) < 0 or left >= self.size[0] or top >= self.size[1]:
            raise RefusalError(NOT_FOUND, f"there is no tile {column}, {row} at zoom level {level}")
        width, height = min(SIDE * scale, self.size[0] - left), min(SIDE * scale, self.size[1] - top)
        picture = Image.fromarray(self._read(left, top, width, height, scale))
        size = (math.ceil(width / scale), math.ceil(height / scale))
        if picture.size != size:
            picture = picture.resize(size, Image.Resampling.BOX)
        answer = io.BytesIO()
        picture.save(answer, "JPEG", quality=QUALITY, subsampling=0)
        return answer.getvalue()

    def _read(self, left: int, top: int, width: int, height: int, scale: int) -> NDArray[np.uint8]:
        """Read a rectangle, given in px of the full resolution, from the coarsest level that is fine enough."""
        if self._slide is None:
            assert self._pixels is not None
            return np.ascontiguousarray(self._pixels[top : top + height, left : left + width])
        fine_enough = [number for number, level in enumerate(self._slide.levels) if level.downsample <= scale * 1.01]
        number = fine_enough[-1]
        ratio = self._slide.levels[number].downsample
        part = [max(round(value / ratio), least) for value, least in zip((width, height), (1, 1), strict=True)]
        with self._lock:
            return self._slide.read(number, round(left / ratio), round(top / ratio), part[0], part[1])


def open_picture(path: str) -> PictureTiles:
    """Return the tiles of an image; the last images stay open, until their files change.

    Raises:
        RefusalError: if the file is damaged.
    """
    state = os.stat(path)
    return _open(path, state.st_mtime_ns, state.st_size)


def file_stamp(path: str) -> str:
    """Return a short text that changes with the file: its name, size and time."""
    state = os.stat(path)
    return hashlib.sha256(f"{Path(path).resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[:16]


@lru_cache(maxsize=OPEN)
def _open(path: str, changed: int, size: int) -> PictureTiles:
    return PictureTiles(path)
