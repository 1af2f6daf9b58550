"""Positions of tiles on a slide: around outlines, and on tissue."""

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

from bundle.slides import Box, Scale, Slide, Tissue, find_tissue, open_slide
from bundle.slides.region_selection import working_box
from bundle.slides.upsampling import native_box

LARGEST = 1024
"""Maximum side of a tile, working px."""
LEAST_TISSUE = 0.5
"""Minimum share of tissue in a box."""
ATTEMPTS = 5000
"""Maximum number of positions to try."""
FINEST = 1.0
"""Maximum error of the band around an outline, px of level 0."""

Place = tuple[int, int, int, int]
"""(x, y, width, height) in px of level 0."""


def known_shapes(fields: Sequence[Any], glands: Sequence[Any], reach: float) -> list[Any]:
    """Return the known areas of a slide as shapes in px of level 0.

    Args:
        fields: polygons of fully annotated areas; glands that touch them have no band outside.
        glands: polygons of the glands; those closer than ``reach`` form a group.
        reach: width of the known band around other glands, px.

    Returns:
        One shape for each field, or for several touching ones, and one for each group of glands that touch no field.
    """
    whole_fields = shapely.get_parts(shapely.union_all(list(fields))).tolist() if fields else []
    free = np.array([gland for gland in glands if not any(gland.intersects(field) for field in whole_fields)], object)
    if not len(free):
        return whole_fields
    near = shapely.STRtree(free).query(free, predicate="dwithin", distance=reach)
    graph = coo_array((np.ones(near.shape[1], bool), tuple(near)), shape=(len(free), len(free)))
    count, groups = connected_components(graph, directed=False)
    around = shapely.buffer(shapely.simplify(free, min(reach / 20, FINEST)), reach)
    return whole_fields + [shapely.union_all(around[groups == group]) for group in range(count)]


def tile_boxes(known: Sequence[Any], scale: Scale, side: int | None) -> list[Box]:
    """Return the boxes of tiles that show the known areas.

    Args:
        known: shapes, px of level 0; parts outside the slide are ignored.
        scale: scale of the slide.
        side: minimum side of a tile, working px; with ``None`` tiles are cropped to the known area.

    Returns:
        Boxes in working px, inside the slide, from top to bottom; none contains another.
    """
    boxes: list[Box] = []
    for shape in known:
        box = _around(shape, scale)
        for piece in [] if box is None else _pieces(_grown(box, side or 1, scale)):
            part = shapely.intersection(shape, shapely.box(*native_box(piece, scale)))
            fitting = piece if side else _around(part, scale)
            if fitting is not None and part.area > 0:
                boxes.append(fitting)
    boxes.sort(key=lambda box: (box.y0, box.x0))
    return [box for index, box in enumerate(boxes) if not _is_covered(box, boxes[:index], boxes[index + 1 :])]


def _is_covered(box: Box, before: Sequence[Box], after: Sequence[Box]) -> bool:
    """Return whether another box contains this one; the first of equal boxes is kept."""

    def holds(other: Box) -> bool:
        return other.x0 <= box.x0 and other.y0 <= box.y0 and other.x1 >= box.x1 and other.y1 >= box.y1

    return any(holds(other) for other in before) or any(holds(other) and other != box for other in after)


def _around(shape: shapely.Geometry, scale: Scale) -> Box | None:
    """Return the bounding box of a shape in working px, clipped to the slide; ``None`` if it is outside."""
    if shape.is_empty:
        return None
    low, high = np.floor(shape.bounds[:2]).astype(int), np.ceil(shape.bounds[2:]).astype(int)
    x0, y0 = np.maximum(low, 0).tolist()
    x1, y1 = np.minimum(high, scale.size).tolist()
    return working_box(Box(x0, y0, x1, y1), scale) if x0 < x1 and y0 < y1 else None


def _grown(box: Box, side: int, scale: Scale) -> Box:
    """Grow a box to at least ``side`` px around its center, inside the slide."""
    edges = []
    for low, high, size in zip(box[:2], box[2:], scale.working_size, strict=True):
        length = min(max(high - low, side), size)
        start = min(max((low + high - length) // 2, 0), size - length)
        edges.append((start, start + length))
    return Box(edges[0][0], edges[1][0], edges[0][1], edges[1][1])


def _pieces(box: Box) -> Iterator[Box]:
    """Split a box into equal parts of at most ``LARGEST`` px per side."""
    across, down = (
        np.linspace(low, high, -(-(high - low) // LARGEST) + 1).round().astype(int).tolist()
        for low, high in ((box.x0, box.x1), (box.y0, box.y1))
    )
    for y0, y1 in pairwise(down):
        for x0, x1 in pairwise(across):
            yield Box(x0, y0, x1, y1)


def tissue_of(slide: Slide, scale: Scale) -> Tissue:
    """Return the tissue of a slide as in inference, but without the margin of glass that inference adds.

    The result is cached as long as the file is unchanged.
    """
    return _tissue_of_file(*state_of(slide.path), scale)


def state_of(path: Path) -> tuple[str, int, int]:
    """Return path, size and modification time of a file, which identify its content."""
    state = path.stat()
    return str(path.resolve()), state.st_size, state.st_mtime_ns


def spots(
    tissue: Tissue, slide: Slide, size: tuple[int, int], count: int, avoid: Sequence[Sequence[int]], seed: int
) -> list[Place]:
    """Draw random boxes on tissue that overlap neither each other nor the boxes to avoid.

    Args:
        tissue: tissue of the whole slide.
        slide: the slide; its name and the seed determine the positions.
        size: (width, height) of a box, px of level 0; at most that of the slide.
        count: number of boxes; there may be fewer.
        avoid: boxes (x, y, width, height), px of level 0.
        seed: seed of the positions.
    """
    generator = np.random.default_rng([seed, zlib.crc32(slide.path.name.encode())])
    cell = tissue.cell / tissue.scale.mpp
    cells = generator.permutation(np.argwhere(tissue.mask))[:ATTEMPTS]
    width, height = min(size[0], slide.size[0]), min(size[1], slide.size[1])
    boxes: list[Place] = []
    for row, column in cells.tolist():
        if len(boxes) >= count:
            break
        x = min(max(round((column + 0.5) * cell - width / 2), 0), slide.size[0] - width)
        y = min(max(round((row + 0.5) * cell - height / 2), 0), slide.size[1] - height)
        box = (x, y, width, height)
        if not any(_overlap(box, other) for other in (*avoid, *boxes)) and _share(tissue, box) >= LEAST_TISSUE:
            boxes.append(box)
    return boxes


@lru_cache(maxsize=16)
def _tissue_of_file(path: str, size: int, changed: int, scale: Scale) -> Tissue:
    with open_slide(path) as slide:
        return find_tissue(slide, scale, margin=0.0)


def _overlap(a: Sequence[int], b: Sequence[int]) -> bool:
    """Return whether two boxes (x, y, width, height) overlap."""
    return all(a[axis] < b[axis] + b[axis + 2] and b[axis] < a[axis] + a[axis + 2] for axis in (0, 1))


def _share(tissue: Tissue, box: Place) -> float:
    """Return the share of tissue cells in a box."""
    cell = tissue.cell / tissue.scale.mpp
    x, y, width, height = box
    rows = slice(int(y / cell), int(np.ceil((y + height) / cell)))
    columns = slice(int(x / cell), int(np.ceil((x + width) / cell)))
    return float(tissue.mask[rows, columns].mean())
