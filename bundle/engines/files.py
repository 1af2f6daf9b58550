"""Files that appear whole or not at all, whatever stops the run that writes them."""

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
    """Place to write a file to: beside its own, and renamed into it at the end.

    Its name is drawn: the number of the process would be the same in two threads, or in containers that share a folder.
    After an error it is taken away. What a killed run leaves there, ``remove_partials`` takes away.

    Args:
        path: where the file shall appear; its folder is made where it is missing.
        suffix: how the name of the place ends, for writers that go by it.

    Raises:
        OSError: where the folder cannot be made or the file not be written, for instance on a full disk; names it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{token_hex(4)}.partial{suffix}")
    try:
        yield partial
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        cause = _of_the_disk(error)
        if cause is None or cause.errno is None:
            raise
        raise OSError(cause.errno, os.strerror(cause.errno), str(path)) from error
    finally:
        partial.unlink(missing_ok=True)


def _of_the_disk(error: BaseException | None) -> OSError | None:
    """The error of the system behind another: a write names no file, and torch hides it behind one of its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def remove_partials(path: str | os.PathLike[str]) -> None:
    """Take away what runs that were killed while writing a file have left beside it."""
    path = Path(path)
    for partial in path.parent.glob(f".{path.name}.*.partial*"):
        partial.unlink(missing_ok=True)


def save_whole(content: Any, path: str | os.PathLike[str]) -> None:
    """Write a file with ``torch.save`` whole or not at all: beside its place first, then renamed into it.

    Raises:
        OSError: where it cannot be written, for instance on a full disk; names the file. The old file stays.
    """
    with whole(path) as partial, partial.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Make a folder where it is missing, and try to write there: better now than after the first epoch.

    Raises:
        OSError: where that fails; names the folder.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            file.write(bytes(65536))  # a full disk takes a file, but no content
            file.flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder)) from error


class WholePictureWriter(PILWriter):
    """Writes pictures as MONAI's ``PILWriter`` does, but whole or not at all; for ``SaveImaged(writer=...)``.

    Of sides of one pixel it drops none; MONAI's takes them for channels, and fails.
    """

    def set_data_array(
        self,
        data_array: NdarrayOrTensor,
        channel_dim: int | None = 0,
        squeeze_end_dims: bool = True,
        contiguous: bool = False,
        **kwargs: Any,
    ) -> None:
        """Take the picture.

        Args:
            data_array: the picture, (C, W, H) where ``channel_dim`` is 0.
            channel_dim: where the channels are, ``None`` without.
            squeeze_end_dims: whether a single channel is dropped.
            contiguous: whether the array is copied into one piece.
            **kwargs: as for MONAI's ``PILWriter``.
        """
        super().set_data_array(data_array, channel_dim, False, contiguous, **kwargs)
        if squeeze_end_dims and self.data_obj.ndim == 3 and self.data_obj.shape[-1] == 1:
            self.data_obj = self.data_obj[..., 0]

    def write(self, filename: PathLike, verbose: bool = False, **kwargs: Any) -> None:
        """Write the picture.

        Args:
            filename: where; the suffix says how.
            verbose: whether the log names the file.
            **kwargs: as for MONAI's ``PILWriter``.

        Raises:
            OSError: where it cannot be written; names the file.
        """
        remove_partials(filename)
        with whole(filename, Path(filename).suffix) as partial:
            super().write(partial, verbose, **kwargs)
