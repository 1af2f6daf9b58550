"""Images of a user's folder, their masks, and a table of their properties."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.data.image_io.pictures import IMAGE_SUFFIXES, is_picture
from bundle.data.lists import LARGEST_MPP
from bundle.data.message_text import join_names, pluralize
from bundle.data.skipped_files import is_broken_link
from scripts.data_preparation.folder_tree import MASK_FOLDERS, folders_in, in_mask_folder, name_in, stem

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
    """Find images and their masks: pictures whose name is that of the image plus ``suffix``.

    Folders inside are searched too; their names are part of the names, see ``folder_tree.name_in``.

    Args:
        images: folder of images.
        masks: folder of masks. ``None`` means that of images: masks are then in folders inside named for masks, such
            as ``label``, or their names end in ``suffix``.
        suffix: suffix of mask names after the name of the image, for example ``_mask``.

    Returns:
        Pairs sorted by name. Names are in Unicode form NFC, so that files from other systems match.

    Raises:
        FileNotFoundError: if a folder does not exist.
        ValueError: if there are no images or no masks, a mask has no image, or two images have the same name.
    """
    root = Path(images).expanduser().absolute()
    folder = Path(images if masks is None else masks).expanduser().absolute()
    image_files = _pictures(root, "--images", folder)
    mask_files = _pictures(folder, "--masks", root)
    same_folder = os.path.samefile(folder, root)
    if same_folder:
        mask_files = [file for file in mask_files if _is_mask(file, root, suffix)]
        _check_links(folder, root, lambda file: _is_mask(file, root, suffix))
        if not suffix and not mask_files:
            raise ValueError(_ambiguous_message(image_files, folder, masks is not None))
        image_files = [file for file in image_files if not _is_mask(file, root, suffix)]
    else:
        _check_links(folder, root, lambda file: name_in(file, folder).endswith(suffix))
        _refuse_mask_folders(image_files, root)
    names = _by_name(image_files, root)
    mask_names = _by_name([file for file in mask_files if name_in(file, folder).endswith(suffix)], folder)
    unmatched = [file for name, file in mask_names.items() if name[: len(name) - len(suffix)] not in names]
    unmatched += [file for file in mask_files if not name_in(file, folder).endswith(suffix)]
    if unmatched:
        raise ValueError(_unmatched_message(unmatched, folder, names, suffix))
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
    names = [stem(row[COLUMN]) for row in rows]
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise ValueError(f"{path} has several rows for {join_names(duplicates)}; give each image one row")
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
            f"the table has {pluralize(len(unknown), 'row')} without an image ({join_names(unknown)}); "
            "give the file names or stems of the images (FOLDER_NAME in folders inside), or remove the rows"
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


def _pictures(folder: Path, option: str, other: Path) -> list[Path]:
    """Return the pictures of a folder and of folders inside, without those of another folder that may be inside."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; give {option} a folder of pictures")
    pictures = [file for file in _files(folder, other) if file.is_file()]
    if not pictures:
        raise ValueError(
            f"no picture in {folder} or folders inside; give {option} a folder with {', '.join(IMAGE_SUFFIXES)} files"
        )
    return pictures


def _files(folder: Path, other: Path) -> list[Path]:
    return [file for inside in folders_in(folder, other) for file in sorted(inside.iterdir()) if is_picture(file)]


def _is_mask(file: Path, root: Path, suffix: str) -> bool:
    """Return whether a picture of a folder that holds images and masks is a mask."""
    return in_mask_folder(file, root) or (bool(suffix) and name_in(file, root).endswith(suffix))


def _refuse_mask_folders(images: Sequence[Path], root: Path) -> None:
    """Refuse folders of masks among the images, if the masks are said to be elsewhere."""
    masks = next((file for file in images if in_mask_folder(file, root)), None)
    if masks is not None:
        raise ValueError(
            f"{masks.parent} has a name of masks, but is in the folder of --images; omit --masks to use its pictures "
            "as masks, or give --images the folder of images alone"
        )


def _check_links(folder: Path, other: Path, is_mask: Callable[[Path], bool]) -> None:
    """Refuse broken links of masks: their images would silently become unlabeled."""
    masks = [file.name for file in _files(folder, other) if is_broken_link(file) and is_mask(file)]
    if masks:
        links = "is a broken link" if len(masks) == 1 else "are broken links"
        raise ValueError(
            f"{pluralize(len(masks), 'mask')} in {folder} {links} ({join_names(masks)}); restore the files, or remove "
            "the links"
        )


def _by_name(files: Sequence[Path], root: Path) -> dict[str, Path]:
    """Return the files by name; names that differ only in case are refused, because some file systems ignore case."""
    counts = Counter(name_in(file, root).casefold() for file in files)
    duplicates = [file for file in files if counts[name_in(file, root).casefold()] > 1]
    if duplicates:
        raise ValueError(
            f"names of {pluralize(len(duplicates), 'picture')} differ only in suffix, case or folder "
            f"({join_names(duplicates)}); rename them"
        )
    return {name_in(file, root): file for file in files}


def _unmatched_message(files: Sequence[Path], folder: Path, names: Mapping[str, Path], suffix: str) -> str:
    """Return the message on masks without image, with the suffix that would match all of them."""
    endings = {_ending(name_in(file, folder), names) for file in files}
    ending = endings.pop()
    if not endings and ending and not suffix:
        advice = f'give --mask-suffix="{ending}" if names of masks end in that'
    else:
        advice = f"name masks like their images{f' plus {suffix}' if suffix else ''}, or remove them"
    return f"{pluralize(len(files), 'mask')} without an image ({join_names(files)}); {advice}"


def _ending(name: str, names: Mapping[str, Path]) -> str | None:
    """Return the rest of a name that starts with the name of an image, such as ``_mask``."""
    cuts = (cut for cut in range(len(name) - 1, 0, -1) if name[:cut] in names and name[cut] in "_-. ")
    return next((name[cut:] for cut in cuts), None)


def _ambiguous_message(files: Sequence[Path], folder: Path, given: bool) -> str:
    """Return the message on images and masks that cannot be distinguished."""
    names = {name_in(file, folder): file for file in files}
    endings = Counter(filter(None, (_ending(name, names) for name in names)))
    if endings:
        suffix = endings.most_common(1)[0][0]
        return f'{folder} seems to hold images and masks; give the suffix of mask names: --mask-suffix="{suffix}"'
    if given:
        return f"{folder} is also the folder of images; give the suffix of mask names as --mask-suffix"
    return (
        "no masks are given; give --masks, the folder of masks, or --mask-suffix if they are among the images (folders "
        f"inside that are named {', '.join(MASK_FOLDERS[:4])} or the like are used without either)"
    )
