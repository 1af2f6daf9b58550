"""Pictures and slides for inference; a damaged picture does not stop the run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai.data import Dataset

from bundle.data.left_out import warn_of_others
from bundle.data.raw_pixels import PictureError
from bundle.types import FAILED, IMAGE

SLIDE_SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide")
"""File suffixes of whole-slide images."""


def slides_to_predict(dataset_dir: str | Path, data_list: str | None = None) -> list[dict[str, str]]:
    """Return the whole-slide images of a folder, sorted by name, or a single one.

    Args:
        dataset_dir: folder of slides, or one slide.
        data_list: must be ``None``, because data lists are lists of tiles.

    Returns:
        ``{"image": absolute path}`` for each slide.

    Raises:
        FileNotFoundError: if the path does not exist.
        ValueError: if the folder has no slides, or two whose names differ only in the suffix.
    """
    if data_list is not None:
        raise ValueError(f"data_list is {data_list!r}, but slides are taken from a folder; remove it")
    path = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    if path.is_file():
        return [{IMAGE: str(path)}]
    if not path.is_dir():
        raise FileNotFoundError(f"no folder or slide {path}; give --dataset_dir, a folder of slides or one slide")
    files = [file for file in sorted(path.iterdir()) if _is_slide_name(file) and file.is_file()]
    warn_of_others(path, files)
    if not files:
        raise ValueError(f"no slide in {path}; give a folder with {', '.join(SLIDE_SUFFIXES)} files")
    stems = [file.stem for file in files]
    duplicates = sorted({str(file) for file in files if stems.count(file.stem) > 1})
    if duplicates:
        raise ValueError(f"names of slides differ only in the suffix ({', '.join(duplicates)}); rename them")
    return [{IMAGE: str(file)} for file in files]


def _is_slide_name(file: Path) -> bool:
    """Return whether a file is a slide by its suffix; hidden files are not, such as ``._slide.tif`` of macOS."""
    return file.suffix.lower() in SLIDE_SUFFIXES and not file.name.startswith(".")


class PicturesToPredict(Dataset):
    """MONAI's ``Dataset`` of entries with the path ``image``, with an error message instead of an unreadable file.

    Such an item is ``{"image": path, "failed": message}``, for ``bundle.engines.Predictor``. Other errors, for example
    of a setting, stop the run. The batch size must be 1.

    Arguments are those of ``Dataset``.
    """

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except (RuntimeError, ValueError, OSError) as error:  # MONAI wraps what a reader raises
            reason = _file_error(error)
            if reason is None:
                raise
            return {IMAGE: str(self.data[index][IMAGE]), FAILED: reason}


def _file_error(error: BaseException) -> str | None:
    """Return the message of the underlying file error, or ``None`` if the file is not the cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PictureError | FileNotFoundError | PermissionError | IsADirectoryError):
            return " ".join(str(cause).split())
        cause = cause.__cause__ or cause.__context__
    return None
