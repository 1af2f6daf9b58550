"""A mask of a whole slide, held as compressed tiles and written as one pyramid of resolutions.

Most of a slide is empty, and a mask compresses well: 60,000 x 60,000 px take megabytes. Blocks come in any order and
at any place. Tiles that are being filled are open; the one that was open longest without change is closed first.

Layouts. ``"ome"`` is an OME-TIFF as its specification has it: lower resolutions hang below the first one. tifffile
and Bio-Formats (so QuPath) read all of it, OpenSlide reads the full resolution only. ``"plain"`` has the resolutions
one after another: OpenSlide and tifffile read all of it, Bio-Formats takes the lower ones for thumbnails.
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

from bundle.inference.files import hidden_until_done

Mask = NDArray[np.uint8]
Place = tuple[int, int]
"""(row, column) of a tile."""

LAYOUTS = ("ome", "plain")
SHOWN = 255
"""What the second of two classes may be instead of 1, so that a viewer shows it white."""
LEVEL = 6
"""Of zlib: higher ones take far longer and gain little on masks."""
SMALLEST = 1024
"""The pyramid ends with the first resolution of which no side is longer, in px."""
LARGEST_CLASSIC = 3_900_000_000
"""A file of more bytes is a BigTIFF: offsets of 32 bits end at 4 GiB."""


class MaskPyramid:
    """A mask of one byte a pixel that is put together from blocks and written as a pyramid.

    Args:
        size: (width, height) of the full resolution, in px.
        mpp: side of a pixel of the full resolution in um, ``None`` where it is not known.
        classes: how many there are, background counted; at most 256, what a byte holds.
        tile: side of a tile in px, a multiple of 16.
        open_tiles: how many tiles are kept uncompressed; 256 KiB each with the default side. More than a band of
            blocks touches, so that each tile is compressed about once.

    Raises:
        ValueError: for a size, a pixel, a number of classes or a tile that cannot be.
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
            raise ValueError(f"the side of a pixel is {mpp} um; it must be above 0, or None where it is not known")
        if not 2 <= classes <= 256:
            raise ValueError(f"there are {classes} classes; a mask of one byte a pixel holds 2 to 256")
        if tile < 16 or tile % 16:
            raise ValueError(f"the side of a tile is {tile} px; TIFF wants a multiple of 16")
        if open_tiles < 1:
            raise ValueError(f"open_tiles is {open_tiles}; it must be at least 1")
        self.size = (int(size[0]), int(size[1]))
        self.mpp = mpp
        self.classes = classes
        self.tile = tile
        self.open_tiles = open_tiles
        self._empty = zlib.compress(bytes(tile * tile), LEVEL)
        self._closed: dict[Place, bytes] = {}
        self._open: OrderedDict[Place, Mask] = OrderedDict()
        self._filled: dict[Place, int] = {}

    @property
    def held(self) -> int:
        """Bytes that the tiles take now, open and compressed."""
        return sum(map(len, self._closed.values())) + len(self._open) * self.tile**2

    def put(self, x: int, y: int, labels: Mask) -> None:
        """Set the mask in a rectangle; what was there before is gone.

        Args:
            x: first column, in px of the full resolution.
            y: first row.
            labels: (h, w) uint8, what the mask shall hold there: classes, or 0 and 255 where there are two.

        Raises:
            ValueError: for another type, a value that is no class or a rectangle that reaches out of the mask.
        """
        labels = np.asarray(labels)
        if labels.ndim != 2 or labels.dtype != np.uint8:
            raise ValueError(f"the labels have the shape {labels.shape} and hold {labels.dtype}; give (h, w) of uint8")
        h, w = labels.shape
        if x < 0 or y < 0 or x + w > self.size[0] or y + h > self.size[1]:
            raise ValueError(f"labels of {w} x {h} px at ({x}, {y}) reach out of the mask of {self.size} px")
        if not h or not w:
            return
        highest = int(labels.max())
        if highest >= self.classes and not (self.classes == 2 and highest == SHOWN):
            raise ValueError(f"the labels go up to {highest}; of {self.classes} classes they end at {self.classes - 1}")
        for row in range(y // self.tile, (y + h - 1) // self.tile + 1):
            for column in range(x // self.tile, (x + w - 1) // self.tile + 1):
                self._paste((row, column), x, y, labels)

    def write(self, path: str | os.PathLike[str], layout: str = "ome") -> None:
        """Write the pyramid: deflate-compressed tiles, each resolution half the one before.

        A pixel of a lower resolution takes the value that most of its four hold, the higher one where two tie. So
        values stay classes, areas stay about right, and a line of one px is still seen one resolution on.

        Args:
            path: of the file; whole or not there at all.
            layout: ``"ome"`` or ``"plain"``, see above.

        Raises:
            ValueError: for another layout.
            OSError: where the file cannot be written, for instance on a full disk; names it.
        """
        if layout not in LAYOUTS:
            raise ValueError(f"the layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
        for place in list(self._open):
            self._close(place)
        levels = self._levels()
        large = sum(self._bytes(size, tiles) for size, tiles in levels) > LARGEST_CLASSIC
        with (
            hidden_until_done(path) as hidden,
            tifffile.TiffWriter(hidden, bigtiff=large, ome=layout == "ome") as writer,
        ):
            for number, (size, tiles) in enumerate(levels):
                writer.write(
                    self._in_order(size, tiles),
                    shape=(size[1], size[0]),
                    dtype=np.uint8,
                    tile=(self.tile, self.tile),
                    compression="adobe_deflate",
                    photometric="minisblack",
                    subfiletype=1 if number else 0,
                    **self._description(number, len(levels), layout),
                )

    def _paste(self, place: Place, x: int, y: int, labels: Mask) -> None:
        """Put the part of a block that lies in one tile there."""
        top, left = place[0] * self.tile, place[1] * self.tile
        h, w = labels.shape
        rows = slice(max(y, top), min(y + h, top + self.tile))
        columns = slice(max(x, left), min(x + w, left + self.tile))
        part = labels[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        if place not in self._open and place not in self._closed and not part.any():
            return  # an empty tile needs no place
        opened = self._opened(place)
        opened[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = part
        self._filled[place] = self._filled.get(place, 0) + part.size
        whole = min(self.tile, self.size[0] - left) * min(self.tile, self.size[1] - top)
        if self._filled[place] >= whole:  # as far as blocks do not overlap, no more will come
            self._close(place)

    def _opened(self, place: Place) -> Mask:
        """The pixels of a tile, to change."""
        if place in self._open:
            self._open.move_to_end(place)
            return self._open[place]
        while len(self._open) >= self.open_tiles:
            self._close(next(iter(self._open)))
        self._open[place] = self._pixels(self._closed.pop(place, self._empty)).copy()
        return self._open[place]

    def _close(self, place: Place) -> None:
        """Compress a tile."""
        pixels = self._open.pop(place)
        if pixels.any():
            self._closed[place] = zlib.compress(pixels.tobytes(), LEVEL)

    def _pixels(self, encoded: bytes) -> Mask:
        return np.frombuffer(zlib.decompress(encoded), np.uint8).reshape(self.tile, self.tile)

    def _levels(self) -> list[tuple[tuple[int, int], dict[Place, bytes]]]:
        """Size and compressed tiles of each resolution, the full one first."""
        levels = [(self.size, self._closed)]
        while max(levels[-1][0]) > max(SMALLEST, self.tile):
            (w, h), tiles = levels[-1]
            levels.append((((w + 1) // 2, (h + 1) // 2), self._halved((w, h), tiles)))
        return levels

    def _halved(self, size: tuple[int, int], tiles: dict[Place, bytes]) -> dict[Place, bytes]:
        """Tiles of the resolution below."""
        halved = {}
        for row, column in sorted({(row // 2, column // 2) for row, column in tiles}):
            four = np.zeros((2 * self.tile, 2 * self.tile), np.uint8)
            for down, right in np.ndindex(2, 2):
                encoded = tiles.get((2 * row + down, 2 * column + right))
                if encoded is not None:
                    top, left = down * self.tile, right * self.tile
                    four[top : top + self.tile, left : left + self.tile] = self._pixels(encoded)
            bottom, end = size[1] - 2 * row * self.tile, size[0] - 2 * column * self.tile
            if bottom < len(four) and bottom % 2:  # an odd side: the last row counts twice
                four[bottom] = four[bottom - 1]
            if end < len(four) and end % 2:
                four[:, end] = four[:, end - 1]
            half = majority(four)
            if half.any():
                halved[row, column] = zlib.compress(half.tobytes(), LEVEL)
        return halved

    def _grid(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return -(-size[1] // self.tile), -(-size[0] // self.tile)

    def _bytes(self, size: tuple[int, int], tiles: dict[Place, bytes]) -> int:
        """What a resolution takes in the file, with eight bytes a tile of offsets and lengths."""
        rows, columns = self._grid(size)
        return sum(map(len, tiles.values())) + (rows * columns - len(tiles)) * len(self._empty) + 8 * rows * columns

    def _in_order(self, size: tuple[int, int], tiles: dict[Place, bytes]) -> Iterator[bytes]:
        """Compressed tiles row by row, so that nothing large is ever held for the file."""
        for place in np.ndindex(self._grid(size)):
            yield tiles.get(place, self._empty)

    def _description(self, number: int, count: int, layout: str) -> dict[str, Any]:
        """What the file says about a resolution: how the levels hang together, and the size of a pixel."""
        said: dict[str, Any] = {"metadata": None}
        if layout == "ome" and number == 0:
            # A file that is written again has the same name for itself.
            same = uuid.uuid5(uuid.NAMESPACE_OID, f"{self.size} {self.mpp} {zlib.crc32(self._fingerprint())}")
            said = {"subifds": count - 1, "metadata": {"axes": "YX", "UUID": str(same)}}
            if self.mpp is not None:
                for side in "XY":
                    said["metadata"] |= {f"PhysicalSize{side}": self.mpp, f"PhysicalSize{side}Unit": "µm"}
        if self.mpp is not None:
            per_centimeter = 10_000 / (self.mpp * 2**number)
            said |= {"resolution": (per_centimeter, per_centimeter), "resolutionunit": "CENTIMETER"}
        return said

    def _fingerprint(self) -> bytes:
        """What tells the contents of two masks apart."""
        return b"".join(b"%d %d %d;" % (*place, zlib.crc32(self._closed[place])) for place in sorted(self._closed))


def majority(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve both sides: a pixel takes the value that most of its four hold, the highest where several tie.

    So areas stay about right, which the highest of four would swell and one of four would scatter, and a line of one
    px is still seen at half the resolution.

    Args:
        pixels: (2 h, 2 w).

    Returns:
        (h, w).
    """
    one, two, three, four = (pixels[down::2, right::2] for down, right in np.ndindex(2, 2))
    # Sort the four by a network of comparisons, so that equal ones stand side by side.
    one, two = np.minimum(one, two), np.maximum(one, two)
    three, four = np.minimum(three, four), np.maximum(three, four)
    lowest, one = np.minimum(one, three), np.maximum(one, three)
    highest, four = np.maximum(two, four), np.minimum(two, four)
    lower, higher = np.minimum(one, four), np.maximum(one, four)
    other = np.where((higher != highest) & (lower == lowest), lowest, highest)
    return np.where(lower == higher, lower, other)
