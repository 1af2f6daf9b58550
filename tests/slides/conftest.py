"""Small slides of common kinds for the tests."""

from __future__ import annotations

import io
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
