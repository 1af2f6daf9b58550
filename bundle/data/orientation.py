"""EXIF and TIFF orientation: the tag by which viewers turn a picture."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

ORIENTATION = 274
"""Number of the tag, in EXIF and TIFF."""
UPRIGHT = 1
"""EXIF orientation of a picture that is shown as stored."""
TURN: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""Function that turns pixels (H, W, ...) upright, by EXIF orientation."""
SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange height and width."""


def orientation_in(picture: ImageFile.ImageFile) -> int:
    """Return the orientation of an open picture, 1 to 8; 1 if it has none that can be read."""
    if picture.format == "TIFF":
        return valid_orientation(dict(getattr(picture, "tag_v2", {})).get(ORIENTATION))
    try:
        # The base class's method: that of PNG would decode the whole picture first.
        return valid_orientation(Image.Image.getexif(picture).get(ORIENTATION))
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return UPRIGHT  # viewers ignore a damaged tag too


def valid_orientation(tag: Any) -> int:
    """Return the value of a tag if it is an orientation, else 1."""
    return tag if isinstance(tag, int) and tag in TURN else UPRIGHT
