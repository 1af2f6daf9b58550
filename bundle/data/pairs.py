"""Images of a folder of one's own, each with its mask and with what a table knows of it."""

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

from bundle.data.pictures import IMAGE_SUFFIXES, is_picture, stem_of
from bundle.data.sentences import counted, some

COLUMN = "image"
KNOWN = ("patient", "grade", "domain", "mpp")
"""Columns that a table may have beside ``image``."""


@dataclass(frozen=True)
class Pair:
    """One image file, and its mask where it has one."""

    name: str
    image: Path
    mask: Path | None


def find_pairs(images: str | Path, masks: str | Path | None = None, suffix: str = "") -> list[Pair]:
    """Find the images of a folder and the mask of each: the file whose stem is that of the image and ``suffix``.

    Args:
        images: folder of images; folders inside it are not looked into.
        masks: folder of masks, which may be that of the images where ``suffix`` tells them apart; ``None`` is that.
        suffix: what the names of masks have behind those of their images, for instance ``_mask``.

    Returns:
        Pairs sorted by name. Names are stems in the normal form NFC of Unicode, so that files from other systems match.

    Raises:
        FileNotFoundError: where a folder does not exist.
        ValueError: without an image or without a mask, where a mask has no image, or two images have one name.
    """
    there = _pictures(Path(images).expanduser().absolute(), "--images")
    folder = Path(images if masks is None else masks).expanduser().absolute()
    inside = _pictures(folder, "--masks")
    same = os.path.samefile(folder, there[0].parent)
    if same:
        if not suffix:
            raise ValueError(_no_masks(there, folder, masks is not None))
        there = [file for file in there if not _key(file).endswith(suffix)]
    names = _unique(there)
    mask_names = _unique([file for file in inside if _key(file).endswith(suffix)])
    lonely = [file for name, file in mask_names.items() if name[: len(name) - len(suffix)] not in names]
    if not same:
        lonely += [file for file in inside if not _key(file).endswith(suffix)]
    if lonely:
        raise ValueError(_lonely(lonely, names, suffix))
    if not mask_names:
        raise ValueError(f"no name in {folder} ends in {suffix}; give the --mask-suffix that names of masks have")
    return [Pair(name, file, mask_names.get(name + suffix)) for name, file in sorted(names.items())]


def read_table(path: str | Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Read what is known of images from a CSV file, separated by commas, semicolons or tabs, in UTF-8.

    Args:
        path: a file with the column ``image`` (file name or stem) and any of ``patient``, ``grade``, ``domain``,
            ``mpp``; empty cells are not known.

    Returns:
        Name of an image -> what is known of it; and the columns that are not used.

    Raises:
        FileNotFoundError: without the file.
        ValueError: without the columns, where an image has two rows, or an ``mpp`` is no number above 0.
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
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has several rows for {some(twice)}; give each image one row")
    known = {name: _known(row, path) for name, row in zip(names, rows, strict=True)}
    return known, [column for column in columns if column not in (COLUMN, *KNOWN)]


def check_rows(table: Iterable[str], names: Iterable[str]) -> None:
    """Refuse rows of a table that are of no image: a wrong name would lose a patient.

    Raises:
        ValueError: where ``table`` has a name that ``names`` do not have.
    """
    unknown = sorted(set(table) - set(names))
    if unknown:
        raise ValueError(
            f"the table has {counted(len(unknown), 'row')} without an image ({some(unknown)}); "
            f"give the file names or stems of the images, or take the rows away"
        )


def _known(row: Mapping[str, str], path: str | Path) -> dict[str, Any]:
    known: dict[str, Any] = {key: row[key] for key in KNOWN if row.get(key)}
    if "mpp" in known:
        try:
            known["mpp"] = float(known["mpp"].replace(",", "."))
        except ValueError:
            known["mpp"] = math.nan
        if not 0 < known["mpp"] < math.inf:
            raise ValueError(f"{path} gives {row[COLUMN]} the mpp {row['mpp']}; give um, a number above 0")
    return known


def _pictures(folder: Path, option: str) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; give {option} a folder that holds pictures")
    found = [file for file in sorted(folder.iterdir()) if is_picture(file) and file.is_file()]
    if not found:
        raise ValueError(
            f"no picture in {folder} (folders inside are not looked into); "
            f"give {option} a folder that holds {', '.join(IMAGE_SUFFIXES)} files"
        )
    return found


def _unique(files: Sequence[Path]) -> dict[str, Path]:
    """Name -> file; also names that differ in capitals alone are refused, as some file systems take them for one."""
    counts = Counter(_key(file).casefold() for file in files)
    twice = [file for file in files if counts[_key(file).casefold()] > 1]
    if twice:
        raise ValueError(
            f"{counted(len(twice), 'picture')} share a name but for ending or capitals ({some(twice)}); rename them"
        )
    return {_key(file): file for file in files}


def _key(file: Path) -> str:
    return _stem(file.name)


def _stem(name: str) -> str:
    """Stem in the normal form NFC; a name without the suffix of a picture is a stem already."""
    return unicodedata.normalize("NFC", stem_of(name) if is_picture(name) else name)


def _lonely(files: Sequence[Path], names: Mapping[str, Path], suffix: str) -> str:
    """Sentence on masks without image, with the suffix that would give all of them one."""
    endings = {_ending(_key(file), names) for file in files}
    ending = endings.pop()
    if not endings and ending and not suffix:
        advice = f'give --mask-suffix="{ending}" if names of masks end in that'
    else:
        advice = f"give masks the stems of their images{f' and {suffix}' if suffix else ''}, or take them away"
    return f"{counted(len(files), 'mask')} without an image ({some(files)}); {advice}"


def _ending(name: str, names: Mapping[str, Path]) -> str | None:
    """What a name has behind an image name that it begins with, such as ``_mask``."""
    cuts = (cut for cut in range(len(name) - 1, 0, -1) if name[:cut] in names and name[cut] in "_-. ")
    return next((name[cut:] for cut in cuts), None)


def _no_masks(files: Sequence[Path], folder: Path, given: bool) -> str:
    """Sentence on images and masks that nothing tells apart."""
    names = {_key(file): file for file in files}
    endings = Counter(filter(None, (_ending(name, names) for name in names)))
    if endings:
        likely = endings.most_common(1)[0][0]
        return f'{folder} seems to hold images and masks; say what names of masks end in: --mask-suffix="{likely}"'
    if given:
        return f"{folder} is the folder of the images too; give --mask-suffix, what the names of masks end in"
    return "no masks are given; give --masks, the folder of masks, or --mask-suffix where they lie among the images"
