"""Draw a whole slide to try things on: islands of phantom tissue on glass, as a tiled pyramid that viewers open.

    python scripts/draw_slide.py --output slide.tif --size 20000 20000 --mpp 1.0 --tissue 0.3 --mask glands.tif

The file is a BigTIFF in deflate with levels of 1, 1/2, 1/4 and so on, and tells its um/px in its resolution tags. An
island shows a square of tissue that is mirrored at its sides again and again, so that no seam is seen; there are
at most 8 such squares. Time and memory go with the tissue, not with the glass: 60000 x 60000 px of which 5 % are tissue
take about a minute on one core. No patient's tissue is in it.
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

CELLS = 256
"""Cells of the map of islands along the longer side."""
SIDES = (64, 1024)
"""Least and greatest side of a square of tissue, px; powers of two, so that levels are means over whole squares."""
TEXTURES = 8
"""Squares of tissue that are drawn for one slide at most."""
DOMAIN = "lab_a"
"""Laboratory of the phantom whose stains and glass the slide has."""
EDGE = 8.0
"""Width of the edge of an island, um."""
EMPTY = 215
"""Gray value in all colors above which 32 x 32 px of a square hold no tissue."""
DEFLATE = 4
"""Level of the compression; the noise of a sensor leaves little to gain by more."""
MOST = 200_000
"""Px of the longer side of a slide."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; 0 is good, 1 an error that the last line explains, 2 a wrong command line, 130 a Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(arguments)
    width, height = options.size
    if min(width, height) < 1 or max(width, height) > MOST:
        parser.error(f"--size is {width} {height}; write 1 to {MOST} px for each side")
    if not 0 <= options.tissue <= 1:
        parser.error(f"--tissue is {options.tissue}; write a share from 0 to 1")
    if options.tile < 16 or options.tile % 16:
        parser.error(f"--tile is {options.tile}; write a multiple of 16, as TIFF asks")
    if not 0.1 <= options.mpp <= 4:
        parser.error(f"--mpp is {options.mpp}; write 0.1 to 4 um/px")
    if options.seed < 0:
        parser.error(f"--seed is {options.seed}; write 0 or more")
    if options.mask is not None and options.mask.absolute() == options.output.absolute():
        parser.error("--mask and --output are the same file; give two names")
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
    parser.add_argument("--output", required=True, type=Path, metavar="FILE.tif", help="slide to write")
    size = {"nargs": 2, "type": int, "metavar": ("WIDTH", "HEIGHT"), "default": [20000, 20000]}
    parser.add_argument("--size", **size, help="px of level 0 (default 20000 20000)")  # type: ignore[arg-type]
    parser.add_argument("--mpp", type=float, default=1.0, help="um/px of level 0, 0.1 to 4 (default 1.0)")
    parser.add_argument("--tissue", type=float, default=0.3, help="share of the slide with tissue (default 0.3)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed draws the same slide (default 0)")
    parser.add_argument("--tile", type=int, default=512, help="side of the TIFF's tiles, px (default 512)")
    parser.add_argument("--no-mpp", action="store_true", help="leave um/px out of the file")
    parser.add_argument("--mask", type=Path, metavar="FILE.tif", help="also write the true glands, 255 on 0, likewise")
    return parser


def draw(options: argparse.Namespace) -> None:
    """Write slide and mask, both or none."""
    from tqdm import tqdm

    from bundle.engines.files import whole

    slide = PhantomSlide(tuple(options.size), options.mpp, options.tissue, options.seed, options.tile)
    kinds = [("image", options.output)] + ([("mask", options.mask)] if options.mask is not None else [])
    count = len(kinds) * sum(slide.tiles(level) for level in range(slide.levels))
    with ExitStack() as places, tqdm(total=count, unit="tile", leave=False, disable=None) as progress:
        for kind, path in kinds:
            write(places.enter_context(whole(path)), slide, kind, None if options.no_mpp else options.mpp, progress)
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
    """A slide that is drawn where it is looked at: any tile of any level, without the others.

    Args:
        size: (width, height) of level 0, px.
        mpp: um/px of level 0.
        tissue: share of tissue, in [0, 1].
        seed: of all that is drawn.
        tile: side of a tile, px.
    """

    def __init__(self, size: tuple[int, int], mpp: float, tissue: float, seed: int, tile: int) -> None:
        from bundle.data.phantom_draw import DOMAINS

        self.size, self.mpp, self.seed, self.tile = size, mpp, seed, tile
        self.glass = np.rint(255 * np.array(DOMAINS[DOMAIN].light)).astype(np.uint8)
        self.cell = max(size) / CELLS
        self.field, self.islands = _islands(size, self.cell, tissue, seed)
        slopes = np.hypot(*np.gradient(self.field)) if min(self.field.shape) > 1 else np.ones(1)
        self.softness = float(slopes.mean()) / self.cell * EDGE / mpp + 1e-9
        self.side = int(np.clip(2 ** np.ceil(np.log2(max(size) / 4 + 1)), *SIDES))
        self.texture = lru_cache(maxsize=None)(self._texture)
        self.whole_tile = lru_cache(maxsize=192)(self._whole_tile)  # 0.8 MB each at most, for tiles of 512 px

    @cached_property
    def levels(self) -> int:
        """How many levels there are: the last fits into one tile."""
        count = 1
        while max(self.level_size(count - 1)) > self.tile and 2**count <= self.side:
            count += 1
        return count

    def level_size(self, level: int) -> tuple[int, int]:
        """(width, height) of a level, px."""
        width, height = (max(length >> level, 1) for length in self.size)
        return width, height

    def tiles(self, level: int) -> int:
        """How many tiles a level has."""
        width, height = self.level_size(level)
        return -(-width // self.tile) * -(-height // self.tile)

    def encoded(self, level: int, kind: str) -> Iterator[bytes]:
        """Give the tiles of a level, ``image`` or ``mask``, row by row, in deflate; glass is encoded once."""
        nothing = self.glass if kind == "image" else np.zeros(1, np.uint8)
        empty = _deflated(np.tile(nothing, (self.tile, self.tile, 1)))
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
        rows, columns = (self._places(start, level) for start in (y, x))
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
        """The tile at ``x``, ``y`` of a plane that one square of tissue fills, mirrored at its sides."""
        square = self.texture(number)[kind][level]
        side = square.shape[0]
        rows, columns = (np.arange(start, start + self.tile) % (2 * side) for start in (y, x))
        rows, columns = (np.minimum(places, 2 * side - 1 - places) for places in (rows, columns))
        return square[np.ix_(rows, columns)]

    def _texture(self, number: int) -> dict[str, list[NDArray[np.uint8]]]:
        """One square of tissue, (side, side, 3), and its glands, (side, side, 1), at every level."""
        from bundle.data.phantom_draw import GRADES, draw_tile

        grade, square = GRADES[number % len(GRADES)], (self.side, self.side)
        for attempt in range(4):  # some squares of the phantom lie at the edge of the tissue, and are half empty
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
        """The cells that the tile at ``x``, ``y`` of a level may see, and the squares of tissue in them."""
        rows, columns = (self._places(start, level)[[0, -1]] for start in (y, x))
        top, left = (max(int(places[0]), 0) for places in (rows, columns))
        part = (slice(top, int(rows[1]) + 2), slice(left, int(columns[1]) + 2))
        return self.field[part], np.unique(self.islands[part])

    def _places(self, start: int, level: int) -> NDArray[np.float64]:
        """Where a tile's rows or columns lie on the map of islands, cells; 0 is the center of the first."""
        places = (np.arange(start, start + self.tile) + 0.5) * 2**level / self.cell - 0.5
        return np.clip(places, 0, CELLS)


def _islands(
    size: tuple[int, int], cell: float, tissue: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Map of islands: a field (rows, columns) that is above 0 in tissue, and the number of the square shown there."""
    generator = np.random.default_rng([seed, 7])
    shape = tuple(max(int(np.ceil(length / cell)), 1) for length in reversed(size))
    coarse, fine = (ndimage.gaussian_filter(generator.normal(size=shape), CELLS / part) for part in (16, 80))
    field = coarse / max(coarse.std(), 1e-9) + 0.25 * fine / max(fine.std(), 1e-9)
    if tissue in (0, 1):
        return np.full(shape, 2.0 * tissue - 1, np.float32), np.zeros(shape, np.int32)
    rows, columns = (np.minimum(np.arange(length), np.arange(length)[::-1]) for length in shape)
    border = np.minimum(rows[:, None], columns[None]) / (0.08 * CELLS)
    field -= 4 * (1 - tissue) * np.clip(1 - border, 0, 1)  # glass around the tissue, as far as there is glass
    field -= np.quantile(field, 1 - tissue)
    numbers, count = ndimage.label(field > 0)
    nearest = ndimage.distance_transform_edt(numbers == 0, return_distances=False, return_indices=True)
    if count == 0:
        return field.astype(np.float32), np.zeros(shape, np.int32)
    return field.astype(np.float32), (numbers[tuple(nearest)] % TEXTURES).astype(np.int32)


def _bilinear(field: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[Any]:
    """Values of a field where rows and columns cross; its border goes on outside."""
    for axis, places in enumerate((rows, columns)):
        first = np.clip(places.astype(int), 0, field.shape[axis] - 1)
        weight = np.expand_dims(np.clip(places - first, 0, 1).astype(np.float32), 1 - axis)
        after = np.minimum(first + 1, field.shape[axis] - 1)
        field = (1 - weight) * field.take(first, axis) + weight * field.take(after, axis)
    return field


def _nearest(islands: NDArray[np.int32], rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.int32]:
    """Numbers of a map where rows and columns cross."""
    whole = (np.rint(places).astype(int) for places in (rows, columns))
    return islands[np.ix_(*(np.minimum(one, length - 1) for one, length in zip(whole, islands.shape, strict=True)))]


def _mean(pixels: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Means over squares of ``count`` px."""
    side = pixels.shape[0] // count
    return np.rint(pixels.reshape(side, count, side, count, -1).mean(axis=(1, 3))).astype(np.uint8)


def _deflated(pixels: NDArray[np.uint8]) -> bytes:
    return zlib.compress(pixels.tobytes(), DEFLATE)


if __name__ == "__main__":
    sys.exit(main())
