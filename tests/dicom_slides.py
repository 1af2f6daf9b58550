"""DICOM slides for the tests, written without a library."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def write_dicom(path: Path, pixels: np.ndarray, series: str, um: float = 0.5) -> Path:
    """Write pixels (H, W, 3) as one level of a DICOM slide, in JPEG tiles of 48 px; return the path."""
    frames = [
        np.pad(part, ((0, 48 - part.shape[0]), (0, 48 - part.shape[1]), (0, 0)))
        for y in range(0, pixels.shape[0], 48)
        for x in range(0, pixels.shape[1], 48)
        for part in [pixels[y : y + 48, x : x + 48]]
    ]
    microscopy, jpeg, instance = "1.2.840.10008.5.1.4.1.1.77.1.6", "1.2.840.10008.1.2.4.50", f"{series}.{um}"
    meta = _element(0x00020002, "UI", microscopy) + _element(0x00020003, "UI", instance)
    meta += _element(0x00020010, "UI", jpeg)
    measures = _item(_element(0x00280030, "DS", f"{um / 1000}\\{um / 1000}"))
    size = struct.pack("<H", 48)
    elements: list[tuple[int, str, str | bytes]] = [
        (0x00080008, "CS", "ORIGINAL\\PRIMARY\\VOLUME\\NONE"),
        (0x00080016, "UI", microscopy),
        (0x00080018, "UI", instance),
        (0x0020000E, "UI", series),
        (0x00209311, "CS", "TILED_FULL"),
        (0x00280002, "US", b"\3\0"),
        (0x00280004, "CS", "YBR_FULL_422"),
        (0x00280006, "US", b"\0\0"),
        (0x00280008, "IS", str(len(frames))),
        (0x00280010, "US", size),
        (0x00280011, "US", size),
        (0x00280100, "US", b"\x08\0"),
        (0x00280101, "US", b"\x08\0"),
        (0x00280102, "US", b"\7\0"),
        (0x00280103, "US", b"\0\0"),
        (0x00480006, "UL", struct.pack("<I", pixels.shape[1])),
        (0x00480007, "UL", struct.pack("<I", pixels.shape[0])),
        (0x52009229, "SQ", _item(_element(0x00289110, "SQ", measures))),
    ]
    body = b"".join(_element(*element) for element in elements)
    encoded = b"".join(map(_item, [b"", *map(_jpeg_of, frames)]))
    encoded += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    head = bytes(128) + b"DICM" + _element(0x00020000, "UL", struct.pack("<I", len(meta))) + meta
    path.write_bytes(head + body + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + encoded)
    return path


def _element(tag: int, kind: str, value: str | bytes) -> bytes:
    """Return an element of DICOM, explicit little endian, padded to an even length."""
    content = value if isinstance(value, bytes) else value.encode()
    content += (b"\0" if kind == "UI" else b" ") * (len(content) % 2)
    length = struct.pack("<HI", 0, len(content)) if kind == "SQ" else struct.pack("<H", len(content))
    return struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind.encode()) + length + content


def _item(content: bytes) -> bytes:
    return struct.pack("<HHI", 0xFFFE, 0xE000, len(content)) + content


def _jpeg_of(pixels: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=95)
    return encoded.getvalue() + bytes(encoded.tell() % 2)
