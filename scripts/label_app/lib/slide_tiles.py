"""Tiles of whole slides: around what somebody outlined, of tissue that nobody outlined, and where to outline next.

Boxes are (x, y, width, height) in px of level 0. Tiles are PNG files at the working resolution, in the pixels that
inference sees there. A file is named by a digest of what it shows, so that nothing is cut twice.
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
from lib.slide_places import Place, known_shapes, spots, state_of, tile_boxes, tissue_of
from numpy.typing import NDArray
from PIL import Image

from bundle.annotation import Annotation, draw_classes, draw_instances
from bundle.engines.files import whole
from bundle.inference.slides import Box, Scale, Slide, Tissue, open_slide, read_working, scale_of
from bundle.inference.slides.planning import working_box
from bundle.inference.slides.upsampling import native_box

MARGIN = 10.0
"""um around an outline in which its author must have seen what else is there; as in the sparse annotations."""
REGION = "region"
"""Name of an outline, in any case, in which all is outlined; it is no gland itself."""
OURS = re.compile(r".*_[0-9a-f]{16}(_label)?\.png|\..*\.partial(\.png)?")
"""Names of files that are made here, the last of them by programs that were killed."""

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
    """Cut the tiles that somebody outlined.

    Known is what lies in an outline called Region; elsewhere, what lies within the margin of an outline. Outlines
    nearer to each other than the margin give tiles together. A Region gives tiles of its own, with or without glands.

    Args:
        slide_path: the slide.
        annotations: what is outlined, px of level 0.
        folder: where the files go.
        pixel_size: working resolution, um/px.
        side: of a training crop, working px; with ``unknown``, tiles are at least so large.
        mpp: um/px of level 0; ``None`` believes the slide.
        margin: um.
        numbers: of the classes by name; ``None`` numbers the outlines: two classes.
        unknown: what labels hold where nothing is known, above all numbers in use. ``None``, since the bundle's reader
            has no such number by itself: tiles are cut down to the box around what is known, and all else in it is
            background; so a Region had better be a rectangle.

    Returns:
        Records of ``image``, ``label``, ``mpp`` and ``box``.

    Raises:
        SlideError: where the slide cannot be read.
        ValueError: for an outline that is called like no class, or a number that cannot stand for unknown.
    """
    fields = [one.shape for one in annotations if _is_region(one)]
    glands = [one for one in annotations if not _is_region(one)]
    records = []
    with open_slide(slide_path) as slide:
        scale = scale_of(slide, pixel_size, mpp)
        known = known_shapes(fields, [one.shape for one in glands], margin / scale.mpp)
        for box in tile_boxes(known, scale, None if unknown is None else side):
            area = shapely.box(*native_box(box, scale))
            here = [one for one in glands if one.shape.intersects(area)]
            shapes = [shape for shape in known if shape.intersects(area)]
            if unknown is not None and not here and not any(shape.covers(area) for shape in shapes):
                continue  # metrics refuse a label of unknown pixels and none of a gland
            image, name = _image(slide, scale, box, Path(folder))
            wanted = [*((one.name, one.shape.wkb) for one in here), *(shape.wkb for shape in shapes), numbers, unknown]
            label = Path(folder) / f"{name}_{_digest(wanted)}_label.png"
            if not label.is_file():
                pixels = _drawn(here, (box.width, box.height), numbers, _corner(box, scale), scale.ratio)
                if unknown is not None:
                    pixels = _forgotten(pixels, shapes, unknown, box, scale)
                _write(pixels, label)
            record = {"image": str(image), "label": str(label), "mpp": pixel_size, "box": _place(box, scale)}
            records.append(record)
    if annotations and not records:
        logger.warning("%s: none of its %d outlines lies on the slide.", slide_path, len(annotations))
    return records


def label_file(
    annotations: Sequence[Annotation],
    size: tuple[int, int],
    folder: str | os.PathLike[str],
    name: str,
    numbers: Mapping[str, int] | None = None,
) -> Path:
    """Draw the label of a whole picture, unless it is there.

    Args:
        annotations: what is outlined, px of the picture; a Region is left out.
        size: (width, height) of the picture, px.
        folder: where the file goes.
        name: of the file, without its ending; ends in ``_`` and a digest of 16 letters that tells what it shows.
        numbers: of the classes by name; ``None`` numbers the outlines.
    """
    place = Path(folder) / f"{name}.png"
    if not place.is_file():
        _write(_drawn([one for one in annotations if not _is_region(one)], size, numbers), place)
    return place


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
    """Cut tiles of tissue that overlap neither each other nor what is to be avoided.

    Args:
        slide_path: the slide; with the seed its name decides the places.
        folder: where the files go.
        pixel_size: working resolution, um/px.
        side: of a tile, working px.
        count: how many; fewer where there is less tissue.
        seed: of the places.
        mpp: um/px of level 0; ``None`` believes the slide.
        avoid: boxes, as the records of labeled tiles have them.

    Returns:
        Records of ``image``, ``mpp`` and ``box``.

    Raises:
        SlideError: where the slide cannot be read.
    """
    records = []
    with open_slide(slide_path) as slide:
        scale = scale_of(slide, pixel_size, mpp)
        length = side if scale.is_native else math.ceil((side + 1) * scale.ratio)  # a working pixel to spare
        for place in spots(tissue_of(slide, scale), slide, (length, length), count, avoid, seed):
            (x0, x1), (y0, y1) = (
                _within(low, side, scale.ratio, size) for low, size in zip(place[:2], scale.working_size, strict=True)
            )
            box = Box(x0, y0, x1, y1)
            image, _ = _image(slide, scale, box, Path(folder))
            records.append({"image": str(image), "mpp": pixel_size, "box": _place(box, scale)})
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
    """Choose the part of a slide to outline next.

    Args:
        slide_path: the slide.
        size: (width, height) of the part, px of level 0; cut to that of the slide.
        taken: boxes that are outlined already; avoided as long as there is other tissue.
        score: of pixels (H, W, 3) uint8 RGB at the working resolution; the highest wins. ``None`` takes any.
        count: how many places are scored.
        seed: of these places, with the name of the slide.
        pixel_size: working resolution, um/px.
        mpp: um/px of level 0; ``None`` believes the slide.

    Raises:
        SlideError: where the slide cannot be read.
    """
    with open_slide(slide_path) as slide:
        scale = scale_of(slide, pixel_size, mpp)
        tissue = tissue_of(slide, scale)
        wanted = 1 if score is None else max(count, 1)
        everywhere = Tissue(np.ones_like(tissue.mask), tissue.cell, scale)
        for area, others in ((tissue, taken), (tissue, ()), (everywhere, taken), (everywhere, ())):
            places = spots(area, slide, size, wanted, others, seed)
            if places:
                break
        if score is None or len(places) == 1:
            return places[0]
        boxes = [working_box(Box(x, y, x + width, y + height), scale) for x, y, width, height in places]
        scores = [score(read_working(slide, scale, *box)) for box in boxes]
    return places[int(np.argmax(scores))]


def tidy(folder: str | os.PathLike[str], keep: Collection[str | os.PathLike[str]]) -> None:
    """Remove the files that were made here for earlier trainings.

    Args:
        folder: of the files; others in it stay.
        keep: those that are still used; they may lie elsewhere.
    """
    kept = {Path(path).resolve() for path in keep}
    for path in Path(folder).glob("*"):
        if OURS.fullmatch(path.name) and path.is_file() and path.resolve() not in kept:
            path.unlink(missing_ok=True)


def _is_region(annotation: Annotation) -> bool:
    return annotation.name.strip().casefold() == REGION


def _place(box: Box, scale: Scale) -> Place:
    """A box of working px in px of level 0."""
    native = native_box(box, scale)
    return native.x0, native.y0, native.width, native.height


def _within(low: int, side: int, ratio: float, size: int) -> tuple[int, int]:
    """The working px that begin at or after a px of level 0, as many as are wanted and the slide has."""
    start = max(min(math.ceil(low / ratio - 1e-9), size - side), 0)
    return start, min(start + side, size)


def _image(slide: Slide, scale: Scale, box: Box, folder: Path) -> tuple[Path, str]:
    """The file of a tile, cut unless it is there; and its name, without the ending."""
    name = f"{slide.path.stem}_{_digest([*state_of(slide.path), scale, *box])}"
    place = folder / f"{name}.png"
    if not place.is_file():
        _write(read_working(slide, scale, *box), place)
    return place, name


def _drawn(
    glands: Sequence[Annotation],
    size: tuple[int, int],
    numbers: Mapping[str, int] | None,
    offset: tuple[float, float] = (0, 0),
    scale: float = 1.0,
) -> NDArray[Any]:
    """The label (H, W): class indices, or a number for each gland."""
    if numbers is None:
        return draw_instances(glands, size, offset, scale)
    return draw_classes(glands, size, numbers, offset, scale)


def _forgotten(
    label: NDArray[Any], known: Sequence[shapely.Geometry], unknown: int, box: Box, scale: Scale
) -> NDArray[Any]:
    """A label (H, W) that holds ``unknown`` where nothing is known."""
    if not label.max() < unknown <= np.iinfo(label.dtype).max:
        raise ValueError(
            f"{unknown} cannot stand for unknown in a label of {label.dtype} whose numbers go up to {label.max()}; "
            "give 65535 where glands are numbered, and 255 for classes"
        )
    shapes = [Annotation("", shape) for shape in known]
    shown = draw_instances(shapes, (box.width, box.height), _corner(box, scale), scale.ratio)
    return np.where(shown > 0, label, label.dtype.type(unknown))


def _corner(box: Box, scale: Scale) -> tuple[float, float]:
    """Upper left corner of a tile, px of level 0: working pixel ``i`` is centerd on that of number ``i * ratio``."""
    return (box.x0 - 0.5) * scale.ratio + 0.5, (box.y0 - 0.5) * scale.ratio + 0.5


def _digest(content: Sequence[Any]) -> str:
    """16 letters that tell one content from another."""
    return hashlib.sha256(repr(content).encode()).hexdigest()[:16]


def _write(pixels: NDArray[Any], place: Path) -> None:
    """Write a picture, whole or not at all."""
    with whole(place, ".png") as partial:
        Image.fromarray(pixels).save(partial)
