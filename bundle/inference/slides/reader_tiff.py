"""Slides through tifffile: TIFF and OME-TIFF, of which only the tiles that a rectangle touches are decoded."""

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

from bundle.inference.slides import resolution
from bundle.inference.slides.reader_openslide import over_glass
from bundle.inference.slides.slide import GLASS, OtherReaderError, Slide, SlideError, as_levels, existing

DAMAGE = (OSError, ValueError, struct.error, zlib.error, RuntimeError, IndexError, KeyError, TypeError, AttributeError)
"""What tifffile raises for files that are cut off, or hold nonsense."""
JPEG = (6, 7, 34892, 33007)
"""Numbers of TIFF's JPEG compressions, which tifffile decodes by imagecodecs alone."""
WHOLE = 2**29
"""Bytes of the largest piece of pixels that is decoded to read a part of it."""
INVERTED, GRAY, RGB, YCBCR = 0, 1, 2, 6
"""Photometric interpretations that are read, by TIFF's numbers; YCbCr is decoded to RGB."""

Page = Any
"""A TiffPage or TiffFrame of tifffile."""


class TiffSlide(Slide):
    """A slide that tifffile reads: RGB, RGBA or gray with 8 bits, in tiles or strips, one level or a pyramid.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: where there is no such file.
        SlideError: where it is no TIFF, is damaged, has another layout, or its pixels are not square.
    """

    _file: tifffile.TiffFile | None = None

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = existing(path)
        self._pages = self._opened()
        self._maps: dict[int, NDArray[np.uint8]] = {}
        try:
            for page in self._pages:
                _check(page, self.path)
            self.levels = as_levels([(page.imagewidth, page.imagelength) for page in self._pages])
            self.size = self.levels[0].size
            self.mpp = resolution.first_told(_pixel_sizes(self._pages[0]), self.path)
        except SlideError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file; a second time does nothing."""
        self._maps = {}
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> list[Page]:
        """Open the file and give one page a level, from fine to coarse."""
        try:
            self._file = tifffile.TiffFile(self.path)
            # A scanner's label and overview are series of their own, smaller than the slide.
            levels = max(self._file.series, key=lambda series: math.prod(series.levels[0].shape)).levels
            pages: list[Page] = [level.pages[0] for level in levels]
            counts = [len(level.pages) for level in levels]
        except DAMAGE as error:
            self.close()
            reason = " ".join(str(error).split()).rstrip(".")
            raise OtherReaderError(f"{self.path} cannot be opened as a TIFF ({reason})") from error
        if max(counts) > 1:
            self.close()
            raise SlideError(
                f"{self.path} holds {max(counts)} planes (of a stack, channels or times) where a slide has one; "
                "export one plane as RGB"
            )
        return [page.aspage() for page in pages]

    def _read_inside(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        if self._file is None:
            self._pages = self._opened()
        page = self._pages[level]
        try:
            if _is_plain(page):
                if level not in self._maps:
                    self._maps[level] = _mapped(page, self.path)
                pixels = np.array(self._maps[level][y : y + height, x : x + width])
            else:
                pixels = self._decoded(page, x, y, width, height)
            return as_rgb(pixels, page.photometric == INVERTED)
        except DAMAGE as error:
            raise self._broken(level, x, y, width, height, error) from error

    def _decoded(self, page: Page, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels (height, width, samples) of the tiles or strips that a rectangle touches."""
        assert self._file is not None
        samples = page.samplesperpixel
        pixels = np.full((height, width, samples), 0 if page.photometric == INVERTED else GLASS, np.uint8)
        tables = page.jpegtables
        for index in _touched(page, x, y, width, height):
            offset, length = page.dataoffsets[index], page.databytecounts[index]
            if length == 0:
                continue  # a tile that was left out: glass
            self._file.filehandle.seek(offset)
            encoded = self._file.filehandle.read(length)
            if len(encoded) != length:
                raise ValueError(f"the file ends {length - len(encoded)} bytes too early")
            decoded, place, _ = page.decode(encoded, index, jpegtables=tables)
            rows, columns = place[2], place[3]
            tile = decoded[0]
            top, left = max(y, rows), max(x, columns)
            bottom, right = min(y + height, rows + tile.shape[0]), min(x + width, columns + tile.shape[1])
            part = tile[top - rows : bottom - rows, left - columns : right - columns]
            pixels[top - y : bottom - y, left - x : right - x] = part
        return pixels


def as_rgb(pixels: NDArray[np.uint8], inverted: bool) -> NDArray[np.uint8]:
    """Colors (H, W, 3) of samples (H, W, 1..4): gray, gray with alpha, RGB or RGBA; ``inverted`` gray has white 0."""
    samples = pixels.shape[-1]
    if samples in (1, 2):
        gray = GLASS - pixels[..., :1] if inverted else pixels[..., :1]
        pixels = np.concatenate([np.repeat(gray, 3, axis=-1), pixels[..., 1:]], axis=-1)
    return over_glass(pixels) if samples in (2, 4) else np.ascontiguousarray(pixels)


def _check(page: Page, path: os.PathLike[str]) -> None:
    """Refuse what is not read, before the first pixel is.

    Raises:
        SlideError: in one sentence for each reason.
    """
    if page.bitspersample != 8 or page.dtype != np.uint8:
        raise SlideError(f"{path} has {page.bitspersample} bits a color ({page.dtype}); convert it to 8 bits")
    if page.planarconfig != 1 and page.samplesperpixel > 1:
        raise OtherReaderError(f"{path} keeps red, green and blue apart (planar); save it with the colors together")
    if page.photometric not in (INVERTED, GRAY, RGB, YCBCR) or page.samplesperpixel > 4 or page.imagedepth > 1:
        kind = getattr(page.photometric, "name", page.photometric)
        raise OtherReaderError(f"{path} has {page.samplesperpixel} samples a pixel of the kind {kind}; save it as RGB")
    if not _can_decode(page):
        kind = getattr(page.compression, "name", page.compression)
        raise OtherReaderError(
            f"{path} is compressed by {kind}, which tifffile cannot read alone; "
            "pip install openslide-python openslide-bin, or pip install imagecodecs"
        )
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if not _is_plain(page) and min(rows, page.imagelength) * columns * page.samplesperpixel > WHOLE:
        raise OtherReaderError(f"{path} keeps {rows} x {columns} px in one compressed piece; save it in tiles")


def _can_decode(page: Page) -> bool:
    """Whether tifffile has what it takes to decode a page."""
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
    """Whether a page lies in the file as one run of pixels, of which any part can be taken."""
    return page.compression == 1 and not page.is_tiled and page.is_contiguous and page.fillorder == 1


def _mapped(page: Page, path: os.PathLike[str]) -> NDArray[np.uint8]:
    """Pixels (H, W, samples) of a plain page as they lie on the disk."""
    shape = (page.imagelength, page.imagewidth, page.samplesperpixel)
    return np.memmap(path, np.uint8, "r", page.dataoffsets[0], shape)


def _touched(page: Page, x: int, y: int, width: int, height: int) -> Iterator[int]:
    """Numbers of the tiles or strips that a rectangle touches."""
    if not page.is_tiled:
        yield from range(y // page.rowsperstrip, (y + height - 1) // page.rowsperstrip + 1)
        return
    across = math.ceil(page.imagewidth / page.tilewidth)
    for row in range(y // page.tilelength, (y + height - 1) // page.tilelength + 1):
        for column in range(x // page.tilewidth, (x + width - 1) // page.tilewidth + 1):
            yield row * across + column


def _pixel_sizes(page: Page) -> list[resolution.Pair]:
    """What a page tells of its pixel size, from the most to the least trusted."""
    description = page.description
    tags = [page.tags.valueof(name) for name in ("XResolution", "YResolution", "ResolutionUnit")]
    unit = int(tags[2]) if isinstance(tags[2], int) else 2  # inches where the tag is missing, as TIFF says
    return [
        resolution.of_ome(description),
        resolution.of_description(description),
        resolution.of_resolution(tags[0], tags[1], unit),
    ]
