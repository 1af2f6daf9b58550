"""Reading of pictures and masks in many formats, as 8-bit RGB or label maps.

Each conversion has a note, and an invalid file raises an error with one sentence. Images and masks of all formats are
turned upright by their EXIF or TIFF orientation, as viewers show them and people draw on them. Color profiles are
ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from bundle.data.image_io.conversion import MaskCoding, to_bytes, to_label, to_rgb
from bundle.data.image_io.decoding import decode, size_of
from bundle.data.image_io.nifti import NIFTI, decode_flat, flat_size, is_nifti, read_volume, slices_of
from bundle.data.image_io.raw_pixels import PictureError, Stored

IMAGE_SUFFIXES: tuple[str, ...] = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", *NIFTI)
"""File suffixes of pictures, in lower case."""


@dataclass(frozen=True)
class Picture:
    """Pixels of a picture, and a note on their conversion."""

    pixels: NDArray[Any]
    """Image: (H, W, 3) uint8 RGB. Label: (H, W) int32, 0 background."""
    note: str | None
    """Conversion, for example ``16 bits scaled to 8``; ``None`` if pixels are as stored."""


def stem_of(path: str | Path) -> str:
    """Return the file name without folder and suffix; ``.nii.gz`` counts as one suffix."""
    name = Path(path).name
    return name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else Path(name).stem


def is_picture(path: str | Path) -> bool:
    """Return whether a file is a picture by its suffix, ignoring case; hidden files are not."""
    name = Path(path).name.lower()
    return name.endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def picture_size(path: str | Path) -> tuple[int, int]:
    """Return (H, W) from the header, without decoding.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the header cannot be read, or a NIfTI file is a volume.
    """
    return flat_size(path) if is_nifti(path) else size_of(path)


def check_pair(image: str | Path, mask: str | Path) -> None:
    """Check that a mask has the size of its image; only headers are read.

    Raises:
        FileNotFoundError: if a file is missing.
        ValueError: if the sizes differ, or a header cannot be read.
    """
    (height, width), (rows, columns) = picture_size(image), picture_size(mask)
    if (height, width) != (rows, columns):
        raise ValueError(
            f"{mask} is {columns} x {rows} px and its image {width} x {height} px; give each image its own mask"
        )


def read_image(path: str | Path) -> Picture:
    """Read an image as (H, W, 3), uint8 RGB.

    Transparent parts are blended over white, the background of slides. Values of more than 8 bits are scaled to 8.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged or not a valid image.
    """
    stored = _decode(path)
    with _naming(path):
        return Picture(*to_rgb(stored))


def read_label(path: str | Path, classes: int | None = None, coding: MaskCoding | None = None) -> Picture:
    """Read a label as (H, W), int32, with the values as stored; of palettes the indices, not the colors.

    Args:
        path: a picture with one channel, or three equal ones.
        classes: number of classes, background included, if values are classes.
        coding: how the stored values become the label, if they are not the label.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, has colors or transparent parts, or ``label_kind`` rejects its values.
    """
    stored = _decode(path)
    with _naming(path):
        return Picture(*_label_of(stored, classes, coding))


def volume_slices(
    path: str | Path, axis: int, kind: str = "image", classes: int | None = None, coding: MaskCoding | None = None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the slices of a NIfTI volume along an axis, with their index from 0.

    Args:
        path: a NIfTI file of shape (X, Y, Z), or (X, Y, Z, 3) with colors.
        axis: 0, 1 or 2; of the other two axes, the first runs right and the second down.
        kind: ``image`` for (H, W, 3), uint8 RGB, with one scaling for the whole volume; ``label`` for (H, W), int32.
        classes: number of classes, background included, of labels whose values are classes.
        coding: how the stored values of a label become the label, if they are not the label.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, not a volume, or invalid.
    """
    if axis not in (0, 1, 2):
        raise ValueError(f"a volume has no axis {axis}; give 0, 1 or 2")
    if kind not in ("image", "label"):
        raise ValueError(f"kind is {kind!r}; give image or label")
    volume = read_volume(path)
    with _naming(path):
        if kind == "image":
            volume, _ = to_bytes(volume)
        for index, stored in slices_of(volume, axis):
            yield index, (to_rgb(stored) if kind == "image" else _label_of(stored, classes, coding))[0]


def _label_of(stored: Stored, classes: int | None, coding: MaskCoding | None) -> tuple[NDArray[Any], str | None]:
    if coding is None:
        return to_label(stored, classes)
    stored, note = coding.label_of(stored)
    label, more = to_label(stored, classes)
    return label, f"{note}, {more}" if more else note


@contextmanager
def _naming(path: str | Path) -> Iterator[None]:
    """Name the file in errors of its conversion."""
    try:
        yield
    except PictureError:
        raise
    except ValueError as error:
        raise PictureError(f"{path}: {error}") from error
    except MemoryError as error:
        raise PictureError(f"{path} does not fit into memory; cut it into tiles") from error


def _decode(path: str | Path) -> Stored:
    return decode_flat(path) if is_nifti(path) else decode(path)
