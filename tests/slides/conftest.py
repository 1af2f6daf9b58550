"""Small slides of common kinds for the tests."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

SIZE = (203, 141)
"""Width and height of the test slide, odd and different."""
TILED: dict[str, Any] = {"tile": (32, 48), "compression": "zlib", "photometric": "rgb", "metadata": None}
HALF_MICRON: dict[str, Any] = {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}


@pytest.fixture(scope="session")
def picture() -> np.ndarray:
    """Return the pixels (H, W, 3) of the test slide: smooth colors with some noise, different at each position."""
    width, height = SIZE
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, 12, (height, width, 3))
    colors = np.stack([120 + 90 * np.sin(columns / 17), 20 + rows, 200 - rows / 2 - columns / 3], axis=-1)
    return np.clip(colors + noise, 0, 253).astype(np.uint8)


@pytest.fixture(scope="session")
def pyramid(picture: np.ndarray) -> list[np.ndarray]:
    """Return the levels of the test slide: means over 1, 2 and 4 px, without the remainder."""
    return [picture, _halved(picture), _halved(_halved(picture))]


def _halved(pixels: np.ndarray) -> np.ndarray:
    height, width = (side // 2 for side in pixels.shape[:2])
    squares = pixels[: 2 * height, : 2 * width].reshape(height, 2, width, 2, 3)
    return squares.mean(axis=(1, 3)).astype(np.uint8)


@pytest.fixture
def write_slide(tmp_path: Path, pyramid: list[np.ndarray]) -> Callable[..., Path]:
    """Return a function that writes the test slide in a given format and returns its path."""

    def write(kind: str, **options: Any) -> Path:
        path = tmp_path / f"{kind}.tif"
        writers[kind](path, pyramid, options)
        return path

    writers: dict[str, Callable[[Path, list[np.ndarray], dict[str, Any]], None]] = {
        "pyramid": _write_pyramid,
        "subifd": _write_subifd,
        "ome": _write_ome,
        "tiled": lambda path, levels, more: tifffile.imwrite(path, levels[0], **TILED | more),
        "plain": lambda path, levels, more: tifffile.imwrite(path, levels[0], photometric="rgb", **more),
        "striped": lambda path, levels, more: tifffile.imwrite(
            path, levels[0], photometric="rgb", compression="zlib", rowsperstrip=19, **more
        ),
        "striped_jpeg": lambda path, levels, more: Image.fromarray(levels[0]).save(path, compression="jpeg", **more),
        "jpeg": _write_jpeg,
    }
    return write


def _write_pyramid(path: Path, levels: list[np.ndarray], more: dict[str, Any]) -> None:
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for index, level in enumerate(levels):
            file.write(level, subfiletype=int(index > 0), **TILED | HALF_MICRON | more)


def _write_subifd(path: Path, levels: list[np.ndarray], more: dict[str, Any]) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(levels[0], subifds=len(levels) - 1, **TILED | more)
        for level in levels[1:]:
            file.write(level, subfiletype=1, **TILED | more)


def _write_ome(path: Path, levels: list[np.ndarray], more: dict[str, Any]) -> None:
    sizes = {f"PhysicalSize{axis}": 250 for axis in "XY"} | {f"PhysicalSize{axis}Unit": "nm" for axis in "XY"}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(levels[0], subifds=len(levels) - 1, **TILED | {"metadata": sizes} | more)
        for level in levels[1:]:
            file.write(level, subfiletype=1, **TILED | more)


def _write_jpeg(path: Path, levels: list[np.ndarray], more: dict[str, Any]) -> None:
    height, width = levels[0].shape[:2]
    padded = np.pad(levels[0], ((0, -height % 48), (0, -width % 48), (0, 0)), mode="edge")
    tiles = []
    for y in range(0, height, 48):
        for x in range(0, width, 48):
            encoded = io.BytesIO()
            Image.fromarray(padded[y : y + 48, x : x + 48]).save(encoded, "JPEG", quality=95, keep_rgb=True)
            tiles.append(encoded.getvalue())
    tifffile.imwrite(path, iter(tiles), shape=levels[0].shape, dtype=np.uint8, **TILED | {"tile": (48, 48)} | more)
    with tifffile.TiffFile(
        path, mode="r+"
    ) as file:  # tifffile writes no JPEG without imagecodecs, but what it is given
        file.pages[0].tags["Compression"].overwrite(7)


@pytest.fixture
def write_dicom(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes pixels (H, W, 3) as one level of a DICOM slide, in JPEG tiles of 48 px."""

    def write(name: str, pixels: np.ndarray, series: str, um: float = 0.5) -> Path:
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
        path = tmp_path / name
        path.write_bytes(head + body + struct.pack("<HH2sHI", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF) + encoded)
        return path

    return write


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
