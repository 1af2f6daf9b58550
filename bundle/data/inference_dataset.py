"""Pictures and slides for inference; a damaged picture does not stop the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from monai.data import Dataset

from bundle.data.image_io.raw_pixels import PictureError
from bundle.data.skipped_files import warn_of_others
from bundle.types import FAILED, IMAGE

SLIDE_SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide", ".qptiff")
"""File suffixes of whole-slide images."""
DICOM_SUFFIX = ".dcm"
"""Suffix of files that may be a level of a slide."""


def slides_to_predict(
    dataset_dir: str | Path, data_list: str | None = None, series: Callable[[Path], str | None] | None = None
) -> list[dict[str, str]]:
    """Return the whole-slide images of a folder, sorted by name, or a single one.

    Files that are left out are named in a warning.

    Args:
        dataset_dir: folder of slides, or one slide.
        data_list: must be ``None``, because data lists are lists of tiles.
        series: returns the series of a DICOM file, ``None`` if it is no readable slide. Files of one series are levels
            of one slide, of which the first by name stands for all. Without ``series``, DICOM files are left out.

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
    files = [file for file in sorted(path.iterdir()) if _has_suffix(file, SLIDE_SUFFIXES) and file.is_file()]
    levels, unreadable = _dicom_levels(path, series)
    warn_of_others(path, [*files, *levels], dict.fromkeys(unreadable, "no slide that OpenSlide can open"))
    files = sorted([*files, *{uid: file for file, uid in reversed(levels.items())}.values()])
    if not files:
        suffixes = ", ".join([*SLIDE_SUFFIXES, *([DICOM_SUFFIX] if series else [])])
        raise ValueError(f"no slide in {path}; give a folder with {suffixes} files")
    stems = [file.stem for file in files]
    duplicates = sorted({str(file) for file in files if stems.count(file.stem) > 1})
    if duplicates:
        raise ValueError(f"names of slides differ only in the suffix ({', '.join(duplicates)}); rename them")
    return [{IMAGE: str(file)} for file in files]


def _dicom_levels(folder: Path, series: Callable[[Path], str | None] | None) -> tuple[dict[Path, str], list[str]]:
    """Return the DICOM files of a folder, sorted, with their series; and the names of those that are not slides."""
    if series is None:
        return {}, []
    files = [file for file in sorted(folder.iterdir()) if _has_suffix(file, (DICOM_SUFFIX,)) and file.is_file()]
    found = {file: series(file) for file in files}
    return {file: uid for file, uid in found.items() if uid}, [file.name for file, uid in found.items() if not uid]


def _has_suffix(file: Path, suffixes: Collection[str]) -> bool:
    """Return whether a file has a suffix; hidden files are not slides, such as ``._slide.tif`` of macOS."""
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


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
