"""Images of a user's folder, their masks, and a table of their properties."""

from __future__ import annotations

import csv
import io
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.data.left_out import is_dead_link
from bundle.data.lists import LARGEST_MPP
from bundle.data.message_text import counted, some
from bundle.data.pictures import IMAGE_SUFFIXES, is_picture, stem_of

COLUMN = "image"
KNOWN = ("patient", "grade", "domain", "mpp")
"""Columns that a table may have besides ``image``."""


@dataclass(frozen=True)
class Pair:
    """One image file, and its mask if it has one."""

    name: str
    image: Path
    mask: Path | None


def find_pairs(images: str | Path, masks: str | Path | None = None, suffix: str = "") -> list[Pair]:
    """Find the images of a folder and their masks: files whose stem is that of the image plus ``suffix``.

    Args:
        images: folder of images; subfolders are ignored.
        masks: folder of masks; may be the folder of images if there is a ``suffix``, which is meant by ``None``.
        suffix: suffix of mask names after the name of the image, for example ``_mask``.

    Returns:
        Pairs sorted by name. Names are stems in Unicode form NFC, so that files from other systems match.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if there are no images or no masks, a mask has no image, or two images have the same name.
    """
    image_files = _pictures(Path(images).expanduser().absolute(), "--images")
    folder = Path(images if masks is None else masks).expanduser().absolute()
    mask_files = _pictures(folder, "--masks")
    _check_links(folder, suffix)
    same_folder = os.path.samefile(folder, image_files[0].parent)
    if same_folder:
        if not suffix:
            raise ValueError(_ambiguous_message(image_files, folder, masks is not None))
        image_files = [file for file in image_files if not _name_of(file).endswith(suffix)]
    names = _by_name(image_files)
    mask_names = _by_name([file for file in mask_files if _name_of(file).endswith(suffix)])
    unmatched = [file for name, file in mask_names.items() if name[: len(name) - len(suffix)] not in names]
    if not same_folder:
        unmatched += [file for file in mask_files if not _name_of(file).endswith(suffix)]
    if unmatched:
        raise ValueError(_unmatched_message(unmatched, names, suffix))
    if not mask_names:
        raise ValueError(f"no name in {folder} ends in {suffix}; give the suffix of mask names as --mask-suffix")
    return [Pair(name, file, mask_names.get(name + suffix)) for name, file in sorted(names.items())]


def read_table(path: str | Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read properties of images from a CSV file in UTF-8, separated by commas, semicolons or tabs.

    Args:
        path: a file with the column ``image`` (file name or stem) and any of ``patient``, ``grade``, ``domain``,
            ``mpp``; empty cells are unknown.

    Returns:
        Name of an image -> its properties; and the columns that are not used.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if columns are missing, an image has two rows, or an ``mpp`` is not a number above 0.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no table {path}; give --table a CSV file with the column {COLUMN}")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8; save it as CSV in UTF-8") from error
    header = text.partition("\n")[0]
    separator = max(",;\t", key=header.count)
    rows = [
        {(key or "").strip().lower(): (cell or "").strip() for key, cell in row.items() if key is not None}
        for row in csv.DictReader(io.StringIO(text, newline=""), delimiter=separator)
    ]
    columns = list(rows[0]) if rows else []
    rows = [row for row in rows if row.get(COLUMN, "?")]
    if COLUMN not in columns or not set(columns) & set(KNOWN):
        raise ValueError(
            f"{path} has the columns {', '.join(columns) or 'of an empty file'}; "
            f"give {COLUMN} and one or more of {', '.join(KNOWN)}"
        )
    names = [_stem(row[COLUMN]) for row in rows]
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise ValueError(f"{path} has several rows for {some(duplicates)}; give each image one row")
    known = {name: _row_values(row, path) for name, row in zip(names, rows, strict=True)}
    return known, [column for column in columns if column not in (COLUMN, *KNOWN)]


def check_rows(table: Iterable[str], names: Iterable[str]) -> None:
    """Check that all rows of a table belong to images, so that no patient is lost by a wrong name.

    Raises:
        ValueError: if a name in ``table`` is not in ``names``.
    """
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise ValueError(
            f"the table has {counted(len(unknown), 'row')} without an image ({some(unknown)}); "
            f"give the file names or stems of the images, or remove the rows"
        )


def _row_values(row: Mapping[str, str], path: str | Path) -> dict[str, Any]:
    known: dict[str, Any] = {key: row[key] for key in KNOWN if row.get(key)}
    if "mpp" in known:
        try:
            known["mpp"] = float(known["mpp"].replace(",", "."))
        except ValueError:
            known["mpp"] = math.nan
        if not 0 < known["mpp"] <= LARGEST_MPP:
            raise ValueError(
                f"{path} has the mpp {row['mpp']} for {row[COLUMN]}; give um, above 0 and at most {LARGEST_MPP}"
            )
    return known


def _pictures(folder: Path, option: str) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; give {option} a folder of pictures")
    pictures = [file for file in sorted(folder.iterdir()) if is_picture(file) and file.is_file()]
    if not pictures:
        raise ValueError(
            f"no picture in {folder} (subfolders are ignored); "
            f"give {option} a folder with {', '.join(IMAGE_SUFFIXES)} files"
        )
    return pictures


def _check_links(folder: Path, suffix: str) -> None:
    """Refuse links of masks that lead nowhere: their images would silently become unlabeled."""
    dead = [file for file in sorted(folder.iterdir()) if is_picture(file) and is_dead_link(file)]
    masks = [file.name for file in dead if _name_of(file).endswith(suffix)]
    if masks:
        links = "is a link that leads" if len(masks) == 1 else "are links that lead"
        raise ValueError(
            f"{counted(len(masks), 'mask')} in {folder} {links} nowhere ({some(masks)}); restore the files, or remove "
            "the links"
        )


def _by_name(files: Sequence[Path]) -> dict[str, Path]:
    """Return the files by name; names that differ only in case are refused, because some file systems ignore case."""
    counts = Counter(_name_of(file).casefold() for file in files)
    duplicates = [file for file in files if counts[_name_of(file).casefold()] > 1]
    if duplicates:
        raise ValueError(
            f"names of {counted(len(duplicates), 'picture')} differ only in suffix or case ({some(duplicates)}); "
            f"rename them"
        )
    return {_name_of(file): file for file in files}


def _name_of(file: Path) -> str:
    return _stem(file.name)


def _stem(name: str) -> str:
    """Return the stem in Unicode form NFC; a name without the suffix of a picture is a stem."""
    return unicodedata.normalize("NFC", stem_of(name) if is_picture(name) else name)


def _unmatched_message(files: Sequence[Path], names: Mapping[str, Path], suffix: str) -> str:
    """Return the message on masks without image, with the suffix that would match all of them."""
    endings = {_ending(_name_of(file), names) for file in files}
    ending = endings.pop()
    if not endings and ending and not suffix:
        advice = f'give --mask-suffix="{ending}" if names of masks end in that'
    else:
        advice = f"name masks like their images{f' plus {suffix}' if suffix else ''}, or remove them"
    return f"{counted(len(files), 'mask')} without an image ({some(files)}); {advice}"


def _ending(name: str, names: Mapping[str, Path]) -> str | None:
    """Return the rest of a name that starts with the name of an image, such as ``_mask``."""
    cuts = (cut for cut in range(len(name) - 1, 0, -1) if name[:cut] in names and name[cut] in "_-. ")
    return next((name[cut:] for cut in cuts), None)


def _ambiguous_message(files: Sequence[Path], folder: Path, given: bool) -> str:
    """Return the message on images and masks that cannot be distinguished."""
    names = {_name_of(file): file for file in files}
    endings = Counter(filter(None, (_ending(name, names) for name in names)))
    if endings:
        suffix = endings.most_common(1)[0][0]
        return f'{folder} seems to hold images and masks; give the suffix of mask names: --mask-suffix="{suffix}"'
    if given:
        return f"{folder} is also the folder of images; give the suffix of mask names as --mask-suffix"
    return "no masks are given; give --masks, the folder of masks, or --mask-suffix if they are among the images"
