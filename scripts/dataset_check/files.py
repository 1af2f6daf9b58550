"""Properties of one image or mask, for the check of a data list; faults are returned, not raised."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bundle.data.image_io.conversion import to_label, to_rgb
from bundle.data.image_io.decoding import decode
from bundle.data.image_io.label_values import label_kind
from bundle.data.image_io.nifti import decode_flat, is_nifti
from bundle.data.image_io.raw_pixels import UPRIGHT, Stored
from scripts.data_preparation.label_maps import CORNERS

MISSING, UNREADABLE, WRONG_VALUES = "missing", "unreadable", "wrong values"
"""Faults of a file: it does not exist, it cannot be decoded, its values are invalid."""
TOO_LARGE = "{} does not fit into memory; cut it into tiles"
SPECK = 25
"""Largest area (px) of a speck: an annotation error, too small for a gland at any usual resolution."""


@dataclass(frozen=True)
class FileFacts:
    """Properties of images and masks."""

    path: str
    fault: str | None = None
    """``MISSING``, ``UNREADABLE``, ``WRONG_VALUES`` or ``None``."""
    reason: str = ""
    """Message about the fault."""
    size: tuple[int, int] | None = None
    """(H, W) in px; ``None`` if the file cannot be decoded."""
    note: str | None = None
    """How it was converted; ``None`` if pixels are as stored."""
    orientation: int = UPRIGHT
    """EXIF or TIFF orientation as stored, 1 to 8; pixels are turned by it when they are read, as in viewers."""


@dataclass(frozen=True)
class ImageFacts(FileFacts):
    """Properties of an image."""

    digest: str = ""
    """Hash of size and decoded pixels, equal for the same picture as PNG and as BMP."""
    one_color: bool = False
    """Whether all pixels are equal, as on empty background."""


@dataclass(frozen=True)
class LabelFacts(FileFacts):
    """Properties of a mask."""

    reading: str = ""
    """Result of ``label_kind``: ``empty``, ``full``, ``binary``, ``instances`` or ``classes``."""
    highest: int = 0
    numbers: int = 0
    """Number of values other than 0."""
    pieces: int = 0
    """Number of connected components of one value (8-connected)."""
    split: int = 0
    """Number of values with several connected components."""
    specks: int = 0
    """Number of connected components of ``SPECK`` px or less."""
    foreground: float = 0.0
    """Share of the pixels that are not 0, in [0, 1]."""


def inspect_image(path: str) -> ImageFacts:
    """Decode an image and return its properties; errors become a fault."""
    stored, fault = _decoded(path)
    if stored is None:
        return ImageFacts(path, *fault)
    size = stored.values.shape[:2]
    try:
        pixels, note = to_rgb(stored)
    except MemoryError:
        return ImageFacts(path, UNREADABLE, TOO_LARGE.format(path), size)
    except ValueError as error:
        return ImageFacts(path, WRONG_VALUES, f"{path}: {error}", size)
    digest = hashlib.blake2b(repr(size).encode(), digest_size=16)
    digest.update(pixels.data)
    one_color = bool((pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all())
    return ImageFacts(
        path,
        size=size,
        note=note,
        orientation=stored.orientation,
        digest=digest.hexdigest(),
        one_color=one_color,
    )


def inspect_label(path: str, classes: int | None = None) -> LabelFacts:
    """Decode a mask and return its properties; errors become a fault.

    Args:
        path: path of the mask.
        classes: number of classes, background included, if values are classes.
    """
    stored, fault = _decoded(path)
    if stored is None:
        return LabelFacts(path, *fault)
    size = stored.values.shape[:2]
    try:
        label, note = to_label(stored, classes)
    except MemoryError:
        return LabelFacts(path, UNREADABLE, TOO_LARGE.format(path), size)
    except ValueError as error:
        return LabelFacts(path, WRONG_VALUES, f"{path}: {error}", size)
    areas = _areas(label)
    return LabelFacts(
        path,
        size=size,
        note=note,
        orientation=stored.orientation,
        reading=label_kind(label, classes),
        highest=int(label.max()),
        numbers=len(areas),
        pieces=sum(map(len, areas)),
        split=sum(len(pieces) > 1 for pieces in areas),
        specks=sum(int(np.count_nonzero(pieces <= SPECK)) for pieces in areas),
        foreground=float(np.count_nonzero(label) / label.size),
    )


def _decoded(path: str) -> tuple[Stored | None, tuple[str, str]]:
    """Return the pixels as stored, or the fault and its message."""
    try:
        return (decode_flat(path) if is_nifti(path) else decode(path)), ("", "")
    except FileNotFoundError as error:
        return None, (MISSING, str(error))
    except (OSError, ValueError, MemoryError) as error:
        return None, (UNREADABLE, str(error) or TOO_LARGE.format(path))


def _areas(label: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Return the areas (px) of the connected components of each value other than 0."""
    highest = int(label.max())
    if highest > np.iinfo(np.uint16).max:
        values, indices = np.unique(label, return_inverse=True)
        label = (indices.reshape(label.shape) + (values[0] != 0)).astype(np.int32)
    areas = []
    for value, box in enumerate(ndimage.find_objects(label), start=1):
        if box is not None:
            pieces, _ = ndimage.label(label[box] == value, CORNERS)
            areas.append(np.bincount(pieces.ravel())[1:])
    return areas
