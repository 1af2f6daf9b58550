"""Atomic writing of weights and images, a check that a folder is writable, and the writer of TensorBoard."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from monai.config import NdarrayOrTensor, PathLike
from monai.data import PILWriter

from bundle.utils import atomic_path, remove_partials


def save_whole(content: Any, path: str | os.PathLike[str]) -> None:
    """Write a file atomically with ``torch.save``.

    Raises:
        OSError: if it cannot be written, for example on a full disk; the error names the file. The old file stays.
    """
    with atomic_path(path) as partial, partial.open("wb") as file:
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


def tensorboard_writer(output_dir: str | os.PathLike[str]) -> Any:
    """Return TensorBoard's ``SummaryWriter`` of the subfolder ``tensorboard``.

    Raises:
        OSError: if ``output_dir`` is not writable.
    """
    from torch.utils.tensorboard import SummaryWriter  # slow to import, and only trainings need it

    check_writable(output_dir)
    return SummaryWriter(log_dir=os.path.join(output_dir, "tensorboard"))


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
        with atomic_path(filename, Path(filename).suffix) as partial:
            super().write(partial, verbose, **kwargs)
