"""Telling slides from pictures by name and header."""

from __future__ import annotations

import math
import os
from pathlib import Path

import tifffile

from bundle.inference.slides.reader_tiff import DAMAGE

SCANNERS = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide")
"""Endings of names that scanners alone write."""
TIFF = (".tif", ".tiff")
LARGE = 8192
"""Px: a TIFF of which a side is longer is a slide, however it is kept."""


def is_slide(path: str | os.PathLike[str]) -> bool:
    """Whether a file is to be read as a whole slide, and not wholly as a picture; no pixel is decoded.

    Args:
        path: the file. Of a TIFF the header is read: a slide is in tiles and has several levels, or is large.

    Returns:
        False for pictures, and for a TIFF that cannot be opened.
    """
    ending = Path(path).suffix.lower()
    if ending not in TIFF:
        return ending in SCANNERS
    try:
        with tifffile.TiffFile(path) as file:
            largest = max(file.series, key=lambda series: math.prod(series.levels[0].shape))
            page = largest.levels[0].pages[0].aspage()
            is_pyramid = bool(page.is_tiled) and len(largest.levels) > 1
            return is_pyramid or max(page.imagewidth, page.imagelength) > LARGE
    except DAMAGE:
        return False
