"""What lies in a picture file, before any conversion: values, colors and alpha as stored.

Pillow reads nearly all. What it does not do right is done here: it cuts 16-bit colors to their upper byte, turns TIFFs
(and no other format) as their orientation asks, and does not know rarer TIFFs, which tifffile reads.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from bundle.data.stored import PictureError, Stored, check_size, reading

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
"""What Pillow may take a file for, whatever its suffix; some of its other readers start outside programs."""
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "I;16B")
"""Pillow's names of the pixels that are read here."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What undoes each orientation."""
REDUCED, WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION, SAMPLES, PLANES, SAMPLE_FORMAT = (
    *(254, 256, 257, 258, 262, 274, 277, 284, 339),
)
"""TIFF tags."""
COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Channels of color for each value of the tag: gray (small is bright, or dark), RGB, palette, CMYK, YCbCr, LAB."""


def decode(path: str | Path) -> Stored:
    """Decode a PNG, JPEG, BMP or TIFF wholly.

    Raises:
        FileNotFoundError: where there is no such file.
        PictureError: where the file is damaged, no picture, too large, holds several pictures or over 4 channels.
    """
    with reading(path):
        return _by_tifffile(path) if _is_tiff(path) and not _pillow_knows(path) else _by_pillow(path)


def size_of(path: str | Path) -> tuple[int, int]:
    """(H, W) of a PNG, JPEG, BMP or TIFF, as stored, from its header.

    Raises:
        FileNotFoundError: where there is no such file.
        PictureError: where the header cannot be read.
    """
    with reading(path):
        if _is_tiff(path):
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                return page.imagelength, page.imagewidth
        with _opened(path) as picture:
            return picture.height, picture.width


@contextmanager
def _opened(path: str | Path) -> Iterator[ImageFile.ImageFile]:
    # Given a name, Pillow maps plain TIFFs into memory, and scrambles those that it means to turn.
    with open(path, "rb") as file, Image.open(file, formats=FORMATS) as picture:
        yield picture


def _is_tiff(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _pillow_knows(path: str | Path) -> bool:
    """Whether Pillow reads a TIFF, and reads it right."""
    try:
        with _opened(path) as picture:
            tags = _tags(picture)
    except UnidentifiedImageError:
        return False
    bits = tags.get(BITS, (1,))[0]
    signed_bytes = bits == 8 and tags.get(SAMPLE_FORMAT, (1,))[0] != 1
    return not signed_bytes and not (bits > 8 and tags.get(PLANES, 1) == 2)


def _by_pillow(path: str | Path) -> Stored:
    with _opened(path) as picture:
        tags, mode, raw, info = _tags(picture), picture.mode, _raw_mode(picture), picture.info
        _check_pages(path, picture)
        if SAMPLES in tags:
            _check_channels(path, tags[SAMPLES], tags.get(PHOTOMETRIC, 0))
        if mode not in MODES:
            raise PictureError(f"{path} has colors of the kind {mode}, which are not read; save it as RGB")
        lossy = picture.format in ("JPEG", "MPO") or "jpeg" in str(info.get("compression"))
        turn = tags.get(ORIENTATION, 1)
        if ";16" in raw and mode in ("RGB", "RGBA", "CMYK"):
            values = _sixteen_bits(path, raw, turn)
        else:
            values = _pixels(picture, "RGBA" if raw == "RGBa" else raw, turn)  # Pillow would divide by alpha and round
        palette = _palette(picture) if mode in ("P", "PA") else None
    white_is_zero = tags.get(PHOTOMETRIC) == 0
    if white_is_zero and raw.endswith("I"):  # Pillow has inverted it
        values = ~values
    bits = int(raw[2]) if raw[:3] in ("L;2", "L;4") else None
    if bits:
        values = values // (255 // (2**bits - 1))  # Pillow has stretched it to 0..255
    alpha = None
    if mode in ("LA", "La", "PA", "RGBA"):
        values, alpha = _cut(values, values.shape[2] - 1)
    elif palette is None and "transparency" in info:
        same = values == (bool(info["transparency"]) if mode == "1" else np.asarray(info["transparency"]))
        alpha = ~(same if values.ndim == 2 else same.all(axis=2))
    premultiplied = mode == "La" or raw.startswith("RGBa")
    return Stored(values, alpha, palette, bits, premultiplied, white_is_zero, lossy)


def _by_tifffile(path: str | Path) -> Stored:
    """TIFFs that Pillow does not know: floats of 16 and 64 bits, several channels of 32 bits, planes of 16 bits."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        count = max(len(file.pages), page.imagedepth)
        if count > 1:
            raise PictureError(_several(path, count))
        check_size(path, page.imagelength * page.imagewidth)
        photometric = page.photometric
        if photometric not in (0, 1, 2, 5):
            raise PictureError(f"{path} has colors of the kind {photometric}, which are not read; save it as RGB")
        _check_channels(path, page.samplesperpixel, photometric)
        if len(page.databytecounts) != math.prod(page.chunked) or not all(page.databytecounts):
            raise ValueError("parts of it are missing")  # tifffile would take zeros for them
        values = page.asarray()
        planes = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        extra = page.extrasamples[0] if page.extrasamples else tifffile.EXTRASAMPLE.UNASSALPHA
    values = _native(np.moveaxis(values, 0, -1) if planes and values.ndim == 3 else values)
    values, alpha = _cut(values, COLORS[photometric]) if values.ndim == 3 else (values, None)
    if extra == tifffile.EXTRASAMPLE.UNSPECIFIED:
        alpha = None
    premultiplied = extra == tifffile.EXTRASAMPLE.ASSOCALPHA
    return Stored(values, alpha, premultiplied=premultiplied, white_is_zero=photometric == 0)


def _check_pages(path: str | Path, picture: ImageFile.ImageFile) -> None:
    """Refuse stacks and animations; smaller copies may follow (thumbnails, pyramids, the previews of a camera)."""
    count = getattr(picture, "n_frames", 1)
    if count == 1 or picture.format == "MPO":
        return
    copies = picture.format == "TIFF"
    if copies:
        width, height = picture.size
        for number in range(1, count):
            picture.seek(number)
            smaller = picture.width < width and picture.height < height
            copies &= smaller or bool(_tags(picture).get(REDUCED, 0) & 1)
        picture.seek(0)
    if not copies:
        raise PictureError(_several(path, count))


def _check_channels(path: str | Path, count: int, photometric: int) -> None:
    """Refuse what is not colors, or colors and alpha."""
    if count > 4 or count - COLORS.get(photometric, count) not in (0, 1):
        raise PictureError(f"{path} has {count} channels; save those that make an RGB picture as a file of their own")


def _sixteen_bits(path: str | Path, raw: str, turn: int) -> NDArray[np.uint16]:
    """All 16 bits of each channel, (H, W, C).

    Pillow keeps the upper byte of 16-bit colors. Told that the bytes stand the other way round, it keeps the lower
    one: two passes give both.
    """

    def read(mode: str) -> NDArray[np.uint16]:
        with _opened(path) as picture:
            return _pixels(picture, mode, turn).astype(np.uint16)

    if raw == "LA;16B":
        both = read("RGBA")  # as many bytes a pixel: the two of gray, then the two of alpha
        return both[..., ::2] * np.uint16(256) + both[..., 1::2]
    colors, order = raw.replace("RGBa", "RGBA").split(";16")
    big = order == "B" or (order == "N" and sys.byteorder == "big")
    upper, lower = ("B", "L") if big else ("L", "B")
    return read(f"{colors};16{upper}") * np.uint16(256) + read(f"{colors};16{lower}")


def _pixels(picture: ImageFile.ImageFile, raw: str, turn: int) -> NDArray[Any]:
    """Decode under a raw mode, and undo the turn of a TIFF."""
    if raw != _raw_mode(picture):
        picture.tile = [
            tile._replace(args=raw if isinstance(tile.args, str) else (raw, *(tile.args or ())[1:]))
            for tile in picture.tile
        ]
    picture.load()
    plain = picture.convert("RGB") if picture.mode == "YCbCr" else picture
    return _native(np.asarray(plain.transpose(UPRIGHT[turn]) if turn in UPRIGHT else plain))


def _raw_mode(picture: ImageFile.ImageFile) -> str:
    """Pillow's name of the pixels in the file."""
    arguments = picture.tile[0].args if picture.tile else None
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _tags(picture: ImageFile.ImageFile) -> dict[int, Any]:
    return dict(getattr(picture, "tag_v2", {}))


def _palette(picture: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """(256, 4) RGBA of each index."""
    ramp = Image.frombytes("P", (256, 1), bytes(range(256)))
    ramp.putpalette(picture.getpalette("RGB") or [])
    if "transparency" in picture.info:
        ramp.info["transparency"] = picture.info["transparency"]
    return np.asarray(ramp.convert("RGBA"))[0]


def _cut(values: NDArray[Any], colors: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Channels of color, as (H, W) if it is one, and the channel behind them."""
    behind = values[..., colors] if values.shape[2] > colors else None
    return (values[..., 0] if colors == 1 else values[..., :colors]), behind


def _native(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _several(path: str | Path, count: int) -> str:
    return f"{path} holds {count} pictures, not one; save each as a file of its own"
