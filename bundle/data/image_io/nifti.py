"""NIfTI files: flat pictures, and volumes cut into slices.

The first axis runs right and the second down, as in MONAI's axis order of pictures; the affine is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from bundle.data.image_io.raw_pixels import PictureError, Stored, check_bytes, check_pixels, reading

NIFTI = (".nii", ".nii.gz")
"""File suffixes of NIfTI, in lower case."""
CHANNELS = (3, 4)
"""Length of a last axis of colors, without and with alpha."""


def is_nifti(path: str | Path) -> bool:
    """Return whether a file is NIfTI by its suffix, ignoring case."""
    return Path(path).name.lower().endswith(NIFTI)


def flat_size(path: str | Path) -> tuple[int, int]:
    """Return (H, W) of a flat NIfTI from its header.

    Raises:
        FileNotFoundError: if the file does not exist.
        PictureError: if the header cannot be read, or the file is a volume.
    """
    with reading(path):
        width, height = _flat_shape(path, nibabel.load(path))
        return height, width


def decode_flat(path: str | Path) -> Stored:
    """Decode a NIfTI of shape (W, H), (W, H, 1), (W, H, 1, 1), or with colors as last axis or type (RGB24, RGBA32).

    Raises:
        FileNotFoundError: if the file does not exist.
        PictureError: if the file is damaged, not NIfTI, too large or a volume.
    """
    with reading(path):
        file: Any = nibabel.load(path)
        width, height = _flat_shape(path, file)
        check_pixels(path, width * height)
        _check_values(path, file)
        return _to_stored(_values(file).reshape(width, height, -1))


def nifti_shape(path: str | Path) -> tuple[int, ...]:
    """Return the shape of a NIfTI file from its header.

    Raises:
        FileNotFoundError: if the file does not exist.
        PictureError: if the header cannot be read, or declares too much.
    """
    with reading(path):
        file: Any = nibabel.load(path)
        _check_values(path, file)
        return tuple(file.shape)


def read_volume(path: str | Path) -> NDArray[Any]:
    """Read the values of a NIfTI volume: (X, Y, Z, C), with C = 1, 3 or 4.

    Raises:
        FileNotFoundError: if the file does not exist.
        PictureError: if the file is damaged, not NIfTI, too large or not a volume.
    """
    with reading(path):
        file: Any = nibabel.load(path)
        extra_axes = [length for length in file.shape[3:] if length > 1]
        if len(file.shape) < 3 or extra_axes not in ([], [3], [4]):
            raise PictureError(f"{path} has the shape {file.shape}; give a volume of three axes")
        _check_values(path, file)
        return _values(file).reshape(*file.shape[:3], -1)


def slices_of(volume: NDArray[Any], axis: int) -> Iterator[tuple[int, Stored]]:
    """Yield index and pixels of each slice of a volume (X, Y, Z, C); of the other two axes, the first runs right."""
    for index in range(volume.shape[axis]):
        yield index, _to_stored(volume.take(index, axis=axis))


def _check_values(path: str | Path, file: Any) -> None:
    """Check type and size of the values that a header declares, before they are read.

    Raises:
        PictureError: if they are no integers, floats or colors, none, or take too much memory.
    """
    stored, proxy = file.get_data_dtype(), file.dataobj
    if stored.kind not in "biufV":
        raise PictureError(f"{path} has values of the type {stored}; save it as a picture of 8 bits")
    count = math.prod(file.shape)
    if count < 1:
        raise PictureError(f"{path} has an axis of length 0; export it again")
    is_scaled = (getattr(proxy, "slope", 1.0), getattr(proxy, "inter", 0.0)) != (1.0, 0.0)
    check_bytes(path, count * (8 if is_scaled else stored.itemsize))  # scaling makes float64


def _values(file: Any) -> NDArray[Any]:
    """Return values with the scaling of the header, and colors of a structured type as a last axis."""
    values = np.asarray(file.dataobj)
    if values.dtype.names is not None:
        return np.stack([values[name] for name in values.dtype.names], axis=-1)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _flat_shape(path: str | Path, file: Any) -> tuple[int, int]:
    shape = tuple(file.shape)
    extra_axes = [length for length in shape[2:] if length > 1]
    if len(shape) < 2 or extra_axes not in ([], [3], [4]):
        raise PictureError(
            f"{path} is a volume of shape {shape}, not a flat picture; cut it into slices with "
            f"scripts/prepare_data.py folder --axis"
        )
    return shape[0], shape[1]


def _to_stored(values: NDArray[Any]) -> Stored:
    """Return values (W, H, C) as pixels."""
    pixels = np.swapaxes(values, 0, 1)
    if values.shape[2] not in CHANNELS:
        return Stored(pixels[..., 0])
    return Stored(pixels[..., :3], pixels[..., 3] if values.shape[2] == 4 else None)
