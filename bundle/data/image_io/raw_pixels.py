"""Pixels of a picture file before conversion, their orientation, and errors of files that cannot be read."""

from __future__ import annotations

import errno
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

GIB = 2**30
MOST_BYTES = GIB
"""Largest size of the values of a picture or volume in memory: a few kB of a file can declare many GiB."""
STRIP = 2**20
"""Number of values that are converted at once."""
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


class PictureError(ValueError):
    """Error of a picture that cannot be used; the message names the file and says what to do."""


@dataclass(frozen=True)
class Stored:
    """Pixels as stored in a file, upright."""

    values: NDArray[Any]
    """(H, W) gray values or palette indices, or (H, W, C) with C = 3 (RGB) or 4 (CMYK); any dtype."""
    alpha: NDArray[Any] | None = None
    """(H, W), 0 is transparent."""
    palette: NDArray[np.uint8] | None = None
    """(256, 4) RGBA of the indices."""
    bits: int | None = None
    """Bits of a value, if not given by the dtype."""
    premultiplied: bool = False
    """Whether colors are multiplied by alpha."""
    white_is_zero: bool = False
    """Whether small values are bright (TIFF's MinIsWhite)."""
    lossy: bool = False
    """Whether the file is a JPEG, which changes values."""
    orientation: int = UPRIGHT
    """EXIF or TIFF orientation of the file, 1 to 8, by which the pixels were turned upright."""


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Convert errors of image libraries to a ``PictureError`` with one sentence.

    Raises:
        FileNotFoundError: if the file does not exist.
        PictureError: for all errors except those of the system (permission, device).
    """
    file = Path(path)
    if file.is_dir():
        raise FileNotFoundError(f"{path} is a folder; give the path of a picture")
    if not file.is_file():
        raise FileNotFoundError(f"no file {path}; check the path")
    if file.stat().st_size == 0:
        raise PictureError(f"{path} is empty; copy or export it again")
    try:
        yield
    except PictureError:
        raise
    except MemoryError as error:
        raise PictureError(f"{path} does not fit into memory; cut it into tiles") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PictureError(_too_large(path)) from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{path} is not a readable PNG, JPEG, BMP or TIFF; export it again") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL comes from bad offsets
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".").replace(str(path), "it")
        raise PictureError(f"{path} is not a readable picture ({reason}); export it again") from error


def check_size(path: str | Path, pixels: int, pixel_bytes: float) -> None:
    """Check the size that a header declares, before memory is allocated for it.

    Args:
        path: path of the file.
        pixels: number of pixels.
        pixel_bytes: bytes of a pixel in memory, all channels together.

    Raises:
        PictureError: if there are none, more than twice ``PIL.Image.MAX_IMAGE_PIXELS``, or more than ``MOST_BYTES``.
    """
    check_pixels(path, pixels)
    check_bytes(path, pixels * pixel_bytes)


def check_pixels(path: str | Path, pixels: int) -> None:
    """Apply Pillow's size limit to all files.

    Raises:
        PictureError: if there is no pixel, or more than twice ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    if pixels < 1:
        raise PictureError(f"{path} has a width or height of 0 px; export it again")
    if Image.MAX_IMAGE_PIXELS is not None and pixels > 2 * Image.MAX_IMAGE_PIXELS:
        raise PictureError(_too_large(path))


def check_bytes(path: str | Path, count: float) -> None:
    """Check the number of bytes that the values of a file take in memory.

    Raises:
        PictureError: if there are more than ``MOST_BYTES``.
    """
    if count > MOST_BYTES:
        raise PictureError(
            f"{path} takes {count / GIB:.1f} GiB when it is read, more than the limit ({MOST_BYTES / GIB:g} GiB); "
            "cut it into parts, or save it with 8 bits per color"
        )


def strips(shape: Sequence[int]) -> Iterator[slice]:
    """Yield slices of the first axis, so that a part has about ``STRIP`` values: conversions need several copies."""
    rows = max(STRIP // max(math.prod(shape[1:]), 1), 1)
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


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


def _too_large(path: str | Path) -> str:
    return f"{path} has more pixels than the limit ({2 * (Image.MAX_IMAGE_PIXELS or 0):,}); cut it into tiles"
