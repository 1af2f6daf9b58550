"""What may be put into the folder of images: names that stay in it, and pictures that can be read."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.refusals import BAD, TOO_LARGE, UNREADABLE, RefusalError, refusing
from lib.slide_tiles import REGION
from shapely import box

from bundle.annotation import read_annotations
from bundle.data import picture_size, read_image, read_label
from bundle.inference.slides import is_slide, open_slide
from bundle.inference.slides.kinds import SCANNERS

TILES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""Endings of pictures that are read at once."""
SLIDES = SCANNERS
"""Endings that only scanners write; TIFF may be either."""
OUTLINES = (".xml", ".geojson", ".json")
MASKS = (".png", ".tif", ".tiff", ".bmp")
LARGEST = 8192 * 8192
"""Pixels of a picture that is read at once; a larger one is a slide, and must be a pyramid."""
NAME = re.compile(r"[^/\\:*?\"<>|\x00-\x1f\x7f]{1,200}")
TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
UNNAMED = ("", "none", "unclassified")
"""What viewers call outlines without a class; where there is one class alone, they are of it."""


def ending_of(name: str, known: Sequence[str]) -> str:
    """How a file's name ends, in the letters that it has; empty where that is not known."""
    return next((name[-len(ending) :] for ending in known if name.lower().endswith(ending)), "")


def is_received(path: Path) -> bool:
    """Whether a file is one that MONAI Label has just received and put aside."""
    real = path.resolve()
    return real.parent == Path(tempfile.gettempdir()).resolve() and real.name.startswith("tmp")


@contextmanager
def clearing(place: Any) -> Iterator[None]:
    """Remove a file that was received when its request is refused; MONAI Label does so only when it has answered."""
    try:
        yield
    except BaseException:
        if isinstance(place, str) and is_received(Path(place)):
            Path(place).unlink(missing_ok=True)
        raise


def check_name(name: str) -> None:
    """Refuse the name of an image that is none, or would lie elsewhere.

    Raises:
        RefusalError: 400.
    """
    if (
        not NAME.fullmatch(name)
        or len(name.encode()) > 200
        or name.startswith(".")
        or name != name.strip()
        or ".." in name
    ):
        raise RefusalError(BAD, f"{name[:80]!r} is no name for an image; write letters, digits, spaces, - and _ alone")


def check_tag(tag: str) -> None:
    """Refuse a tag, the folder of labels, that is none.

    Raises:
        RefusalError: 400.
    """
    if not TAG.fullmatch(tag):
        raise RefusalError(BAD, f"{tag[:80]!r} is no tag for a label; write final or original")


def check_info(info: Any, name: str) -> None:
    """Refuse what is noted of an image where it could not be used: um/px that are none, above all.

    Raises:
        RefusalError: 400.
    """
    if not isinstance(info, dict) or not isinstance(info.get("strategy", {}), dict):
        raise RefusalError(BAD, f"what is noted of {name} must be a JSON object, and so must its strategy")
    mpp = info.get("mpp", 1.0)
    if isinstance(mpp, bool) or not isinstance(mpp, int | float) or not 0.01 <= mpp <= 100:
        raise RefusalError(BAD, f"mpp of {name} is {str(mpp)[:40]!r}; write the width of a pixel in um, 0.01 to 100")


def resolution(path: str, noted: Any, default: float | None) -> float | None:
    """um/px of an image: what is noted of it, else what a slide tells itself (``None`` here), else the default."""
    if noted:
        return float(noted)
    if default is not None and is_slide(path):
        with open_slide(path) as slide:
            return None if slide.mpp is not None else default
    return default


def check_image(path: Path, name: str) -> None:
    """Refuse a file that is no picture and no slide, is damaged, or too large; a picture is decoded to its end.

    Args:
        path: the file as it came.
        name: what it will be called, for the sentence.

    Raises:
        RefusalError: 413 or 422.
    """
    if not ending_of(path.name, TILES + SLIDES):
        raise RefusalError(
            UNREADABLE, f"{name}: {path.suffix or 'no ending'} is no kind of picture; send {', '.join(TILES + SLIDES)}"
        )
    with _naming(path, name):
        if is_slide(path):
            with open_slide(path) as slide:
                slide.read(len(slide.levels) - 1, 0, 0, 1, 1)
            return
        height, width = picture_size(path)
        if height * width > LARGEST:
            raise RefusalError(
                TOO_LARGE,
                f"{name} has {width} x {height} px, more than are read at once; save it as a tiled pyramid (TIFF, SVS)",
            )
        read_image(path)


def check_label(path: Path, name: str, image: Path, classes: Sequence[str]) -> None:
    """Refuse a label that training could not read: a mask of another size, a broken file, an unknown class.

    Args:
        path: the file as it came: a mask, ASAP XML or GeoJSON.
        name: of its image, for the sentence.
        image: the picture or slide that it is of.
        classes: names that outlines may have.

    Raises:
        RefusalError: 422.
    """
    ending = ending_of(path.name, OUTLINES + MASKS).lower()
    if not ending:
        raise RefusalError(
            UNREADABLE,
            f"the label of {name} ends with {path.suffix or 'nothing'}; send a mask ({', '.join(MASKS)}) or outlines "
            f"({', '.join(OUTLINES)})",
        )
    with _naming(path, f"the label of {name}"):
        if ending in OUTLINES:
            _check_outlines(path, name, image, classes)
            return
        if is_slide(image):
            raise RefusalError(UNREADABLE, f"{name} is a slide; send its label as outlines ({', '.join(OUTLINES)})")
        here, there = picture_size(path), picture_size(image)
        if here != there:
            raise RefusalError(
                UNREADABLE,
                f"the label of {name} has {here[1]} x {here[0]} px and the image {there[1]} x {there[0]} px; "
                "send the mask that was drawn on this image",
            )
        read_label(path, None if len(classes) == 1 else len(classes) + 1)


def _check_outlines(path: Path, name: str, image: Path, classes: Sequence[str]) -> None:
    """Refuse outlines of a class that the model does not know, and those that lie beside the image."""
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
                f"the label of {name} has an outline called {annotation.name!r}; this model knows "
                f"{', '.join(classes)}, and Region for what was looked at",
            )
        if not annotation.shape.intersects(box(0, 0, width, height)):
            x, y = (round(value) for value in annotation.shape.bounds[:2])
            raise RefusalError(
                UNREADABLE,
                f"the label of {name} has an outline at {x}, {y}, beside the image of {width} x {height} px; "
                "send the outlines of this image, in px of its full size",
            )


@contextmanager
def _naming(path: Path, name: str) -> Iterator[None]:
    """Refusals speak of the name that the sender knows, and not of the place where the file waits."""
    try:
        with refusing():
            yield
    except RefusalError as error:
        raise RefusalError(error.status_code, str(error).replace(str(path), name)) from error
