"""Draw a synthetic whole slide: islands of phantom tissue on glass, as a tiled pyramid that viewers can open.

    python scripts/dev/draw_slide.py --output slide.tif --size 20000 20000 --mpp 1.0 --tissue 0.3 --mask glands.tif

The file is a BigTIFF with deflate compression, levels of 1, 1/2, 1/4 and so on, and um/px in its resolution tags. Each
island shows a square of tissue, repeated with mirrored sides so that no seams are visible; there are at most 8 squares.
Time and memory depend on the tissue, not on the glass: 60000 x 60000 px with 5 % tissue take about a minute on one
core. The slide contains no patient data.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

CELLS = 256
"""Cells of the island map along the longer side."""
SIDES = (64, 1024)
"""Minimum and maximum side of a square of tissue, px; powers of two, so that levels are means over whole squares."""
TEXTURES = 8
"""Maximum number of different squares of tissue in a slide."""
DOMAIN = "lab_a"
"""Laboratory of the phantom that defines stains and glass."""
EDGE = 8.0
"""Width of the edge of an island, um."""
EMPTY = 215
"""Mean of each color above which 32 x 32 px of a square contain no tissue."""
DEFLATE = 4
"""Compression level; higher levels gain little because of sensor noise."""
LARGEST = 200_000
"""Maximum side of a slide, px."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program. Exit codes: 0 success, 1 error, 2 invalid command line, 130 interrupted."""
    parser = _parser()
    options = parser.parse_args(arguments)
    width, height = options.size
    if min(width, height) < 1 or max(width, height) > LARGEST:
        parser.error(f"--size is {width} {height}; each side must be from 1 to {LARGEST} px")
    if not 0 <= options.tissue <= 1:
        parser.error(f"--tissue is {options.tissue}; it must be from 0 to 1")
    if options.tile < 16 or options.tile % 16:
        parser.error(f"--tile is {options.tile}; TIFF requires a multiple of 16")
    if not 0.1 <= options.mpp <= 4:
        parser.error(f"--mpp is {options.mpp}; it must be from 0.1 to 4 um/px")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}; it must be at least 0")
    if options.mask is not None and options.mask.absolute() == options.output.absolute():
        parser.error("--mask and --output are the same file; give different names")
    try:
        draw(options)
    except (OSError, ValueError) as error:
        print(f"draw_slide: {' '.join(str(error).split())}; nothing was written", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("draw_slide: stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.tif", help="output file")
    size = {"nargs": 2, "type": int, "metavar": ("WIDTH", "HEIGHT"), "default": [20000, 20000]}
    parser.add_argument("--size", **size, help="size of level 0, px (default: 20000 20000)")  # type: ignore[arg-type]
    parser.add_argument("--mpp", type=float, default=1.0, help="pixel size of level 0, 0.1 to 4 um/px (default: 1.0)")
    parser.add_argument("--tissue", type=float, default=0.3, help="share of tissue, 0 to 1 (default: 0.3)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--tile", type=int, default=512, help="side of the TIFF tiles, px (default: 512)")
    parser.add_argument("--no-mpp", action="store_true", help="omit um/px from the file")
    parser.add_argument("--mask", type=Path, metavar="FILE.tif", help="also write the mask of the glands, 255 on 0")
    return parser


def draw(options: argparse.Namespace) -> None:
    """Write slide and mask; after an error neither is written."""
    from tqdm import tqdm

    from bundle.utils import atomic_path

    slide = PhantomSlide(tuple(options.size), options.mpp, options.tissue, options.seed, options.tile)
    kinds = [("image", options.output)] + ([("mask", options.mask)] if options.mask is not None else [])
    count = len(kinds) * sum(slide.tiles(level) for level in range(slide.levels))
    with ExitStack() as files, tqdm(total=count, unit="tile", leave=False, disable=None) as progress:
        for kind, path in kinds:
            write(
                files.enter_context(atomic_path(path)), slide, kind, None if options.no_mpp else options.mpp, progress
            )
    for _, path in kinds:
        width, height = slide.size
        print(f"{path}: {width} x {height} px, {slide.levels} levels, {path.stat().st_size / 1e6:.1f} MB")


def write(path: Path, slide: PhantomSlide, kind: str, mpp: float | None, progress: Any) -> None:
    """Write one pyramid, tile by tile."""
    import tifffile

    def encoded(level: int) -> Iterator[bytes]:
        for tile in slide.encoded(level, kind):
            yield tile
            progress.update()

    samples, photometric = ((3,), "rgb") if kind == "image" else ((), "minisblack")
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(slide.levels):
            width, height = slide.level_size(level)
            per_centimeter = None if mpp is None else 1e4 / (mpp * 2**level)
            resolution = {} if per_centimeter is None else {"resolution": (per_centimeter, per_centimeter)}
            file.write(
                encoded(level),
                shape=(height, width, *samples),
                dtype=np.uint8,
                tile=(slide.tile, slide.tile),
                compression="zlib",
                photometric=photometric,
                subfiletype=int(level > 0),
                resolutionunit="NONE" if mpp is None else "CENTIMETER",
                metadata=None,
                **resolution,
            )


class PhantomSlide:
    """A synthetic slide that draws any tile of any level on demand.

    Args:
        size: (width, height) of level 0, px.
        mpp: um/px of level 0.
        tissue: share of tissue, in [0, 1].
        seed: random seed.
        tile: side of a tile, px.
    """

    def __init__(self, size: tuple[int, int], mpp: float, tissue: float, seed: int, tile: int) -> None:
        from bundle.data.phantom import DOMAINS

        self.size, self.mpp, self.seed, self.tile = size, mpp, seed, tile
        self.glass = np.rint(255 * np.array(DOMAINS[DOMAIN].light)).astype(np.uint8)
        self.cell = max(size) / CELLS
        self.field, self.islands = _islands(size, self.cell, tissue, seed)
        slopes = np.hypot(*np.gradient(self.field)) if min(self.field.shape) > 1 else np.ones(1)
        self.softness = float(slopes.mean()) / self.cell * EDGE / mpp + 1e-9
        self.side = int(np.clip(2 ** np.ceil(np.log2(max(size) / 4 + 1)), *SIDES))
        self.texture = lru_cache(maxsize=None)(self._texture)
        self.whole_tile = lru_cache(maxsize=192)(self._whole_tile)  # at most 0.8 MB each, for tiles of 512 px

    @cached_property
    def levels(self) -> int:
        """Number of levels; the last one fits into one tile."""
        count = 1
        while max(self.level_size(count - 1)) > self.tile and 2**count <= self.side:
            count += 1
        return count

    def level_size(self, level: int) -> tuple[int, int]:
        """Return (width, height) of a level, px."""
        width, height = (max(length >> level, 1) for length in self.size)
        return width, height

    def tiles(self, level: int) -> int:
        """Return the number of tiles of a level."""
        width, height = self.level_size(level)
        return -(-width // self.tile) * -(-height // self.tile)

    def encoded(self, level: int, kind: str) -> Iterator[bytes]:
        """Yield the compressed tiles of a level, ``image`` or ``mask``, row by row; glass is compressed once."""
        background = self.glass if kind == "image" else np.zeros(1, np.uint8)
        empty = _deflated(np.tile(background, (self.tile, self.tile, 1)))
        width, height = self.level_size(level)
        for y in range(0, height, self.tile):
            for x in range(0, width, self.tile):
                part, numbers = self._cells(level, x, y)
                if part.max() < -self.softness:
                    yield empty
                elif part.min() > self.softness and len(numbers) == 1:
                    period = 2 * (self.side >> level)
                    yield self.whole_tile(int(numbers[0]), level, x % period, y % period, kind)
                else:
                    yield _deflated(self.drawn(level, x, y, kind))

    def drawn(self, level: int, x: int, y: int, kind: str) -> NDArray[np.uint8]:
        """Draw the tile at ``x``, ``y`` of a level: (tile, tile, 3), or (tile, tile, 1) for a mask."""
        rows, columns = (self._positions(start, level) for start in (y, x))
        value = _bilinear(self.field, rows, columns)[..., None]
        share = np.clip(value / self.softness + 0.5, 0, 1)
        inside = _nearest(self.islands, rows, columns)
        tissue = np.zeros((self.tile, self.tile, 3 if kind == "image" else 1), np.uint8)
        for number in np.unique(inside):
            part = self._mirrored(int(number), level, x, y, kind)
            tissue = np.where((inside == number)[..., None], part, tissue)
        if kind == "mask":
            return np.where(share >= 0.5, tissue, 0).astype(np.uint8)
        return np.rint(share * tissue + (1 - share) * self.glass).astype(np.uint8)

    def _whole_tile(self, number: int, level: int, x: int, y: int, kind: str) -> bytes:
        return _deflated(self._mirrored(number, level, x, y, kind))

    def _mirrored(self, number: int, level: int, x: int, y: int, kind: str) -> NDArray[np.uint8]:
        """Return the tile at ``x``, ``y`` of a plane filled with one square of tissue, mirrored at its sides."""
        square = self.texture(number)[kind][level]
        side = square.shape[0]
        rows, columns = (np.arange(start, start + self.tile) % (2 * side) for start in (y, x))
        rows, columns = (np.minimum(indices, 2 * side - 1 - indices) for indices in (rows, columns))
        return square[np.ix_(rows, columns)]

    def _texture(self, number: int) -> dict[str, list[NDArray[np.uint8]]]:
        """Draw one square of tissue (side, side, 3) and the mask of its glands (side, side, 1) at every level."""
        from bundle.data.phantom import GRADES, draw_tile

        grade, square = GRADES[number % len(GRADES)], (self.side, self.side)
        for attempt in range(4):  # some squares are at the edge of the phantom's tissue and half empty
            seed = [self.seed, number, attempt]
            image, instances = draw_tile(seed, square, grade=grade, domain=DOMAIN, mpp=self.mpp, patient_seed=self.seed)
            if (_mean(image, 32).min(axis=-1) > EMPTY).mean() < 0.02:
                break
        glands = np.where(instances > 0, 255, 0).astype(np.uint8)[..., None]
        levels: dict[str, list[NDArray[np.uint8]]] = {"image": [], "mask": []}
        for level in range(self.levels):
            levels["image"].append(_mean(image, 2**level))
            levels["mask"].append(np.where(_mean(glands, 2**level) > 127, 255, 0).astype(np.uint8))
        return levels

    def _cells(self, level: int, x: int, y: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return the field in the cells of the tile at ``x``, ``y`` of a level, and the numbers of their squares."""
        rows, columns = (self._positions(start, level)[[0, -1]] for start in (y, x))
        top, left = (max(int(positions[0]), 0) for positions in (rows, columns))
        part = (slice(top, int(rows[1]) + 2), slice(left, int(columns[1]) + 2))
        return self.field[part], np.unique(self.islands[part])

    def _positions(self, start: int, level: int) -> NDArray[np.float64]:
        """Return the positions of a tile's rows or columns on the island map, in cells; 0 is the first center."""
        positions = (np.arange(start, start + self.tile) + 0.5) * 2**level / self.cell - 0.5
        return np.clip(positions, 0, CELLS)


def _islands(
    size: tuple[int, int], cell: float, tissue: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Draw the island map: a field (rows, columns), above 0 in tissue, and the number of the square in each cell."""
    generator = np.random.default_rng([seed, 7])
    shape = tuple(max(int(np.ceil(length / cell)), 1) for length in reversed(size))
    coarse, fine = (ndimage.gaussian_filter(generator.normal(size=shape), CELLS / part) for part in (16, 80))
    field = coarse / max(coarse.std(), 1e-9) + 0.25 * fine / max(fine.std(), 1e-9)
    if tissue in (0, 1):
        return np.full(shape, 2.0 * tissue - 1, np.float32), np.zeros(shape, np.int32)
    rows, columns = (np.minimum(np.arange(length), np.arange(length)[::-1]) for length in shape)
    border = np.minimum(rows[:, None], columns[None]) / (0.08 * CELLS)
    field -= 4 * (1 - tissue) * np.clip(1 - border, 0, 1)  # prefer glass at the border
    field -= np.quantile(field, 1 - tissue)
    numbers, count = ndimage.label(field > 0)
    nearest = ndimage.distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    if count == 0:
        return field.astype(np.float32), np.zeros(shape, np.int32)
    return field.astype(np.float32), (numbers[tuple(nearest)] % TEXTURES).astype(np.int32)


def _bilinear(field: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[Any]:
    """Interpolate a field at the given rows and columns; values at its border continue outside."""
    for axis, positions in enumerate((rows, columns)):
        first = np.clip(positions.astype(int), 0, field.shape[axis] - 1)
        weight = np.expand_dims(np.clip(positions - first, 0, 1).astype(np.float32), 1 - axis)
        after = np.minimum(first + 1, field.shape[axis] - 1)
        field = (1 - weight) * field.take(first, axis) + weight * field.take(after, axis)
    return field


def _nearest(islands: NDArray[np.int32], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.int32]:
    """Return the nearest values of the island map at the given rows and columns."""
    indices = (np.rint(positions).astype(int) for positions in (rows, columns))
    axes = zip(indices, islands.shape, strict=True)
    return islands[np.ix_(*(np.minimum(index, length - 1) for index, length in axes))]


def _mean(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Return the means over blocks of ``count`` x ``count`` px."""
    side = pixels.shape[0] // count
    return np.rint(pixels.reshape(side, count, side, count, -1).mean(axis=(1, 3))).astype(np.uint8)


def _deflated(pixels: NDArray[np.uint8]) -> bytes:
    return zlib.compress(pixels.tobytes(), DEFLATE)


if __name__ == "__main__":
    sys.exit(main())
