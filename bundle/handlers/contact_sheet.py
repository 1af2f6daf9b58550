"""Contact sheet of a data list: thumbnails of each part with the contours of their masks, as (H, W, 3) uint8.

It shows errors that numbers do not show: masks of another image, rotated or shifted masks, unusual stains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.segmentation import find_boundaries

from bundle.handlers import drawing

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

CONTOUR: drawing.Color = drawing.TRUTH
RULE: drawing.Color = (224, 224, 228)
FINER = 2
"""Oversampling factor: contours are drawn on a larger picture, which is then resized, so that they are smooth."""
MARGIN, GAP, HEAD, PART_HEAD, CAPTION = 20, 14, 58, 34, 40
"""Heights and distances in px: border, between pictures, title, title of a part, two lines below a picture."""


@dataclass(frozen=True)
class Tile:
    """One image of the data list; it is read only if it is shown."""

    name: str
    """First line below the picture."""
    read: Callable[[], tuple[NDArray[Any], NDArray[Any] | None]]
    """Returns the image, (H, W, 3) uint8 RGB, and its label, (H, W) integers, or ``None`` to draw no contour."""
    detail: str = ""
    """Second line below the picture."""


def spread(counts: Mapping[str, int], rows: int = 4, columns: int = 6) -> dict[str, list[int]]:
    """Select the images of each part to show: full rows, evenly spaced in the part.

    Args:
        counts: number of images of each part.
        rows: rows of the whole sheet. Each part with images gets at least one; further rows go to the parts with the
            fewest rows.
        columns: pictures per row.

    Returns:
        Part -> indices from 0, ascending.
    """
    rows_of = {part: 1 for part, count in counts.items() if count}
    while sum(rows_of.values()) < rows:
        incomplete = [part for part in rows_of if rows_of[part] * columns < counts[part]]
        if not incomplete:
            break
        rows_of[min(incomplete, key=rows_of.__getitem__)] += 1
    indices = {}
    for part, row_count in rows_of.items():
        shown = min(row_count * columns, counts[part])
        indices[part] = [(2 * index + 1) * counts[part] // (2 * shown) for index in range(shown)]
    return indices


def contact_sheet(
    title: str, parts: Mapping[str, Sequence[Tile]], rows: int = 4, columns: int = 6, cell: int = 240
) -> NDArray[np.uint8]:
    """Draw the sheet with at most ``rows * columns`` pictures, or one row per part.

    Args:
        title: first line of the sheet.
        parts: name of a part -> its images; empty parts are left out.
        rows: total number of rows, shared by the parts.
        columns: pictures per row.
        cell: longer side of a picture, px.

    Returns:
        The sheet, (H, W, 3) uint8.
    """
    chosen = spread({part: len(tiles) for part, tiles in parts.items()}, rows, columns)
    blocks = {part: _rows([parts[part][index] for index in indices], columns, cell) for part, indices in chosen.items()}
    width = 2 * MARGIN + columns * cell + (columns - 1) * GAP
    heights = [PART_HEAD + sum(_height(row) + CAPTION + GAP for row in block) for block in blocks.values()]
    height = HEAD + MARGIN + sum(heights)
    canvas = Image.new("RGB", (width, height), drawing.PAPER)
    draw = ImageDraw.Draw(canvas)
    _draw_title(draw, title, width)
    top = HEAD
    for part, block in blocks.items():
        _draw_part(draw, part, f"{len(chosen[part])} of {len(parts[part])} images", top, width)
        top += PART_HEAD
        for row in block:
            for column, (tile, picture) in enumerate(row):
                left = MARGIN + column * (cell + GAP)
                at = left + (cell - picture.shape[1]) // 2
                canvas.paste(Image.fromarray(picture), (at, top))
                # frame the picture, because empty glass is as white as the sheet
                draw.rectangle((at - 1, top - 1, at + picture.shape[1], top + picture.shape[0]), outline=RULE)
                _draw_caption(draw, tile, left, top + _height(row), cell)
            top += _height(row) + CAPTION + GAP
    return np.asarray(canvas)


def with_contours(image: NDArray[np.uint8], label: NDArray[Any] | None, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the image resized to ``size`` = (height, width) px, with the contour of each object of its label."""
    if label is None:
        return drawing.resized(image, size)
    fine = (size[0] * FINER, size[1] * FINER)
    objects = np.asarray(Image.fromarray(label.astype(np.int32)).resize(fine[::-1], Image.Resampling.NEAREST))
    picture = drawing.resized(image, fine).copy()
    picture[ndimage.binary_dilation(find_boundaries(objects, mode="thick"))] = CONTOUR
    return drawing.resized(picture, size)


def _rows(tiles: Sequence[Tile], columns: int, cell: int) -> list[list[tuple[Tile, NDArray[np.uint8]]]]:
    pictures = [(tile, _picture(tile, cell)) for tile in tiles]
    return [pictures[start : start + columns] for start in range(0, len(pictures), columns)]


def _picture(tile: Tile, cell: int) -> NDArray[np.uint8]:
    image, label = tile.read()
    height, width = image.shape[:2]
    scale = cell / max(height, width)
    return with_contours(image, label, (max(round(height * scale), 1), max(round(width * scale), 1)))


def _height(row: Sequence[tuple[Tile, NDArray[np.uint8]]]) -> int:
    return max(picture.shape[0] for _, picture in row)


def _draw_title(draw: ImageDraw.ImageDraw, title: str, width: int) -> None:
    large, small = ImageFont.load_default(size=20), ImageFont.load_default(size=13)
    key = "contour of the mask"
    left = width - MARGIN - draw.textlength(key, small)
    draw.text((left, HEAD / 2), key, drawing.PALE, small, anchor="lm")
    draw.rectangle((left - 30, HEAD / 2 - 2, left - 10, HEAD / 2 + 2), fill=CONTOUR)
    draw.text((MARGIN, HEAD / 2), _cut(draw, title, large, left - 60), drawing.INK, large, anchor="lm")


def _draw_part(draw: ImageDraw.ImageDraw, part: str, note: str, top: int, width: int) -> None:
    draw.line((MARGIN, top, width - MARGIN, top), fill=RULE)
    large, small = ImageFont.load_default(size=16), ImageFont.load_default(size=13)
    middle = top + PART_HEAD / 2
    draw.text((MARGIN, middle), part, drawing.INK, large, anchor="lm")
    draw.text((MARGIN + draw.textlength(part, large) + 12, middle + 1), note, drawing.PALE, small, anchor="lm")


def _draw_caption(draw: ImageDraw.ImageDraw, tile: Tile, left: int, top: int, cell: int) -> None:
    name, detail = ImageFont.load_default(size=13), ImageFont.load_default(size=12)
    draw.text((left, top + 12), _cut(draw, tile.name, name, cell), drawing.INK, name, anchor="lm")
    draw.text((left, top + 28), _cut(draw, tile.detail, detail, cell), drawing.PALE, detail, anchor="lm")


def _cut(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    """Shorten a text to at most ``width`` px; the middle is removed first, because names differ at their ends."""
    return next(option for option in _shorter(text) if draw.textlength(option, font) <= width or len(option) <= 4)


def _shorter(text: str) -> Iterator[str]:
    yield text
    for length in range(len(text) - 4, 0, -1):
        yield f"{text[: (length + 1) // 2]}...{text[len(text) - length // 2 :]}"
    yield ""
