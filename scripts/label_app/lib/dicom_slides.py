"""DICOM slides in a folder of images: the levels of a slide are files of one series, and count as one image."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from bundle.slides import dicom_series
from bundle.slides.reader_openslide import DICOM_SUFFIX

logger = logging.getLogger(__name__)


def is_dicom(name: str) -> bool:
    """Return whether a file name has the extension of DICOM, in any case."""
    return name.lower().endswith(DICOM_SUFFIX)


def without_levels(folder: Path, names: Iterable[str], is_listed: Callable[[str], bool]) -> list[str]:
    """Return the names of files with one DICOM file for each slide.

    Args:
        folder: folder of the files.
        names: names of the files, of any format, in order.
        is_listed: whether a file stands for its slide already; otherwise the first of the series does.

    Returns:
        All other names, in order. DICOM files that OpenSlide cannot open, such as those of radiology, are left out and
        named in the log.
    """
    kept, first = list[str](), dict[str, str]()
    for name in names:
        if not is_dicom(name):
            kept.append(name)
        elif (series := _series_of(folder / name)) and (series not in first or is_listed(name)):
            first[series] = name
    return sorted([*kept, *first.values()])


def files_of(path: Path) -> list[Path]:
    """Return all files of an image: of a DICOM slide, those of its series in the same folder."""
    series = _series_of(path) if is_dicom(path.name) else ""
    if not series:
        return [path]
    others = (file for file in sorted(path.parent.iterdir()) if is_dicom(file.name) and file.is_file())
    return [file for file in others if _series_of(file) == series]


def _series_of(path: Path) -> str:
    """Return the series of a DICOM slide; empty if OpenSlide cannot open it."""
    file = os.stat(path)
    return _read_series(str(path), file.st_mtime_ns, file.st_size)


@lru_cache(maxsize=4096)
def _read_series(path: str, changed: int, size: int) -> str:
    """Read the series, cached by modification time and size; a file that is no slide is named once in the log."""
    series = dicom_series(path)
    if series is None:
        logger.warning("%s is left out: it is no slide that OpenSlide can open; export the slide again", path)
    return series or ""
