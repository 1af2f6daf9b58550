"""Places on a slide: around what is outlined, and on tissue."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bundle.inference.slides import Box, Scale, Slide, Tissue, find_tissue, open_slide
from bundle.inference.slides.planning import working_box
from bundle.inference.slides.upsampling import native_box

LARGEST = 1024
"""Side of the largest tile, working px."""
LEAST_TISSUE = 0.5
"""Share of a place that must be tissue."""
ATTEMPTS = 5000
"""Places that are tried."""
FINEST = 1.0
"""How far the band around an outline may be from its true place, px of level 0, at most."""

Place = tuple[int, int, int, int]
"""(x, y, width, height) in px of level 0."""


def known_shapes(fields: Sequence[Any], glands: Sequence[Any], reach: float) -> list[Any]:
    """What is known of a slide, as shapes in px of level 0.

    Args:
        fields: polygons in which all is known; outside of them nothing is, of the glands that they touch.
        glands: polygons of the glands. Those that are nearer to each other than ``reach`` belong together.
        reach: how far around other glands all is known, px.

    Returns:
        One shape for each field, or several that touch, and one for each group of glands that touch no field.
    """
    whole_fields = shapely.get_parts(shapely.union_all(list(fields))).tolist() if fields else []
    free = np.array([gland for gland in glands if not any(gland.intersects(one) for one in whole_fields)], object)
    if not len(free):
        return whole_fields
    near = shapely.STRtree(free).query(free, predicate="dwithin", distance=reach)
    graph = coo_array((np.ones(near.shape[1], bool), tuple(near)), shape=(len(free), len(free)))
    count, groups = connected_components(graph, directed=False)
    around = shapely.buffer(shapely.simplify(free, min(reach / 20, FINEST)), reach)
    return whole_fields + [shapely.union_all(around[groups == group]) for group in range(count)]


def tile_boxes(known: Sequence[Any], scale: Scale, side: int | None) -> list[Box]:
    """Boxes of tiles that show what is known.

    Args:
        known: shapes, px of level 0; what lies beside the slide is left out.
        scale: of the slide.
        side: least length of a tile, working px; ``None`` cuts tiles down to what is known.

    Returns:
        Boxes in working px, inside of the slide, from top to bottom; none lies in another.
    """
    found: list[Box] = []
    for shape in known:
        box = _around(shape, scale)
        for piece in [] if box is None else _pieces(_grown(box, side or 1, scale)):
            part = shapely.intersection(shape, shapely.box(*native_box(piece, scale)))
            fitting = piece if side else _around(part, scale)
            if fitting is not None and part.area > 0:
                found.append(fitting)
    found.sort(key=lambda box: (box.y0, box.x0))
    return [box for place, box in enumerate(found) if not _is_covered(box, found[:place], found[place + 1 :])]


def _is_covered(box: Box, before: Sequence[Box], after: Sequence[Box]) -> bool:
    """Whether a box lies in another; of equal ones the first stays."""

    def holds(other: Box) -> bool:
        return other.x0 <= box.x0 and other.y0 <= box.y0 and other.x1 >= box.x1 and other.y1 >= box.y1

    return any(holds(other) for other in before) or any(holds(other) and other != box for other in after)


def _around(shape: shapely.Geometry, scale: Scale) -> Box | None:
    """The working px of a shape's bounds on the slide; ``None`` where it lies beside it."""
    if shape.is_empty:
        return None
    low, high = np.floor(shape.bounds[:2]).astype(int), np.ceil(shape.bounds[2:]).astype(int)
    x0, y0 = np.maximum(low, 0).tolist()
    x1, y1 = np.minimum(high, scale.size).tolist()
    return working_box(Box(x0, y0, x1, y1), scale) if x0 < x1 and y0 < y1 else None


def _grown(box: Box, side: int, scale: Scale) -> Box:
    """A box of at least ``side`` px about the same center, as far as the slide goes."""
    edges = []
    for low, high, size in zip(box[:2], box[2:], scale.working_size, strict=True):
        length = min(max(high - low, side), size)
        start = min(max((low + high - length) // 2, 0), size - length)
        edges.append((start, start + length))
    return Box(edges[0][0], edges[1][0], edges[0][1], edges[1][1])


def _pieces(box: Box) -> Iterator[Box]:
    """A box cut into equal parts that are not too large."""
    across, down = (
        np.linspace(low, high, -(-(high - low) // LARGEST) + 1).round().astype(int).tolist()
        for low, high in ((box.x0, box.x1), (box.y0, box.y1))
    )
    for y0, y1 in pairwise(down):
        for x0, x1 in pairwise(across):
            yield Box(x0, y0, x1, y1)


def tissue_of(slide: Slide, scale: Scale) -> Tissue:
    """The tissue of a slide as inference finds it, but for the margin of glass that inference adds.

    It is looked for once as long as the file stays the same.
    """
    return _tissue_of_file(*state_of(slide.path), scale)


def state_of(path: Path) -> tuple[str, int, int]:
    """What tells a file from all others: its place, size and time of change."""
    state = path.stat()
    return str(path.resolve()), state.st_size, state.st_mtime_ns


def spots(
    tissue: Tissue, slide: Slide, size: tuple[int, int], count: int, avoid: Sequence[Sequence[int]], seed: int
) -> list[Place]:
    """Places on tissue that overlap neither each other nor what is to be avoided.

    Args:
        tissue: of the whole slide.
        slide: by its name and the seed the places are drawn.
        size: (width, height) of a place, px of level 0; cut to that of the slide.
        count: how many; there may be fewer.
        avoid: boxes (x, y, width, height), px of level 0.
        seed: of the places.
    """
    generator = np.random.default_rng([seed, zlib.crc32(slide.path.name.encode())])
    cell = tissue.cell / tissue.scale.mpp
    cells = generator.permutation(np.argwhere(tissue.mask))[:ATTEMPTS]
    width, height = min(size[0], slide.size[0]), min(size[1], slide.size[1])
    found: list[Place] = []
    for row, column in cells.tolist():
        if len(found) >= count:
            break
        x = min(max(round((column + 0.5) * cell - width / 2), 0), slide.size[0] - width)
        y = min(max(round((row + 0.5) * cell - height / 2), 0), slide.size[1] - height)
        place = (x, y, width, height)
        if not any(_overlap(place, other) for other in (*avoid, *found)) and _share(tissue, place) >= LEAST_TISSUE:
            found.append(place)
    return found


@lru_cache(maxsize=16)
def _tissue_of_file(path: str, size: int, changed: int, scale: Scale) -> Tissue:
    with open_slide(path) as slide:
        return find_tissue(slide, scale, margin=0.0)


def _overlap(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether two boxes (x, y, width, height) share a pixel."""
    return all(one[axis] < other[axis] + other[axis + 2] and other[axis] < one[axis] + one[axis + 2] for axis in (0, 1))


def _share(tissue: Tissue, place: Place) -> float:
    """Share of the cells of a place that are tissue."""
    cell = tissue.cell / tissue.scale.mpp
    x, y, width, height = place
    rows = slice(int(y / cell), int(np.ceil((y + height) / cell)))
    columns = slice(int(x / cell), int(np.ceil((x + width) / cell)))
    return float(tissue.mask[rows, columns].mean())
