"""Contact sheet of a data list: thumbnails of each part with the contours of their masks, as (H, W, 3) uint8.

It shows errors that numbers do not show: masks of another image, rotated or shifted masks, unusual stains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.handlers import drawing


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
    rows_of_parts, labels = [], []
    for part, indices in spread({part: len(tiles) for part, tiles in parts.items()}, rows, columns).items():
        caption = f"{part}: {len(indices)} of {len(parts[part])} images"
        for start in range(0, len(indices), columns):
            tiles = [parts[part][index] for index in indices[start : start + columns]]
            rows_of_parts.append((caption if start == 0 else "", [thumbnail(tile, cell) for tile in tiles]))
            labels.append([f"{_cut(tile.name, cell)}\n{_cut(tile.detail, cell)}" for tile in tiles])
    title = _cut(title, columns * cell // 2)
    return drawing.sheet(title, [""] * columns, rows_of_parts, cell, (("contour of the mask", drawing.TRUTH),), labels)


def thumbnail(tile: Tile, cell: int) -> NDArray[np.uint8]:
    """Return the image with the contour of each object of its label; the longer side has ``cell`` px."""
    image, label = tile.read()
    size = drawing.fitted(image.shape, cell)
    picture = drawing.resized(image, size)
    return picture if label is None else drawing.outlined(picture, drawing.resized(label, size), drawing.TRUTH, True)


def _cut(text: str, width: int) -> str:
    """Shorten a text to about ``width`` px; the middle is removed, because names differ at their ends."""
    count = max(width // drawing.LETTER, 5)
    return text if len(text) <= count else f"{text[: count // 2 - 1]}...{text[len(text) - (count - count // 2 - 2) :]}"
