"""Checks of uploads to the folder of images: names, images, labels and metadata."""

from __future__ import annotations

import errno
import logging
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tifffile
from lib.annotation import read_annotations
from lib.request_errors import BAD, TOO_LARGE, UNREADABLE, RefusalError, refusing
from lib.slide_tiles import REGION
from shapely import box

from bundle.data import picture_size, read_image, read_label
from bundle.slides import is_slide, open_slide
from bundle.slides.reader_openslide import DICOM_SUFFIX
from bundle.slides.slide_detection import SCANNERS

logger = logging.getLogger(__name__)

TILES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""File name extensions of images that are read as a whole."""
SLIDES = (*SCANNERS, DICOM_SUFFIX)
"""File name extensions of slides only; a TIFF may be either."""
IMAGES = (*TILES, *SLIDES)
OUTLINES = (".xml", ".geojson", ".json")
MASKS = (".png", ".tif", ".tiff", ".bmp")
LABELS = (*MASKS, *OUTLINES)
LARGEST = 8192 * 8192
"""Maximum number of pixels of an image that is read as a whole; a larger one must be a pyramidal slide."""
TIFFS = (".tif", ".tiff")
LARGEST_PART = 512 * 2**20
"""Maximum number of bytes of a tile or strip of a TIFF."""
LONGEST_SIDE = 2**20
"""Maximum width and height of a slide, px."""
NAME = re.compile(r"[^/\\:*?\"<>|\x00-\x1f\x7f]{1,200}")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
UNNAMED = ("", "none", "unclassified")
"""Names that viewers give to outlines without a class; if there is only one class, they belong to it."""


def ending_of(name: str, known: Sequence[str]) -> str:
    """Return the known extension of a file name, in its own case; empty if there is none."""
    return next((name[-len(ending) :] for ending in known if name.lower().endswith(ending)), "")


def is_received(path: Path) -> bool:
    """Return whether a file is a temporary file of an upload to MONAI Label."""
    real = path.resolve()
    return real.parent == Path(tempfile.gettempdir()).resolve() and real.name.startswith("tmp")


@contextmanager
def clearing(path: Any) -> Iterator[None]:
    """Remove an uploaded file if its request fails; MONAI Label removes it only after success."""
    try:
        yield
    except BaseException:
        if isinstance(path, str) and is_received(Path(path)):
            Path(path).unlink(missing_ok=True)
        raise


def check_name(name: str) -> None:
    """Check the name of an image.

    Raises:
        RefusalError: 400 if the name is invalid or would leave the folder.
    """
    if (
        not NAME.fullmatch(name)
        or len(name.encode()) > 200
        or name.startswith(".")
        or name != name.strip()
        or ".." in name
    ):
        raise RefusalError(BAD, f"{name[:80]!r} is not a valid image name; use only letters, digits, spaces, - and _")


def check_tag(tag: str) -> None:
    """Check a tag, the name of a folder of labels.

    Raises:
        RefusalError: 400 if the tag is invalid.
    """
    if not TAG.fullmatch(tag):
        raise RefusalError(BAD, f"{tag[:80]!r} is not a valid label tag; use final or original")


def check_info(info: Any, name: str) -> None:
    """Check the metadata of an image, especially its um/px and its patient.

    Raises:
        RefusalError: 400 if the metadata is invalid.
    """
    if not isinstance(info, dict) or not isinstance(info.get("strategy", {}), dict):
        raise RefusalError(BAD, f"the metadata of {name} and its entry strategy must be JSON objects")
    mpp = info.get("mpp", 1.0)
    if isinstance(mpp, bool) or not isinstance(mpp, int | float) or not 0.01 <= mpp <= 100:
        raise RefusalError(BAD, f"mpp of {name} is {str(mpp)[:40]!r}; it must be from 0.01 to 100 um/px")
    if not isinstance(info.get("patient", ""), str):
        raise RefusalError(BAD, f"patient of {name} is {str(info['patient'])[:40]}; it must be a text")


def is_slide_file(path: str | Path) -> bool:
    """Return whether a file is read as a slide.

    Raises:
        RefusalError: 422 if it is damaged.
    """
    with _naming(Path(path), Path(path).name):
        return is_slide(path)


def resolution(path: str, stored: Any, default: float | None) -> float | None:
    """Return the um/px of an image: the stored value, else ``None`` if the slide has its own, else the default."""
    if stored:
        return float(stored)
    if default is not None and is_slide_file(path):
        with _naming(Path(path), Path(path).name), open_slide(path) as slide:
            return None if slide.mpp is not None else default
    return default


def _check_tiles(path: Path) -> None:
    """Check the sizes that a TIFF declares, before memory is taken for them; a tile or strip is read as a whole.

    Raises:
        ValueError: if an image has no pixels, or too many, or a part is too large.
    """
    if path.suffix.lower() not in (*TIFFS, *SLIDES) or not _has_tiff_header(path):
        return
    with tifffile.TiffFile(path) as file:
        for page in file.pages:
            keyframe = page.keyframe
            height, width = keyframe.imagelength, keyframe.imagewidth
            if min(height, width, keyframe.samplesperpixel, keyframe.bitspersample, *keyframe.chunks) < 1:
                raise ValueError(f"{path} has {width} x {height} px, or parts without pixels; export it again")
            if max(height, width) > LONGEST_SIDE:
                raise ValueError(f"{path} has {width} x {height} px, more than any slide; export it again")
            if math.prod(keyframe.chunks) * keyframe.bitspersample > LARGEST_PART * 8:
                parts = " x ".join(map(str, keyframe.chunks))
                raise ValueError(
                    f"{path} is stored in parts of {parts} values, too many to read at once; save it tiled"
                )


def _has_tiff_header(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_image(path: Path, name: str) -> None:
    """Check that a file is a readable image or slide; images are fully decoded.

    Args:
        path: file of the image.
        name: name of the image, for the message.

    Raises:
        RefusalError: 413 if the image is too large, 422 if it cannot be read.
    """
    if not ending_of(path.name, IMAGES):
        kind = path.suffix or "a file without extension"
        raise RefusalError(UNREADABLE, f"{name}: {kind} is not supported; upload {', '.join(IMAGES)}")
    with _naming(path, name):
        _check_tiles(path)
        if is_slide(path):
            with open_slide(path) as slide:
                slide.read(len(slide.levels) - 1, 0, 0, 1, 1)
            return
        height, width = picture_size(path)
        if height * width > LARGEST:
            raise RefusalError(
                TOO_LARGE,
                f"{name} has {width} x {height} px, too many for a flat image; save it as a tiled pyramid (TIFF, SVS)",
            )
        read_image(path)


def check_label(path: Path, name: str, image: Path, classes: Sequence[str]) -> None:
    """Check that training can read a label.

    Args:
        path: uploaded file: a mask, ASAP XML or GeoJSON.
        name: name of the image, for the message.
        image: image or slide of the label.
        classes: allowed names of outlines.

    Raises:
        RefusalError: 422 if the file is invalid, a mask has another size than the image, or a class is unknown.
    """
    ending = ending_of(path.name, OUTLINES + MASKS).lower()
    if not ending:
        raise RefusalError(
            UNREADABLE,
            f"the label of {name} has {f'the extension {path.suffix}' if path.suffix else 'no extension'}; upload a "
            f"mask ({', '.join(MASKS)}) or outlines ({', '.join(OUTLINES)})",
        )
    with _naming(path, f"the label of {name}"):
        if ending in OUTLINES:
            _check_outlines(path, name, image, classes)
            return
        if is_slide(image):
            raise RefusalError(UNREADABLE, f"{name} is a slide; upload its label as outlines ({', '.join(OUTLINES)})")
        size, expected = picture_size(path), picture_size(image)
        if size != expected:
            raise RefusalError(
                UNREADABLE,
                f"the label of {name} has {size[1]} x {size[0]} px, but the image {expected[1]} x {expected[0]} px; "
                "upload the mask of this image",
            )
        read_label(path, None if len(classes) == 1 else len(classes) + 1)


def _check_outlines(path: Path, name: str, image: Path, classes: Sequence[str]) -> None:
    """Check that outlines have a known class and overlap the image."""
    known = {REGION, *(class_name.lower() for class_name in classes), *(UNNAMED if len(classes) == 1 else ())}
    if is_slide(image):
        with open_slide(image) as slide:
            width, height = slide.size
    else:
        height, width = picture_size(image)
    for annotation in read_annotations(path):
        if annotation.name.lower() not in known:
            raise RefusalError(
                UNREADABLE,
                f"the label of {name} has an outline called {annotation.name[:80]!r}; use {', '.join(classes)}, or "
                "Region for a fully annotated area",
            )
        if not annotation.shape.intersects(box(0, 0, width, height)):
            x, y = (round(value) for value in annotation.shape.bounds[:2])
            raise RefusalError(
                UNREADABLE,
                f"the label of {name} has an outline at {x}, {y}, outside the image of {width} x {height} px; "
                "upload outlines of this image, in px of its full size",
            )


@contextmanager
def _naming(path: Path, name: str) -> Iterator[None]:
    """Refuse a file that cannot be read, whatever error a library has with it, by the name of the image.

    Raises:
        RefusalError: 413 if the memory is not enough, 422 for other errors, except those of the disk.
    """
    try:
        with refusing():
            yield
    except RefusalError as error:
        raise RefusalError(error.status_code, str(error).replace(str(path), name)) from error
    except MemoryError as error:
        raise RefusalError(
            TOO_LARGE, f"{name} does not fit into the memory of the server; cut it into tiles"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        logger.info("%s is damaged", name, exc_info=True)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".").replace(str(path), "it")
        raise RefusalError(UNREADABLE, f"{name} cannot be read ({reason}); export it again") from error
