"""Tiles of whole slides: labeled tiles, unlabeled tissue tiles, and the next region to label.

Boxes are (x, y, width, height) in px of level 0. Tiles are PNG files at the working resolution, with the same pixels as
in inference. File names contain a digest of their content, so that no tile is cut twice.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from lib.annotation import Annotation, draw_classes, draw_instances
from lib.tile_positions import Place, known_shapes, spots, state_of, tile_boxes, tissue_of
from numpy.typing import NDArray
from PIL import Image

from bundle.slides import Box, Scale, Slide, Tissue, open_slide, read_working, scale_of
from bundle.slides.region_selection import working_box
from bundle.slides.upsampling import native_box
from bundle.utils import atomic_path

MARGIN = 10.0
"""Width of the band around an outline that is assumed to be fully annotated, um; as in the sparse annotations."""
REGION = "region"
"""Name of an outline, in any case, of a fully annotated area; it is not a gland."""
OURS = re.compile(r".*_[0-9a-f]{16}(_label)?\.png|\..*\.partial(\.png)?")
"""Names of the files of this module, including partial files of killed processes."""

Record = dict[str, Any]

logger = logging.getLogger(__name__)


def labeled_tiles(
    slide_path: str | os.PathLike[str],
    annotations: Sequence[Annotation],
    folder: str | os.PathLike[str],
    pixel_size: float,
    side: int,
    mpp: float | None = None,
    margin: float = MARGIN,
    numbers: Mapping[str, int] | None = None,
    unknown: int | None = None,
) -> list[Record]:
    """Cut the labeled tiles.

    Known pixels are those inside an outline called Region, and elsewhere those within the margin of an outline.
    Outlines that are closer than the margin share tiles. A Region has separate tiles, with or without glands.

    Args:
        slide_path: path of the slide.
        annotations: outlines, px of level 0.
        folder: output folder.
        pixel_size: working resolution, um/px.
        side: side of a training crop, working px; with ``unknown``, the minimum side of a tile.
        mpp: um/px of level 0; ``None`` uses the value of the slide.
        margin: width of the band around outlines, um.
        numbers: class name -> number; with ``None`` the outlines are numbered (two classes).
        unknown: label of unknown pixels, above all numbers in use. With ``None``, the default because the bundle's
            reader has no such label, tiles are cropped to the box around the known pixels, and the rest of the box is
            background; so a Region should be a rectangle.

    Returns:
        Records of ``image``, ``label``, ``mpp`` and ``box``.

    Raises:
        SlideError: if the slide cannot be read.
        ValueError: if an outline has an unknown class, or ``unknown`` is invalid.
    """
    fields = [annotation.shape for annotation in annotations if _is_region(annotation)]
    glands = [annotation for annotation in annotations if not _is_region(annotation)]
    records = []
    with open_slide(slide_path) as slide:
        scale = scale_of(slide, pixel_size, mpp)
        known = known_shapes(fields, [gland.shape for gland in glands], margin / scale.mpp)
        for box in tile_boxes(known, scale, None if unknown is None else side):
            area = shapely.box(*native_box(box, scale))
            inside = [gland for gland in glands if gland.shape.intersects(area)]
            shapes = [shape for shape in known if shape.intersects(area)]
            if unknown is not None and not inside and not any(shape.covers(area) for shape in shapes):
                continue  # metrics do not accept a label with unknown pixels and without glands
            # Files are named by their content, so unchanged tiles are not written again.
            image, name = _image(slide, scale, box, Path(folder))
            content = [*((gland.name, gland.shape.wkb) for gland in inside), *(shape.wkb for shape in shapes)]
            label = Path(folder) / f"{name}_{_digest([*content, numbers, unknown])}_label.png"
            if not label.is_file():
                pixels = _drawn(inside, (box.width, box.height), numbers, _corner(box, scale), scale.ratio)
                if unknown is not None:
                    pixels = _mark_unknown(pixels, shapes, unknown, box, scale)
                _write(pixels, label)
            record = {"image": str(image), "label": str(label), "mpp": pixel_size, "box": _native(box, scale)}
            records.append(record)
    if annotations and not records:
        logger.warning("%s: none of its %d outlines is on the slide.", slide_path, len(annotations))
    return records


def label_file(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    folder: str | os.PathLike[str],
    name: str,
    numbers: Mapping[str, int] | None = None,
) -> Path:
    """Draw the label of a whole image, unless the file exists.

    Args:
        annotations: outlines, px of the image; a Region is ignored.
        size: (width, height) of the image, px.
        folder: output folder.
        name: name of the file without extension; it ends in ``_`` and a digest of its content, 16 characters.
        numbers: class name -> number; with ``None`` the outlines are numbered.

    Returns:
        Path of the file.
    """
    path = Path(folder) / f"{name}.png"
    if not path.is_file():
        _write(_drawn([annotation for annotation in annotations if not _is_region(annotation)], size, numbers), path)
    return path


def unlabeled_tiles(
    slide_path: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    pixel_size: float,
    side: int,
    count: int,
    seed: int,
    mpp: float | None = None,
    avoid: Sequence[Sequence[int]] = (),
) -> list[Record]:
    """Cut tissue tiles that overlap neither each other nor the boxes to avoid.

    Args:
        slide_path: path of the slide; its name and the seed determine the positions.
        folder: output folder.
        pixel_size: working resolution, um/px.
        side: side of a tile, working px.
        count: number of tiles; there are fewer if there is too little tissue.
        seed: seed of the positions.
        mpp: um/px of level 0; ``None`` uses the value of the slide.
        avoid: boxes, as in the records of labeled tiles.

    Returns:
        Records of ``image``, ``mpp`` and ``box``.

    Raises:
        SlideError: if the slide cannot be read.
    """
    records = []
    with open_slide(slide_path) as slide:
        scale = scale_of(slide, pixel_size, mpp)
        length = side if scale.is_native else math.ceil((side + 1) * scale.ratio)  # one extra working pixel
        for spot in spots(tissue_of(slide, scale), slide, (length, length), count, avoid, seed):
            (x0, x1), (y0, y1) = (
                _within(low, side, scale.ratio, size) for low, size in zip(spot[:2], scale.working_size, strict=True)
            )
            box = Box(x0, y0, x1, y1)
            image, _ = _image(slide, scale, box, Path(folder))
            records.append({"image": str(image), "mpp": pixel_size, "box": _native(box, scale)})
    return records


def next_patch(
    slide_path: str | os.PathLike[str],
    size: tuple[int, int],
    taken: Sequence[Sequence[int]],
    score: Callable[[NDArray[np.uint8]], float] | None,
    count: int,
    seed: int,
    pixel_size: float,
    mpp: float | None = None,
) -> Place:
    """Select the region of a slide to label next.

    Args:
        slide_path: path of the slide.
        size: (width, height) of the region, px of level 0; at most that of the slide.
        taken: labeled boxes, avoided as long as there is other tissue.
        score: function of pixels (H, W, 3), uint8 RGB at the working resolution; the highest score is selected. With
            ``None`` the region is random.
        count: number of candidates to score.
        seed: seed of the candidates, together with the name of the slide.
        pixel_size: working resolution, um/px.
        mpp: um/px of level 0; ``None`` uses the value of the slide.

    Returns:
        (x, y, width, height), px of level 0.

    Raises:
        SlideError: if the slide cannot be read.
    """
    with open_slide(slide_path) as slide:
        scale = scale_of(slide, pixel_size, mpp)
        tissue = tissue_of(slide, scale)
        number = 1 if score is None else max(count, 1)
        everywhere = Tissue(np.ones_like(tissue.mask), tissue.cell, scale)
        for area, avoid in ((tissue, taken), (tissue, ()), (everywhere, taken), (everywhere, ())):
            candidates = spots(area, slide, size, number, avoid, seed)
            if candidates:
                break
        if score is None or len(candidates) == 1:
            return candidates[0]
        boxes = [working_box(Box(x, y, x + width, y + height), scale) for x, y, width, height in candidates]
        scores = [score(read_working(slide, scale, *box)) for box in boxes]
    return candidates[int(np.argmax(scores))]


def tidy(folder: str | os.PathLike[str], keep: Collection[str | os.PathLike[str]]) -> None:
    """Remove the files of this module that are no longer used.

    Args:
        folder: folder of the files; other files in it are kept.
        keep: paths of the files in use; they may be in other folders.
    """
    kept = {Path(path).resolve() for path in keep}
    for path in Path(folder).glob("*"):
        if OURS.fullmatch(path.name) and path.is_file() and path.resolve() not in kept:
            path.unlink(missing_ok=True)


def _is_region(annotation: Annotation) -> bool:
    return annotation.name.strip().casefold() == REGION


def _native(box: Box, scale: Scale) -> Place:
    """Convert a box from working px to px of level 0."""
    native = native_box(box, scale)
    return native.x0, native.y0, native.width, native.height


def _within(low: int, side: int, ratio: float, size: int) -> tuple[int, int]:
    """Return the range of at most ``side`` working px that starts at or after a px of level 0, inside the slide."""
    start = max(min(math.ceil(low / ratio - 1e-9), size - side), 0)
    return start, min(start + side, size)


def _image(slide: Slide, scale: Scale, box: Box, folder: Path) -> tuple[Path, str]:
    """Cut a tile, unless its file exists; return the path and the name without extension."""
    name = f"{slide.path.stem}_{_digest([*state_of(slide.path), scale, *box])}"
    path = folder / f"{name}.png"
    if not path.is_file():
        _write(read_working(slide, scale, *box), path)
    return path, name


def _drawn(
    glands: Sequence[Annotation],
    size: tuple[int, int],
    numbers: Mapping[str, int] | None,
    offset: tuple[float, float] = (0, 0),
    scale: float = 1.0,
) -> NDArray[Any]:
    """Draw the label (H, W): class indices, or a number for each gland."""
    if numbers is None:
        return draw_instances(glands, size, offset, scale)
    return draw_classes(glands, size, numbers, offset, scale)


def _mark_unknown(
    label: NDArray[Any], known: Sequence[shapely.Geometry], unknown: int, box: Box, scale: Scale
) -> NDArray[Any]:
    """Set the unknown pixels of a label (H, W) to ``unknown``."""
    if not label.max() < unknown <= np.iinfo(label.dtype).max:
        raise ValueError(
            f"{unknown} cannot mark unknown pixels in a {label.dtype} label with values up to {label.max()}; "
            "use 65535 for numbered glands and 255 for classes"
        )
    shapes = [Annotation("", shape) for shape in known]
    mask = draw_instances(shapes, (box.width, box.height), _corner(box, scale), scale.ratio) > 0
    return np.where(mask, label, label.dtype.type(unknown))


def _corner(box: Box, scale: Scale) -> tuple[float, float]:
    """Return the upper left corner of a tile, px of level 0; working pixel ``i`` has the center of ``i * ratio``."""
    return (box.x0 - 0.5) * scale.ratio + 0.5, (box.y0 - 0.5) * scale.ratio + 0.5


def _digest(content: Sequence[Any]) -> str:
    """Return a digest of the content, 16 characters."""
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _write(pixels: NDArray[Any], path: Path) -> None:
    """Write an image atomically."""
    with atomic_path(path, ".png") as partial:
        Image.fromarray(pixels).save(partial)
