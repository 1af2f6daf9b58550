"""Slide reader based on tifffile: TIFF and OME-TIFF; only the tiles that a rectangle touches are decoded."""

from __future__ import annotations

import importlib.util
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from bundle.slides import pixel_size_metadata
from bundle.slides.reader_openslide import blend_over_white, library
from bundle.slides.slide import GLASS, OtherReaderError, Slide, SlideError, as_levels, existing_path

READ_ERRORS = (
    OSError,
    ValueError,
    struct.error,
    zlib.error,
    RuntimeError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)
"""Exceptions that tifffile raises for truncated or corrupt files."""
JPEG = (6, 7, 34892, 33007)
"""Numbers of TIFF's JPEG compressions, which tifffile decodes only with imagecodecs."""
MAX_PIECE_BYTES = 2**29
"""Maximum size of a compressed piece (tile or strip), bytes decoded; a piece is decoded as a whole."""
INVERTED, GRAY, RGB, YCBCR = 0, 1, 2, 6
"""Supported photometric interpretations, by their TIFF numbers; YCbCr is decoded to RGB."""

Page = Any
"""TiffPage or TiffFrame of tifffile."""


class TiffSlide(Slide):
    """Slide read with tifffile: RGB, RGBA or gray with 8 bits, in tiles or strips, one level or a pyramid.

    Args:
        path: path of the slide.

    Raises:
        FileNotFoundError: if the file does not exist.
        SlideError: if the file is not a TIFF, is damaged or has an unsupported layout, or the pixels are not square.
    """

    _file: tifffile.TiffFile | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = existing_path(path)
        self._pages = self._open()
        self._maps: dict[int, NDArray[np.uint8]] = {}
        try:
            for page in self._pages:
                _check(page, self.path)
            self.levels = as_levels([(page.imagewidth, page.imagelength) for page in self._pages])
            self.size = self.levels[0].size
            self.mpp = pixel_size_metadata.first_valid(_pixel_sizes(self._pages[0]), self.path)
        except SlideError:
            self.close()
            raise
        except READ_ERRORS as error:
            self.close()
            raise self._damaged(error) from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._maps = {}
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> list[Page]:
        """Open the file and return one page per level, from fine to coarse."""
        try:
            self._file = tifffile.TiffFile(self.path)
            if not self._file.series:
                raise ValueError("it holds no picture")
            # The label and overview images of scanners are separate series, smaller than the slide.
            levels = max(self._file.series, key=lambda series: math.prod(series.levels[0].shape)).levels
            pages: list[Page] = [level.pages[0] for level in levels]
            counts = [len(level.pages) for level in levels]
            whole = [page.aspage() for page in pages]
        except READ_ERRORS as error:
            self.close()
            raise self._damaged(error) from error
        if max(counts) > 1:
            self.close()
            raise SlideError(
                f"{self.path} holds {max(counts)} planes (of a stack, channels or times), but a slide has one; "
                "export one plane as RGB"
            )
        return whole

    def _damaged(self, error: Exception) -> OtherReaderError:
        """Return the error of a file that cannot be opened."""
        reason = " ".join(str(error).split()).rstrip(".").replace(str(self.path), "it") or type(error).__name__
        return OtherReaderError(f"{self.path} cannot be opened as a TIFF ({reason}); copy or export the slide again")

    def _read_inside(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        if self._file is None:
            self._pages = self._open()
        page = self._pages[level]
        try:
            if _is_plain(page):
                if level not in self._maps:
                    self._maps[level] = _memory_map(page, self.path)
                pixels = np.array(self._maps[level][y : y + height, x : x + width])
            else:
                pixels = self._decode(page, x, y, width, height)
            return as_rgb(pixels, page.photometric == INVERTED)
        except READ_ERRORS as error:
            raise self._read_error(level, x, y, width, height, error) from error

    def _decode(self, page: Page, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Decode the tiles or strips that a rectangle touches; return its pixels (height, width, samples)."""
        assert self._file is not None
        samples = page.samplesperpixel
        pixels = np.full((height, width, samples), 0 if page.photometric == INVERTED else GLASS, np.uint8)
        tables = page.jpegtables
        for index in _touched_tiles(page, x, y, width, height):
            offset, length = page.dataoffsets[index], page.databytecounts[index]
            if length == 0:
                continue  # an empty tile was never scanned
            self._file.filehandle.seek(offset)
            encoded = self._file.filehandle.read(length)
            if len(encoded) != length:
                raise ValueError(f"the file ends {length - len(encoded)} bytes too early")
            decoded, position, _ = page.decode(encoded, index, jpegtables=tables)
            tile_top, tile_left = position[2], position[3]
            tile = decoded[0]
            top, left = max(y, tile_top), max(x, tile_left)
            bottom, right = min(y + height, tile_top + tile.shape[0]), min(x + width, tile_left + tile.shape[1])
            part = tile[top - tile_top : bottom - tile_top, left - tile_left : right - tile_left]
            pixels[top - y : bottom - y, left - x : right - x] = part
        return pixels


def as_rgb(pixels: NDArray[np.uint8], inverted: bool) -> NDArray[np.uint8]:
    """Convert samples (H, W, 1..4) to RGB (H, W, 3): gray, gray with alpha, RGB or RGBA; ``inverted``: 0 is white."""
    samples = pixels.shape[-1]
    if samples in (1, 2):
        gray = GLASS - pixels[..., :1] if inverted else pixels[..., :1]
        pixels = np.concatenate([np.repeat(gray, 3, axis=-1), pixels[..., 1:]], axis=-1)
    return blend_over_white(pixels) if samples in (2, 4) else np.ascontiguousarray(pixels)


def _check(page: Page, path: os.PathLike[str]) -> None:
    """Check that the layout of a page is supported.

    Raises:
        SlideError: if not, with the reason.
    """
    if min(page.imagewidth, page.imagelength) < 1:
        raise SlideError(f"{path} has a width or height of 0 px; copy or export the slide again")
    if page.bitspersample != 8 or page.dtype != np.uint8:
        raise SlideError(f"{path} has {page.bitspersample} bits per color ({page.dtype}); convert it to 8 bits")
    if page.planarconfig != 1 and page.samplesperpixel > 1:
        raise OtherReaderError(f"{path} stores colors separately (planar); save it with interleaved colors")
    if page.photometric not in (INVERTED, GRAY, RGB, YCBCR) or page.samplesperpixel > 4 or page.imagedepth > 1:
        name = getattr(page.photometric, "name", page.photometric)
        raise OtherReaderError(
            f"{path} has {page.samplesperpixel} samples per pixel of the kind {name}; save it as RGB"
        )
    if not _can_decode(page):
        name = getattr(page.compression, "name", page.compression)
        # OpenSlide reads no strips, and where it is installed, it was tried before.
        openslide = "pip install openslide-python openslide-bin, or " if page.is_tiled and library() is None else ""
        raise OtherReaderError(
            f"{path} is compressed by {name}, which tifffile cannot read alone; "
            f"{openslide}pip install imagecodecs, or save it in tiles with deflate"
        )
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if not _is_plain(page) and min(rows, page.imagelength) * columns * page.samplesperpixel > MAX_PIECE_BYTES:
        raise OtherReaderError(f"{path} keeps {rows} x {columns} px in one compressed piece; save it in tiles")


def _can_decode(page: Page) -> bool:
    """Return whether tifffile can decode a page with the installed packages."""
    if page.compression == 1:
        return True
    if page.compression in JPEG:
        return importlib.util.find_spec("imagecodecs") is not None
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
        if page.predictor != 1:
            tifffile.TIFF.UNPREDICTORS[page.predictor]
    except KeyError:
        return False
    return True


def _is_plain(page: Page) -> bool:
    """Return whether a page is stored as contiguous uncompressed pixels, of which any part can be read."""
    return page.compression == 1 and not page.is_tiled and page.is_contiguous and page.fillorder == 1


def _memory_map(page: Page, path: os.PathLike[str]) -> NDArray[np.uint8]:
    """Memory-map an uncompressed page, (H, W, samples)."""
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    return np.memmap(path, np.uint8, "r", page.dataoffsets[0], shape)


def _touched_tiles(page: Page, x: int, y: int, width: int, height: int) -> Iterator[int]:
    """Yield the indices of the tiles or strips that a rectangle touches."""
    if not page.is_tiled:
        yield from range(y // page.rowsperstrip, (y + height - 1) // page.rowsperstrip + 1)
        return
    across = math.ceil(page.imagewidth / page.tilewidth)
    for row in range(y // page.tilelength, (y + height - 1) // page.tilelength + 1):
        for column in range(x // page.tilewidth, (x + width - 1) // page.tilewidth + 1):
            yield row * across + column


def _pixel_sizes(page: Page) -> list[pixel_size_metadata.Pair]:
    """Return the pixel sizes given in a page, from the most to the least reliable source."""
    description = page.description
    tags = [page.tags.valueof(name) for name in ("XResolution", "YResolution", "ResolutionUnit")]
    unit = int(tags[2]) if isinstance(tags[2], int) else 2  # the default of TIFF is inches
    return [
        pixel_size_metadata.of_ome(description),
        pixel_size_metadata.of_description(description),
        pixel_size_metadata.of_resolution(tags[0], tags[1], unit),
    ]
