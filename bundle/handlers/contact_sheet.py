"""Contact sheet of a data list: small pictures of each part, with the contours of their masks. Pictures are HWC uint8.

It shows at a glance what figures hide: masks of another image, turned or shifted ones, an odd stain.
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
"""Contours are drawn on a picture so many times finer and then made small, so that they are smooth."""
MARGIN, GAP, HEAD, PART_HEAD, CAPTION = 20, 14, 58, 34, 40
"""Heights and distances in px: border, between pictures, title, title of a part, two lines below a picture."""


@dataclass(frozen=True)
class Tile:
    """One picture that may be shown; it is read only if it is."""

    name: str
    """First line below it."""
    read: Callable[[], tuple[NDArray[Any], NDArray[Any] | None]]
    """Gives the image, (H, W, 3) uint8 RGB, and its label, (H, W) whole numbers, or ``None`` to draw no contour."""
    detail: str = ""
    """Second line below it."""


def spread(counts: Mapping[str, int], rows: int = 4, columns: int = 6) -> dict[str, list[int]]:
    """Which images of each part to show: whole rows, evenly taken from the part.

    Args:
        counts: images of each part.
        rows: rows of the whole sheet; each part that has images gets one even so, then those that show fewest.
        columns: pictures in a row.

    Returns:
        Indices from 0, rising, by part.
    """
    given = {part: 1 for part, count in counts.items() if count}
    while sum(given.values()) < rows:
        wanting = [part for part in given if given[part] * columns < counts[part]]
        if not wanting:
            break
        given[min(wanting, key=given.__getitem__)] += 1
    answer = {}
    for part, count in given.items():
        shown = min(count * columns, counts[part])
        answer[part] = [(2 * place + 1) * counts[part] // (2 * shown) for place in range(shown)]
    return answer


def contact_sheet(
    title: str, parts: Mapping[str, Sequence[Tile]], rows: int = 4, columns: int = 6, cell: int = 240
) -> NDArray[np.uint8]:
    """Draw the sheet; at most ``rows * columns`` pictures, or a row a part.

    Args:
        title: the line on top.
        parts: name of a part -> its pictures; parts without one are left out.
        rows: rows of pictures, shared by the parts.
        columns: pictures in a row.
        cell: the longer side of a picture, px.

    Returns:
        The sheet, (H, W, 3) uint8.
    """
    chosen = spread({part: len(tiles) for part, tiles in parts.items()}, rows, columns)
    blocks = {part: _rows([parts[part][place] for place in places], columns, cell) for part, places in chosen.items()}
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
                # Empty glass is as white as paper.
                draw.rectangle((at - 1, top - 1, at + picture.shape[1], top + picture.shape[0]), outline=RULE)
                _draw_caption(draw, tile, left, top + _height(row), cell)
            top += _height(row) + CAPTION + GAP
    return np.asarray(canvas)


def with_contours(image: NDArray[np.uint8], label: NDArray[Any] | None, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The image at ``size`` = (height, width), px, with the contour of each number of its label."""
    if label is None:
        return drawing.resized(image, size)
    fine = (size[0] * FINER, size[1] * FINER)
    how = Image.Resampling.NEAREST
    numbers = np.asarray(Image.fromarray(label.astype(np.int32)).resize(fine[::-1], how))
    picture = drawing.resized(image, fine).copy()
    picture[ndimage.binary_dilation(find_boundaries(numbers, mode="thick"))] = CONTOUR
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
    """Text that is not wider than ``width`` px: the middle goes first, as names differ at their ends."""
    return next(option for option in _shorter(text) if draw.textlength(option, font) <= width or len(option) <= 4)


def _shorter(text: str) -> Iterator[str]:
    yield text
    for kept in range(len(text) - 4, 0, -1):
        yield f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    yield ""
