"""Slides through OpenSlide: what scanners write, and tiled TIFF."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.inference.slides import resolution
from bundle.inference.slides.slide import GLASS, OtherReaderError, Slide, SlideError, as_levels, existing

GENERIC = "generic-tiff"
"""What OpenSlide calls a tiled TIFF of no scanner that it knows."""
TOO_WIDE = 32767
"""Px along one side that OpenSlide's painter takes in one piece."""


def library() -> ModuleType | None:
    """OpenSlide, where it is installed."""
    try:
        import openslide
    except (ImportError, OSError):  # OSError: the Python package is there, the library is not
        return None
    return openslide


def vendor(path: str | os.PathLike[str]) -> str | None:
    """How OpenSlide calls the format of a file; ``None`` for one that it cannot open, or without OpenSlide."""
    openslide = library()
    return None if openslide is None else openslide.OpenSlide.detect_format(os.fspath(path))


class OpenSlideSlide(Slide):
    """A slide that OpenSlide reads.

    On a level whose size is no whole fraction of level 0, OpenSlide shifts by up to 1/4 px what it reads: it takes
    places in whole pixels of level 0 alone.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: where there is no such file.
        SlideError: where OpenSlide is not installed, cannot open the file, or its pixels are not square.
    """

    _handle: Any = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = existing(path)
        openslide = library()
        if openslide is None:
            raise OtherReaderError(
                f"{self.path} needs OpenSlide, which is not installed; "
                "pip install openslide-python openslide-bin, or write it as a tiled TIFF with deflate"
            )
        self._openslide = openslide
        handle = self._opened()
        self.levels = as_levels(handle.level_dimensions)
        self.size = self.levels[0].size
        try:
            self.mpp = resolution.first_told(_pixel_sizes(handle.properties), self.path)
        except SlideError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _opened(self) -> Any:
        """The handle; a new one after an error, because OpenSlide's stay broken once one read has failed."""
        if self._handle is None:
            try:
                self._handle = self._openslide.OpenSlide(os.fspath(self.path))
            except self._openslide.OpenSlideError as error:
                raise OtherReaderError(f"{self.path} cannot be opened by OpenSlide ({error})") from error
        return self._handle

    def _read_inside(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        if max(width, height) > TOO_WIDE:
            return self._in_halves(level, x, y, width, height)
        handle = self._opened()
        downsample = handle.level_downsamples[level]
        try:
            picture = handle.read_region((round(x * downsample), round(y * downsample)), level, (width, height))
        except self._openslide.OpenSlideError as error:
            self.close()
            raise self._broken(level, x, y, width, height, error) from error
        return over_glass(np.asarray(picture))

    def _in_halves(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        half = max(width, height) // 2
        if width >= height:
            left = self._read_inside(level, x, y, half, height)
            return np.concatenate([left, self._read_inside(level, x + half, y, width - half, height)], axis=1)
        top = self._read_inside(level, x, y, width, half)
        return np.concatenate([top, self._read_inside(level, x, y + half, width, height - half)], axis=0)


def over_glass(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay colors with alpha (H, W, 4) over white: (H, W, 3)."""
    colors, alpha = pixels[..., :3], pixels[..., 3:]
    if alpha.min() == GLASS:
        return np.ascontiguousarray(colors)
    seen = alpha.astype(np.uint16)
    return ((colors * seen + GLASS * (GLASS - seen) + GLASS // 2) // GLASS).astype(np.uint8)


def _pixel_sizes(properties: Mapping[str, str]) -> list[resolution.Pair]:
    """What a file tells of its pixel size, from the most to the least trusted."""
    description = properties.get("openslide.comment", "") or properties.get("tiff.ImageDescription", "")
    tags = [properties.get(f"tiff.{name}") for name in ("XResolution", "YResolution", "ResolutionUnit")]
    return [
        resolution.of_ome(description),
        (resolution.number(properties.get("openslide.mpp-x")), resolution.number(properties.get("openslide.mpp-y"))),
        resolution.of_description(description),
        resolution.of_resolution(tags[0], tags[1], tags[2]),
    ]
