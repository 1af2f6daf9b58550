"""Atomic writing of files: a file is complete or missing, also if the run is killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import torch
from monai.config import NdarrayOrTensor, PathLike
from monai.data import PILWriter


@contextmanager
def whole(path: str | os.PathLike[str], suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path beside a file, which is renamed to the file at the end.

    The temporary name is random, because process ids are equal in two threads and in containers that share a folder.
    The temporary file is removed after an error. ``remove_partials`` removes those of killed runs.

    Args:
        path: file to write; its folder is created if missing.
        suffix: end of the temporary name, for writers that choose the format by it.

    Raises:
        OSError: if the folder or the file cannot be written, for example on a full disk; the error names the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{token_hex(4)}.partial{suffix}")
    try:
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        cause = _disk_error(error)
        if cause is None or cause.errno is None:
            raise
        raise OSError(cause.errno, os.strerror(cause.errno), str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def _disk_error(error: BaseException | None) -> OSError | None:
    """Return the OSError behind an error; torch wraps it in an error of another type."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def remove_partials(path: str | os.PathLike[str]) -> None:
    """Remove temporary files that killed runs left beside a file."""
    path = Path(path)
    for partial in path.parent.glob(f".{path.name}.*.partial*"):
        partial.unlink(missing_ok=True)


def save_whole(content: Any, path: str | os.PathLike[str]) -> None:
    """Write a file atomically with ``torch.save``.

    Raises:
        OSError: if it cannot be written, for example on a full disk; the error names the file. The old file stays.
    """
    with whole(path) as partial, partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Create a folder if missing and test that it is writable, to fail before the first epoch and not after it.

    Raises:
        OSError: if it is not writable; the error names the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            file.write(bytes(65536))  # on a full disk an empty file can still be created
            file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error


class WholePictureWriter(PILWriter):
    """Image writer like MONAI's ``PILWriter``, but atomic; for ``SaveImaged(writer=...)``.

    It also writes images with a side of one pixel, where ``PILWriter`` squeezes the dimension and fails.
    """

    def set_data_array(
        self,
        data_array: NdarrayOrTensor,
        channel_dim: int | None = 0,
        squeeze_end_dims: bool = True,
        contiguous: bool = False,
        **kwargs: Any,
    ) -> None:
        """Set the image to write.

        Args:
            data_array: the image, (C, W, H) if ``channel_dim`` is 0.
            channel_dim: dimension of the channels, ``None`` if there is none.
            squeeze_end_dims: whether to drop a single channel.
            contiguous: whether to make the array contiguous.
            **kwargs: as for MONAI's ``PILWriter``.
        """
        super().set_data_array(data_array, channel_dim, False, contiguous, **kwargs)
        if squeeze_end_dims and self.data_obj.ndim == 3 and self.data_obj.shape[-1] == 1:
            self.data_obj = self.data_obj[..., 0]

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: Any) -> None:
        """Write the image.

        Args:
            filename: file to write; its suffix determines the format.
            verbose: whether to log the file name.
            **kwargs: as for MONAI's ``PILWriter``.

        Raises:
            OSError: if it cannot be written; the error names the file.
        """
        remove_partials(filename)
        with whole(filename, Path(filename).suffix) as partial:
            super().write(partial, verbose, **kwargs)
