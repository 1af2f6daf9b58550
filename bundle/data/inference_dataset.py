"""Pictures and slides for inference, one of which may be broken without stopping the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai.data import Dataset

from bundle.data.stored import PictureError
from bundle.types import FAILED, IMAGE

SLIDE_SUFFIXES = (".svs", ".tif", ".tiff", ".ndpi", ".scn", ".mrxs", ".vms", ".vmu", ".bif", ".svslide")
"""Endings of the names of whole-slide images."""


def slides_to_predict(dataset_dir: str | Path, data_list: str | None = None) -> list[dict[str, str]]:
    """The whole-slide images of a folder, sorted by name, or one of them.

    Args:
        dataset_dir: the folder, or the file.
        data_list: refused; a data list names tiles.

    Returns:
        ``{"image": absolute path}`` for each.

    Raises:
        FileNotFoundError: where there is neither.
        ValueError: where the folder holds no slide, or two whose names differ in the ending alone.
    """
    if data_list is not None:
        raise ValueError(f"data_list is {data_list!r}, but whole slides are taken from a folder; leave it out")
    path = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    if path.is_file():
        return [{IMAGE: str(path)}]
    if not path.is_dir():
        raise FileNotFoundError(
            f"no folder or slide {path}; give --dataset_dir, a folder that holds slides, or one slide"
        )
    files = [file for file in sorted(path.iterdir()) if file.suffix.lower() in SLIDE_SUFFIXES and file.is_file()]
    if not files:
        raise ValueError(f"no slide in {path}; give a folder that holds {', '.join(SLIDE_SUFFIXES)} files")
    stems = [file.stem for file in files]
    twice = sorted({str(file) for file in files if stems.count(file.stem) > 1})
    if twice:
        raise ValueError(f"slides share a name but for the ending ({', '.join(twice)}); rename them: results would too")
    return [{IMAGE: str(file)} for file in files]


class PicturesToPredict(Dataset):
    """MONAI's ``Dataset`` of entries with ``image``, a path; a file that cannot be read gives the reason instead.

    Such an item is ``{"image": path, "failed": sentence}``, for ``bundle.engines.Predictor``. Errors of other kinds,
    for instance of a setting, stop the run as ever. The batch size must be 1.

    Args, errors: as for ``Dataset``.
    """

    def _transform(self, index: int) -> Any:
        try:
            return super()._transform(index)
        except (RuntimeError, ValueError, OSError) as error:  # MONAI wraps what a reader raises
            reason = _of_the_file(error)
            if reason is None:
                raise
            return {IMAGE: str(self.data[index][IMAGE]), FAILED: reason}


def _of_the_file(error: BaseException) -> str | None:
    """What the error below says of the file itself; nothing where the file is not to blame."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, PictureError | FileNotFoundError | PermissionError | IsADirectoryError):
            return " ".join(str(cause).split())
        cause = cause.__cause__ or cause.__context__
    return None
