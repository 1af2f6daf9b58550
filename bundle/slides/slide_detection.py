"""Distinction of whole slides from pictures by suffix and header."""

from __future__ import annotations

import math
import os
from pathlib import Path

import tifffile

from bundle.slides.reader_openslide import DICOM_SUFFIX, dicom_series
from bundle.slides.reader_tiff import READ_ERRORS

SCANNERS = (".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".qptiff")
"""Suffixes of the formats of slide scanners."""
TIFF = (".tif", ".tiff")
LARGE = 8192
"""px; a TIFF with a longer side is read as a slide, whatever its layout."""


def is_slide(path: str | os.PathLike[str]) -> bool:
    """Return whether a file should be read as a whole slide, in parts, and not as a picture; no pixel is decoded.

    Args:
        path: path of the file. The header of a TIFF is read: a slide is tiled with several levels, or large. A DICOM
            file is a slide if OpenSlide opens it.

    Returns:
        False for pictures, and for a TIFF that cannot be opened.
    """
    suffix = Path(path).suffix.lower()
    if suffix == DICOM_SUFFIX:
        return Path(path).is_file() and dicom_series(path) is not None
    if suffix not in TIFF:
        return suffix in SCANNERS
    try:
        with tifffile.TiffFile(path) as file:
            largest = max(file.series, key=lambda series: math.prod(series.levels[0].shape))
            page = largest.levels[0].pages[0].aspage()
            is_pyramid = bool(page.is_tiled) and len(largest.levels) > 1
            return is_pyramid or max(page.imagewidth, page.imagelength) > LARGE
    except READ_ERRORS:
        return False
