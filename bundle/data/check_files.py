"""Facts of one picture or mask, for the check of a data list: each file is decoded once, and no fault stops it."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from bundle.data.conversion import to_label, to_rgb
from bundle.data.decoding import FORMATS, ORIENTATION, decode
from bundle.data.label_maps import CORNERS
from bundle.data.label_values import reading_of
from bundle.data.stored import Stored
from bundle.data.volumes import decode_flat, is_nifti

MISSING, UNREADABLE, WRONG_VALUES = "missing", "unreadable", "wrong values"
"""What keeps a file from being used: it is not there, it cannot be decoded, its values have no right reading."""
SPECK = 25
"""Area in px up to which a piece is a speck: a slip of the pen, no gland at any resolution in use."""
UPRIGHT = 1
"""Orientation of a picture that viewers show as it is stored."""


@dataclass(frozen=True)
class FileFacts:
    """What holds for images and masks."""

    path: str
    fault: str | None = None
    """``MISSING``, ``UNREADABLE``, ``WRONG_VALUES`` or ``None``."""
    reason: str = ""
    """The sentence on the fault."""
    size: tuple[int, int] | None = None
    """(H, W) in px; ``None`` where the file cannot be decoded."""
    note: str | None = None
    """How it was converted; ``None`` where pixels are as stored."""
    orientation: int = UPRIGHT
    """How viewers turn the picture, 1 to 8 as in EXIF; it is not followed here."""


@dataclass(frozen=True)
class ImageFacts(FileFacts):
    """An image."""

    digest: str = ""
    """Hash of size and decoded pixels: equal for the same picture as PNG and as BMP."""
    one_color: bool = False
    """Whether all pixels are alike, as on empty glass."""


@dataclass(frozen=True)
class LabelFacts(FileFacts):
    """A mask."""

    reading: str = ""
    """``empty``, ``full``, ``binary``, ``instances`` or ``classes``, as ``reading_of`` says."""
    highest: int = 0
    numbers: int = 0
    """How many values other than 0 there are."""
    pieces: int = 0
    """How many connected pieces of one value there are; pixels that touch by a corner are connected."""
    split: int = 0
    """How many values lie in several pieces."""
    specks: int = 0
    """How many pieces have ``SPECK`` px or less."""
    foreground: float = 0.0
    """Share of the pixels that are not 0, in [0, 1]."""


def look_at_image(path: str) -> ImageFacts:
    """Decode an image and tell what it is; errors become a fault."""
    stored, fault = _decoded(path)
    if stored is None:
        return ImageFacts(path, *fault)
    size = stored.values.shape[:2]
    try:
        pixels, note = to_rgb(stored)
    except ValueError as error:
        return ImageFacts(path, WRONG_VALUES, f"{path}: {error}", size)
    digest = hashlib.blake2b(repr(size).encode(), digest_size=16)
    digest.update(pixels.data)
    one_color = bool((pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all())
    return ImageFacts(
        path,
        size=size,
        note=note,
        orientation=_orientation(path),
        digest=digest.hexdigest(),
        one_color=one_color,
    )


def look_at_label(path: str, classes: int | None = None) -> LabelFacts:
    """Decode a mask and tell what it is; errors become a fault.

    Args:
        path: file of the mask.
        classes: number of classes, background included, where values are classes.
    """
    stored, fault = _decoded(path)
    if stored is None:
        return LabelFacts(path, *fault)
    size = stored.values.shape[:2]
    try:
        label, note = to_label(stored, classes)
    except ValueError as error:
        return LabelFacts(path, WRONG_VALUES, f"{path}: {error}", size)
    areas = _areas(label)
    return LabelFacts(
        path,
        size=size,
        note=note,
        orientation=_orientation(path),
        reading=reading_of(label, classes),
        highest=int(label.max()),
        numbers=len(areas),
        pieces=sum(map(len, areas)),
        split=sum(len(pieces) > 1 for pieces in areas),
        specks=sum(int(np.count_nonzero(pieces <= SPECK)) for pieces in areas),
        foreground=float(np.count_nonzero(label) / label.size),
    )


def _decoded(path: str) -> tuple[Stored | None, tuple[str, str]]:
    """Pixels as stored, or the fault and its sentence."""
    try:
        return (decode_flat(path) if is_nifti(path) else decode(path)), ("", "")
    except FileNotFoundError as error:
        return None, (MISSING, str(error))
    except (OSError, ValueError, MemoryError) as error:
        return None, (UNREADABLE, str(error) or f"{path} needs more memory than there is; cut it into tiles")


def _areas(label: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Areas in px of the connected pieces, for each value other than 0."""
    highest = int(label.max())
    if highest > np.iinfo(np.uint16).max:
        values, places = np.unique(label, return_inverse=True)
        label = (places.reshape(label.shape) + (values[0] != 0)).astype(np.int32)
    found = []
    for value, box in enumerate(ndimage.find_objects(label), start=1):
        if box is not None:
            pieces, _ = ndimage.label(label[box] == value, CORNERS)
            found.append(np.bincount(pieces.ravel())[1:])
    return found


def _orientation(path: str) -> int:
    """How viewers turn a picture, from its header; 1 where nothing readable says so."""
    if is_nifti(path):
        return UPRIGHT
    value: Any = None
    try:
        with open(path, "rb") as file:
            if file.read(3) in (b"II*", b"MM\0", b"II+"):
                with tifffile.TiffFile(path) as pages:
                    value = pages.pages.first.tags.valueof(ORIENTATION)
            else:
                file.seek(0)
                with Image.open(file, formats=FORMATS) as picture:
                    # That of the base class: the one for PNG would decode the whole picture first.
                    value = Image.Image.getexif(picture).get(ORIENTATION)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        value = None  # a damaged tag turns nothing, here or in a viewer
    return value if isinstance(value, int) and 1 <= value <= 8 else UPRIGHT
