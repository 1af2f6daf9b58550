"""Mask of a whole slide, held as compressed tiles and written as a TIFF pyramid.

Most of a slide is empty, and masks compress well: 60,000 x 60,000 px take megabytes. Blocks may come in any order and
at any position. Incomplete tiles stay uncompressed ("open"); the least recently changed one is compressed first.

Layouts: ``"ome"`` is an OME-TIFF with lower resolutions in SubIFDs. tifffile and Bio-Formats (and so QuPath) read all
levels, OpenSlide reads the full resolution only. ``"plain"`` stores the levels one after another: OpenSlide and
tifffile read all levels, Bio-Formats takes the lower ones for thumbnails.
"""

from __future__ import annotations

import os
import uuid
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from bundle.utils import atomic_path

Mask = NDArray[np.uint8]
TileIndex = tuple[int, int]
"""(row, column) of a tile in the grid."""

LAYOUTS = ("ome", "plain")
SHOWN = 255
"""Value that may replace class 1 in a mask of two classes, so that viewers show it white."""
LEVEL = 6
"""zlib compression level; higher ones are much slower and gain little on masks."""
SMALLEST = 1024
"""The last level of the pyramid is the first one with no side longer than this, px."""
LARGEST_CLASSIC = 3_900_000_000
"""Files with more bytes are written as BigTIFF, because classic TIFF offsets end at 4 GiB."""


class MaskPyramid:
    """Mask of one byte per pixel that is assembled from blocks and written as a pyramid.

    Args:
        size: (width, height) of the full resolution, in px.
        mpp: um/px of the full resolution, ``None`` if unknown.
        classes: number of classes with background, 2 to 256.
        tile: side of a tile in px, a multiple of 16.
        open_tiles: maximum number of uncompressed tiles, 256 KiB each with the default side. Use more than a row of
            blocks touches, so that each tile is compressed about once.

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        size: tuple[int, int],
        mpp: float | None = None,
        classes: int = 2,
        tile: int = 512,
        open_tiles: int = 512,
    ) -> None:
        if min(size) < 1:
            raise ValueError(f"the mask's size is {size}; width and height must be at least 1 px")
        if mpp is not None and not 0 < mpp < float("inf"):
            raise ValueError(f"the pixel size is {mpp} um/px; it must be above 0, or None if it is unknown")
        if not 2 <= classes <= 256:
            raise ValueError(f"there are {classes} classes; a mask of one byte per pixel holds 2 to 256")
        if tile < 16 or tile % 16:
            raise ValueError(f"the side of a tile is {tile} px; TIFF needs a multiple of 16")
        if open_tiles < 1:
            raise ValueError(f"open_tiles is {open_tiles}; it must be at least 1")
        self.size = (int(size[0]), int(size[1]))
        self.mpp = mpp
        self.classes = classes
        self.tile = tile
        self.open_tiles = open_tiles
        self._empty = zlib.compress(bytes(tile * tile), LEVEL)
        self._closed: dict[TileIndex, bytes] = {}
        self._open: OrderedDict[TileIndex, Mask] = OrderedDict()
        self._filled: dict[TileIndex, int] = {}

    @property
    def nbytes(self) -> int:
        """Memory of all tiles, open and compressed, bytes."""
        return sum(map(len, self._closed.values())) + len(self._open) * self.tile**2

    def put(self, x: int, y: int, labels: Mask) -> None:
        """Set the mask in a rectangle and overwrite its previous content.

        Args:
            x: first column, in px of the full resolution.
            y: first row.
            labels: (h, w) uint8: classes, or 0 and 255 if there are two.

        Raises:
            ValueError: if the labels are not (h, w) uint8, hold other values, or exceed the mask.
        """
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(f"the labels have the shape {labels.shape} and hold {labels.dtype}; give (h, w) of uint8")
        h, w = labels.shape
        if x < 0 or y < 0 or x + w > self.size[0] or y + h > self.size[1]:
            raise ValueError(f"labels of {w} x {h} px at ({x}, {y}) exceed the mask of {self.size} px")
        if not h or not w:
            return
        highest = int(labels.max())
        if highest >= self.classes and not (self.classes == 2 and highest == SHOWN):
            raise ValueError(f"labels contain {highest}; the highest of {self.classes} classes is {self.classes - 1}")
        for row in range(y // self.tile, (y + h - 1) // self.tile + 1):
            for column in range(x // self.tile, (x + w - 1) // self.tile + 1):
                self._paste((row, column), x, y, labels)

    def write(self, path: str | os.PathLike[str], layout: str = "ome") -> None:
        """Write the pyramid: deflate-compressed tiles, each level half the size of the one before.

        A pixel of a lower level gets the most frequent value of its four pixels, the highest one in a tie; see
        :func:`majority`.

        Args:
            path: path of the file; it is written atomically.
            layout: ``"ome"`` or ``"plain"``, see the module.

        Raises:
            ValueError: if the layout is unknown.
            OSError: if the file cannot be written, for example on a full disk; with its path.
        """
        if layout not in LAYOUTS:
            raise ValueError(f"the layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
        for index in list(self._open):
            self._close_tile(index)
        levels = self._levels()
        is_large = sum(self._encoded_size(size, tiles) for size, tiles in levels) > LARGEST_CLASSIC
        with (
            atomic_path(path, ".tif", clean=True) as temporary,
            tifffile.TiffWriter(temporary, bigtiff=is_large, ome=layout == "ome") as writer,
        ):
            for number, (size, tiles) in enumerate(levels):
                writer.write(
                    self._ordered_tiles(size, tiles),
                    shape=(size[1], size[0]),
                    dtype=np.uint8,
                    tile=(self.tile, self.tile),
                    compression="adobe_deflate",
                    photometric="minisblack",
                    subfiletype=1 if number else 0,
                    **self._tags(number, len(levels), layout),
                )

    def _paste(self, index: TileIndex, x: int, y: int, labels: Mask) -> None:
        """Copy the part of a block that lies in one tile."""
        top, left = index[0] * self.tile, index[1] * self.tile
        h, w = labels.shape
        rows = slice(max(y, top), min(y + h, top + self.tile))
        columns = slice(max(x, left), min(x + w, left + self.tile))
        part = labels[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        if index not in self._open and index not in self._closed and not part.any():
            return  # empty tiles are not stored
        tile = self._open_tile(index)
        tile[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = part
        self._filled[index] = self._filled.get(index, 0) + part.size
        tile_area = min(self.tile, self.size[0] - left) * min(self.tile, self.size[1] - top)
        if self._filled[index] >= tile_area:  # complete, unless blocks overlap
            self._close_tile(index)

    def _open_tile(self, index: TileIndex) -> Mask:
        """Return the pixels of a tile for writing."""
        if index in self._open:
            self._open.move_to_end(index)
            return self._open[index]
        while len(self._open) >= self.open_tiles:
            self._close_tile(next(iter(self._open)))
        self._open[index] = self._decompress(self._closed.pop(index, self._empty)).copy()
        return self._open[index]

    def _close_tile(self, index: TileIndex) -> None:
        """Compress a tile."""
        pixels = self._open.pop(index)
        if pixels.any():
            self._closed[index] = zlib.compress(pixels.tobytes(), LEVEL)

    def _decompress(self, encoded: bytes) -> Mask:
        return np.frombuffer(zlib.decompress(encoded), np.uint8).reshape(self.tile, self.tile)

    def _levels(self) -> list[tuple[tuple[int, int], dict[TileIndex, bytes]]]:
        """Return size and compressed tiles of each level, the full resolution first."""
        levels = [(self.size, self._closed)]
        while max(levels[-1][0]) > max(SMALLEST, self.tile):
            (w, h), tiles = levels[-1]
            levels.append((((w + 1) // 2, (h + 1) // 2), self._downsample((w, h), tiles)))
        return levels

    def _downsample(self, size: tuple[int, int], tiles: dict[TileIndex, bytes]) -> dict[TileIndex, bytes]:
        """Return the compressed tiles of the next lower level."""
        halved = {}
        for row, column in sorted({(row // 2, column // 2) for row, column in tiles}):
            block = np.zeros((2 * self.tile, 2 * self.tile), np.uint8)
            for down, right in np.ndindex(2, 2):
                encoded = tiles.get((2 * row + down, 2 * column + right))
                if encoded is not None:
                    top, left = down * self.tile, right * self.tile
                    block[top : top + self.tile, left : left + self.tile] = self._decompress(encoded)
            bottom, end = size[1] - 2 * row * self.tile, size[0] - 2 * column * self.tile
            if bottom < len(block) and bottom % 2:  # odd size: repeat the last row
                block[bottom] = block[bottom - 1]
            if end < len(block) and end % 2:
                block[:, end] = block[:, end - 1]
            half = majority(block)
            if half.any():
                halved[row, column] = zlib.compress(half.tobytes(), LEVEL)
        return halved

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the numbers of rows and columns of tiles."""
        return -(-size[1] // self.tile), -(-size[0] // self.tile)

    def _encoded_size(self, size: tuple[int, int], tiles: dict[TileIndex, bytes]) -> int:
        """Return the size of a level in the file, with 8 bytes per tile for its offset and length."""
        rows, columns = self._grid(size)
        return sum(map(len, tiles.values())) + (rows * columns - len(tiles)) * len(self._empty) + 8 * rows * columns

    def _ordered_tiles(self, size: tuple[int, int], tiles: dict[TileIndex, bytes]) -> Iterator[bytes]:
        """Yield the compressed tiles of a level row by row, so that the level is never copied in memory."""
        for index in np.ndindex(self._grid(size)):
            yield tiles.get(index, self._empty)

    def _tags(self, number: int, count: int, layout: str) -> dict[str, Any]:
        """Return the TIFF tags of a level: links between levels, and pixel size."""
        tags: dict[str, Any] = {"metadata": None}
        if layout == "ome" and number == 0:
            # A hash of the content as UUID, so that the same mask gives the same file.
            identifier = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.size} {self.mpp} {zlib.crc32(self._fingerprint())}")
            tags = {"subifds": count - 1, "metadata": {"axes": "YX", "UUID": str(identifier)}}
            if self.mpp is not None:
                for side in "XY":
                    tags["metadata"] |= {f"PhysicalSize{side}": self.mpp, f"PhysicalSize{side}Unit": "µm"}
        if self.mpp is not None:
            per_centimeter = 10_000 / (self.mpp * 2**number)
            tags |= {"resolution": (per_centimeter, per_centimeter), "resolutionunit": "CENTIMETER"}
        return tags

    def _fingerprint(self) -> bytes:
        """Return the checksums of all tiles."""
        return b"".join(b"%d %d %d;" % (*index, zlib.crc32(self._closed[index])) for index in sorted(self._closed))


def majority(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Downsample by 2: each pixel gets the most frequent value of its four pixels, the highest one in a tie.

    Values stay classes and areas stay about equal. The maximum of the four would enlarge objects, a single one would
    give ragged borders. A line of 1 px is still visible at half the resolution.

    Args:
        pixels: (2 h, 2 w).

    Returns:
        (h, w).
    """
    a, b, c, d = (pixels[down::2, right::2] for down, right in np.ndindex(2, 2))
    # Sort the four values with a sorting network, so that equal values are adjacent.
    a, b = np.minimum(a, b), np.maximum(a, b)
    c, d = np.minimum(c, d), np.maximum(c, d)
    lowest, a = np.minimum(a, c), np.maximum(a, c)
    highest, d = np.maximum(b, d), np.minimum(b, d)
    lower, higher = np.minimum(a, d), np.maximum(a, d)
    most_frequent = np.where((higher != highest) & (lower == lowest), lowest, highest)
    return np.where(lower == higher, lower, most_frequent)
