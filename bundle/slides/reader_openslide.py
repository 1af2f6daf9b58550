"""Slide reader based on OpenSlide: scanner formats and tiled TIFF."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.slides import pixel_size_metadata
from bundle.slides.slide import GLASS, OtherReaderError, Slide, SlideError, as_levels, existing_path

GENERIC = "generic-tiff"
"""OpenSlide's name for a tiled TIFF of no known scanner."""
DICOM = "dicom"
"""OpenSlide's name for a DICOM slide."""
DICOM_SUFFIX = ".dcm"
"""Suffix of DICOM files, slides and others, in lower case."""
TOO_WIDE = 32767
"""Maximum side that OpenSlide reads at once, px."""


def library() -> ModuleType | None:
    """Return the openslide module, ``None`` if it is not installed."""
    try:
        import openslide
    except (ImportError, OSError):  # OSError: the Python package is installed, the library is not
        return None
    return openslide


def vendor(path: str | os.PathLike[str]) -> str | None:
    """Return OpenSlide's name of the format of a file; ``None`` if it cannot open the file or is not installed."""
    openslide = library()
    return None if openslide is None else openslide.OpenSlide.detect_format(os.fspath(path))


def dicom_series(path: str | os.PathLike[str]) -> str | None:
    """Return the series of a DICOM slide, whose levels are files of one folder; ``None`` if OpenSlide cannot open it.

    Args:
        path: path of one of the files; OpenSlide finds the others.
    """
    openslide = library()
    if openslide is None or vendor(path) != DICOM:
        return None
    try:
        with openslide.OpenSlide(os.fspath(path)) as slide:
            return str(slide.properties["dicom.SeriesInstanceUID"])
    except (openslide.OpenSlideError, KeyError):
        return None


class OpenSlideSlide(Slide):
    """Slide read with OpenSlide.

    If the size of a level is not an integer fraction of level 0, OpenSlide shifts pixels by up to 1/4 px, because it
    takes positions in whole pixels of level 0.

    Args:
        path: path of the slide.

    Raises:
        FileNotFoundError: if the file does not exist.
        SlideError: if OpenSlide is not installed or cannot open the file, or the pixels are not square.
    """

    _handle: Any = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = existing_path(path)
        openslide = library()
        if openslide is None:
            raise OtherReaderError(
                f"{self.path} needs OpenSlide, which is not installed; "
                "pip install openslide-python openslide-bin, or write it as a tiled TIFF with deflate"
            )
        self._openslide = openslide
        handle = self._open()
        try:
            self.levels = as_levels(handle.level_dimensions)
            self.size = self.levels[0].size
            self.mpp = pixel_size_metadata.first_valid(_pixel_sizes(handle.properties), self.path)
        except SlideError:
            self.close()
            raise
        except (openslide.OpenSlideError, ArithmeticError, IndexError) as error:
            self.close()
            raise SlideError(f"{self.path} is damaged ({error}); copy or export the slide again") from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def _open(self) -> Any:
        """Return the handle. It is opened again after an error, because an OpenSlide handle stays broken after one."""
        if self._handle is None:
            try:
                self._handle = self._openslide.OpenSlide(os.fspath(self.path))
            except self._openslide.OpenSlideError as error:
                reason = str(error).replace(str(self.path), "it")
                raise OtherReaderError(
                    f"{self.path} cannot be opened by OpenSlide ({reason}); copy or export the slide again"
                ) from error
        return self._handle

    def _read_inside(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        if max(width, height) > TOO_WIDE:
            return self._read_halves(level, x, y, width, height)
        handle = self._open()
        downsample = handle.level_downsamples[level]
        try:
            picture = handle.read_region((round(x * downsample), round(y * downsample)), level, (width, height))
        except self._openslide.OpenSlideError as error:
            self.close()
            raise self._read_error(level, x, y, width, height, error) from error
        return blend_over_white(np.asarray(picture))

    def _read_halves(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        half = max(width, height) // 2
        if width >= height:
            left = self._read_inside(level, x, y, half, height)
            return np.concatenate([left, self._read_inside(level, x + half, y, width - half, height)], axis=1)
        top = self._read_inside(level, x, y, width, half)
        return np.concatenate([top, self._read_inside(level, x, y + half, width, height - half)], axis=0)


def blend_over_white(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend colors with alpha (H, W, 4) over white; return (H, W, 3)."""
    colors, alpha = pixels[..., :3], pixels[..., 3:]
    if alpha.min() == GLASS:
        return np.ascontiguousarray(colors)
    opacity = alpha.astype(np.uint16)
    return ((colors * opacity + GLASS * (GLASS - opacity) + GLASS // 2) // GLASS).astype(np.uint8)


def _pixel_sizes(properties: Mapping[str, str]) -> list[pixel_size_metadata.Pair]:
    """Return the pixel sizes given in a file, from the most to the least reliable source."""
    description = properties.get("openslide.comment", "") or properties.get("tiff.ImageDescription", "")
    tags = [properties.get(f"tiff.{name}") for name in ("XResolution", "YResolution", "ResolutionUnit")]
    return [
        pixel_size_metadata.of_ome(description),
        (
            pixel_size_metadata.number(properties.get("openslide.mpp-x")),
            pixel_size_metadata.number(properties.get("openslide.mpp-y")),
        ),
        pixel_size_metadata.of_description(description),
        pixel_size_metadata.of_resolution(tags[0], tags[1], tags[2]),
    ]
