"""Decoding of picture files without conversion: values, colors and alpha as stored.

Pillow reads most files. This module works around its limitations: it reduces 16-bit colors to their upper byte, turns
TIFFs (and no other format) upright by their orientation tag, and does not support rare TIFFs, which tifffile reads.
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
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from bundle.data.image_io.raw_pixels import (
    ORIENTATION,
    SIDEWAYS,
    TURN,
    PictureError,
    Stored,
    check_pixels,
    check_size,
    orientation_in,
    reading,
    strips,
    valid_orientation,
)

FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
"""Formats that Pillow may read, whatever the suffix; some of its other readers start external programs."""
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "I;16B")
"""Supported Pillow modes."""
REDUCED, WIDTH, HEIGHT, BITS, PHOTOMETRIC, SAMPLES, PLANES, SAMPLE_FORMAT = 254, 256, 257, 258, 262, 277, 284, 339
"""TIFF tags."""
TILE_WIDTH, TILE_HEIGHT = 322, 323
"""TIFF tags of tiles."""
LARGEST_TILE = 2**22
"""px; a tile up to this size may be larger than its picture."""
PIXEL_BYTES = {"1": 1, "I": 4, "F": 4, "I;16": 2, "I;16B": 2, "YCbCr": 3}
"""Bytes of a decoded pixel by Pillow mode; other modes have one for each letter of their name, or two of 16 bits."""
COLORS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}
"""Number of color channels by photometric tag: gray (0 is white, or black), RGB, palette, CMYK, YCbCr, LAB."""


def decode(path: str | Path) -> Stored:
    """Decode a PNG, JPEG, BMP or TIFF, upright: turned by its EXIF or TIFF orientation, as viewers show it.

    Raises:
        FileNotFoundError: if the file does not exist.
        PictureError: if the file is damaged, not a picture, too large, or has several pictures or over 4 channels.
    """
    with reading(path):
        if _is_tiff(path) and not _pillow_supports(path):
            return _decode_with_tifffile(path)
        return _decode_with_pillow(path)


def size_of(path: str | Path) -> tuple[int, int]:
    """Return (H, W) of a PNG, JPEG, BMP or TIFF, upright, from its header.

    Raises:
        FileNotFoundError: if the file does not exist.
        PictureError: if the header cannot be read.
    """
    with reading(path):
        if _is_tiff(path):
            with tifffile.TiffFile(path) as file:
                page = file.pages.first
                size = page.imagelength, page.imagewidth
                orientation = valid_orientation(page.tags.valueof(ORIENTATION))
        else:
            with _opened(path) as picture:
                size = picture.height, picture.width
                orientation = orientation_in(picture)
        check_pixels(path, math.prod(size))
        return size[::-1] if orientation in SIDEWAYS else size


@contextmanager
def _opened(path: str | Path) -> Iterator[ImageFile.ImageFile]:
    # Given a path, Pillow memory-maps uncompressed TIFFs and corrupts those with an orientation.
    with open(path, "rb") as file, Image.open(file, formats=FORMATS) as picture:
        yield picture


def _is_tiff(path: str | Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _pillow_supports(path: str | Path) -> bool:
    """Return whether Pillow reads a TIFF correctly."""
    try:
        with _opened(path) as picture:
            tags = _tags(picture)
    except UnidentifiedImageError:
        return False
    bits = tags.get(BITS, (1,))[0]
    signed_bytes = bits == 8 and tags.get(SAMPLE_FORMAT, (1,))[0] != 1
    return not signed_bytes and not (bits > 8 and tags.get(PLANES, 1) == 2)


def _decode_with_pillow(path: str | Path) -> Stored:
    with _opened(path) as picture:
        tags, mode, raw, info = _tags(picture), picture.mode, _raw_mode(picture), picture.info
        _check_pages(path, picture)
        if SAMPLES in tags:
            _check_channels(path, tags[SAMPLES], tags.get(PHOTOMETRIC, 0))
        if mode not in MODES:
            raise PictureError(f"{path} has the color mode {mode}, which is not supported; save it as RGB")
        lossy = picture.format in ("JPEG", "MPO") or "jpeg" in str(info.get("compression"))
        orientation = orientation_in(picture)
        _check_tiles(path, tags, picture.width * picture.height)
        deep = ";16" in raw and mode in ("RGB", "RGBA", "CMYK")
        check_size(path, picture.width * picture.height, PIXEL_BYTES.get(mode) or len(mode) * (2 if deep else 1))
        if deep:
            values = _sixteen_bits(path, raw, orientation)
        else:
            # Keep premultiplied colors: Pillow would divide by alpha and round.
            values = _pixels(picture, "RGBA" if raw == "RGBa" else raw, orientation)
        palette = _palette(picture) if mode in ("P", "PA") else None
    white_is_zero = tags.get(PHOTOMETRIC) == 0
    if white_is_zero and raw.endswith("I"):  # undo Pillow's inversion
        values = ~values
    bits = int(raw[2]) if raw[:3] in ("L;2", "L;4") else None
    if bits:
        values = values // (255 // (2**bits - 1))  # undo Pillow's scaling to 0..255
    alpha = None
    if mode in ("LA", "La", "PA", "RGBA"):
        values, alpha = _split_channels(values, values.shape[2] - 1)
    elif palette is None and "transparency" in info:
        transparent = values == (bool(info["transparency"]) if mode == "1" else np.asarray(info["transparency"]))
        alpha = ~(transparent if values.ndim == 2 else transparent.all(axis=2))
    premultiplied = mode == "La" or raw.startswith("RGBa")
    return Stored(values, alpha, palette, bits, premultiplied, white_is_zero, lossy, orientation)


def _decode_with_tifffile(path: str | Path) -> Stored:
    """Decode a TIFF that Pillow does not support: 16 and 64-bit floats, several 32-bit channels, 16-bit planes."""
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        count = max(len(file.pages), page.imagedepth)
        if count > 1:
            raise PictureError(_several_pictures(path, count))
        check_size(path, page.imagelength * page.imagewidth, page.samplesperpixel * page.bitspersample / 8)
        orientation = valid_orientation(page.tags.valueof(ORIENTATION))
        photometric = page.photometric
        if photometric not in (0, 1, 2, 5):
            raise PictureError(f"{path} has the color mode {photometric}, which is not supported; save it as RGB")
        _check_channels(path, page.samplesperpixel, photometric)
        if len(page.databytecounts) != math.prod(page.chunked) or not all(page.databytecounts):
            raise ValueError("parts of it are missing")  # tifffile would fill them with zeros
        values = page.asarray()
        planes = page.planarconfig == tifffile.PLANARCONFIG.SEPARATE
        extra = page.extrasamples[0] if page.extrasamples else tifffile.EXTRASAMPLE.UNASSALPHA
    values = _native_byte_order(np.moveaxis(values, 0, -1) if planes and values.ndim == 3 else values)
    values = TURN[orientation](values) if orientation in TURN else values
    values, alpha = _split_channels(values, COLORS[photometric]) if values.ndim == 3 else (values, None)
    if extra == tifffile.EXTRASAMPLE.UNSPECIFIED:
        alpha = None
    premultiplied = extra == tifffile.EXTRASAMPLE.ASSOCALPHA
    inverted = photometric == 0
    return Stored(values, alpha, premultiplied=premultiplied, white_is_zero=inverted, orientation=orientation)


def _check_pages(path: str | Path, picture: ImageFile.ImageFile) -> None:
    """Refuse stacks and animations; smaller copies are allowed (thumbnails, pyramids, camera previews)."""
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
        raise PictureError(_several_pictures(path, count))


def _check_channels(path: str | Path, count: int, photometric: int) -> None:
    """Refuse channels other than colors, or colors and alpha."""
    if count > 4 or count - COLORS.get(photometric, count) not in (0, 1):
        raise PictureError(f"{path} has {count} channels; save those of an RGB picture as a separate file")


def _check_tiles(path: str | Path, tags: dict[int, Any], pixels: int) -> None:
    """Refuse tiles that are far larger than the picture: each is decoded as a whole."""
    tile = tags.get(TILE_WIDTH, 1) * tags.get(TILE_HEIGHT, 1)
    if tile > max(4 * pixels, LARGEST_TILE):
        raise PictureError(f"{path} declares tiles of {tile} px for a picture of {pixels} px; export it again")


def _sixteen_bits(path: str | Path, raw: str, orientation: int) -> NDArray[np.uint16]:
    """Decode all 16 bits of each channel, (H, W, C).

    Pillow keeps only the upper byte of 16-bit colors. With the opposite byte order it keeps the lower byte, so two
    passes return both.
    """

    def read(mode: str) -> Iterator[tuple[slice, NDArray[np.uint16]]]:
        with _opened(path) as picture:
            for rows, pixels in _strips(_loaded(picture, mode, orientation)):
                yield rows, pixels.astype(np.uint16)

    with _opened(path) as picture:
        width, height = picture.size if picture.format == "TIFF" or orientation not in SIDEWAYS else picture.size[::-1]
    if raw == "LA;16B":
        values = np.empty((height, width, 2), np.uint16)
        for rows, gray_alpha in read("RGBA"):  # same number of bytes: two of gray, then two of alpha
            values[rows] = gray_alpha[..., ::2] * np.uint16(256) + gray_alpha[..., 1::2]
        return values
    colors, order = raw.replace("RGBa", "RGBA").split(";16")
    big_endian = order == "B" or (order == "N" and sys.byteorder == "big")
    upper, lower = ("B", "L") if big_endian else ("L", "B")
    values = np.empty((height, width, 3 if colors == "RGB" else 4), np.uint16)
    for rows, pixels in read(f"{colors};16{upper}"):
        values[rows] = pixels * np.uint16(256)
    for rows, pixels in read(f"{colors};16{lower}"):
        values[rows] += pixels
    return values


def _pixels(picture: ImageFile.ImageFile, raw: str, orientation: int) -> NDArray[Any]:
    """Decode with a raw mode, upright; big pictures are copied in strips, as Pillow needs three times the memory."""
    upright = _loaded(picture, raw, orientation)
    parts = _strips(upright)
    rows, part = next(parts)
    if len(part) == upright.height:
        return _native_byte_order(part)
    values = np.empty((upright.height, *part.shape[1:]), part.dtype)
    values[rows] = part
    for rows, part in parts:
        values[rows] = part
    return _native_byte_order(values)


def _loaded(picture: ImageFile.ImageFile, raw: str, orientation: int) -> Image.Image:
    """Decode with a raw mode and turn upright."""
    if raw != _raw_mode(picture):
        picture.tile = [
            tile._replace(args=raw if isinstance(tile.args, str) else (raw, *(tile.args or ())[1:]))
            for tile in picture.tile
        ]
    picture.load()
    if orientation in TURN and picture.format != "TIFF":  # Pillow turns TIFFs itself
        ImageOps.exif_transpose(picture, in_place=True)
    return picture.convert("RGB") if picture.mode == "YCbCr" else picture


def _strips(picture: Image.Image) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield the rows of a picture, some at a time, with their place."""
    for rows in strips((picture.height, picture.width)):
        whole = rows == slice(0, picture.height)
        yield rows, np.asarray(picture if whole else picture.crop((0, rows.start, picture.width, rows.stop)))


def _raw_mode(picture: ImageFile.ImageFile) -> str:
    """Return Pillow's raw mode of the pixels in the file."""
    arguments = picture.tile[0].args if picture.tile else None
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _tags(picture: ImageFile.ImageFile) -> dict[int, Any]:
    return dict(getattr(picture, "tag_v2", {}))


def _palette(picture: ImageFile.ImageFile) -> NDArray[np.uint8]:
    """Return the RGBA colors (256, 4) of all indices."""
    ramp = Image.frombytes("P", (256, 1), bytes(range(256)))
    ramp.putpalette(picture.getpalette("RGB") or [])
    if "transparency" in picture.info:
        ramp.info["transparency"] = picture.info["transparency"]
    return np.asarray(ramp.convert("RGBA"))[0]


def _split_channels(values: NDArray[Any], colors: int) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the color channels, as (H, W) if there is one, and the channel after them."""
    extra = values[..., colors] if values.shape[2] > colors else None
    return (values[..., 0] if colors == 1 else values[..., :colors]), extra


def _native_byte_order(values: NDArray[Any]) -> NDArray[Any]:
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _several_pictures(path: str | Path, count: int) -> str:
    return f"{path} holds {count} pictures, not one; save each as a separate file"
