"""NIfTI files: flat pictures, and volumes cut into slices.

The first axis runs right and the second down, as MONAI orders the axes of pictures; the affine is not asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from bundle.data.stored import PictureError, Stored, check_size, reading

NIFTI = (".nii", ".nii.gz")
"""How the name of a NIfTI file ends, in small letters."""
CHANNELS = (3, 4)
"""Length of a last axis that holds colors, without and with alpha."""


def is_nifti(path: str | Path) -> bool:
    """Whether a file is NIfTI, by its suffix in any case."""
    return Path(path).name.lower().endswith(NIFTI)


def flat_size(path: str | Path) -> tuple[int, int]:
    """(H, W) of a flat NIfTI from its header.

    Raises:
        FileNotFoundError: where there is no such file.
        PictureError: where the header cannot be read, or the file is a volume.
    """
    with reading(path):
        width, height = _flat_shape(path, nibabel.load(path))
        return height, width


def decode_flat(path: str | Path) -> Stored:
    """Decode a NIfTI of shape (W, H), (W, H, 1), (W, H, 1, 1), or with colors as last axis or type (RGB24, RGBA32).

    Raises:
        FileNotFoundError: where there is no such file.
        PictureError: where the file is damaged, no NIfTI, too large or a volume.
    """
    with reading(path):
        file = nibabel.load(path)
        width, height = _flat_shape(path, file)
        check_size(path, width * height)
        return _stored(_values(file).reshape(width, height, -1))


def read_volume(path: str | Path) -> NDArray[Any]:
    """Values of a NIfTI volume: (X, Y, Z, C), with C = 1, 3 or 4.

    Raises:
        FileNotFoundError: where there is no such file.
        PictureError: where the file is damaged, no NIfTI or no volume.
    """
    with reading(path):
        file: Any = nibabel.load(path)
        more = [length for length in file.shape[3:] if length > 1]
        if len(file.shape) < 3 or more not in ([], [3], [4]):
            raise PictureError(f"{path} has the shape {file.shape}, which is no volume; give one of three axes")
        return _values(file).reshape(*file.shape[:3], -1)


def slices_of(volume: NDArray[Any], axis: int) -> Iterator[tuple[int, Stored]]:
    """Index and pixels of each slice of a volume (X, Y, Z, C); of the two axes left the first runs right."""
    for index in range(volume.shape[axis]):
        yield index, _stored(volume.take(index, axis=axis))


def _values(file: Any) -> NDArray[Any]:
    """Values with the scaling of the header; colors of a structured type as a last axis."""
    values = np.asarray(file.dataobj)
    if values.dtype.names is not None:
        return np.stack([values[name] for name in values.dtype.names], axis=-1)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _flat_shape(path: str | Path, file: Any) -> tuple[int, int]:
    shape = tuple(file.shape)
    more = [length for length in shape[2:] if length > 1]
    if len(shape) < 2 or more not in ([], [3], [4]):
        raise PictureError(
            f"{path} is a volume of the shape {shape}, not a flat picture; cut it into slices with "
            f"scripts/prepare_data.py folder --axis"
        )
    return shape[0], shape[1]


def _stored(values: NDArray[Any]) -> Stored:
    """(W, H, C) as pixels."""
    turned = np.swapaxes(values, 0, 1)
    if values.shape[2] not in CHANNELS:
        return Stored(turned[..., 0])
    return Stored(turned[..., :3], turned[..., 3] if values.shape[2] == 4 else None)
