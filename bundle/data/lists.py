"""Data lists and image folders: training, unlabeled, validation and test images."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundle.data.image_io.pictures import IMAGE_SUFFIXES, check_pair, is_picture, stem_of
from bundle.data.leakage import check_apart
from bundle.data.message_text import join_names, pluralize
from bundle.data.skipped_files import warn_of_others
from bundle.types import IMAGE, LABEL

Entry = dict[str, Any]
"""One image of a list: ``image``, and optionally ``label``, ``patient``, ``grade``, ``domain`` and ``mpp``."""

PARTS = ("training", "unlabeled", "validation", "test")
"""Keys of a data list; all entries except those of ``unlabeled`` need a label."""
MPP = "mpp"
"""Key of the width of a pixel, um."""
LARGEST_MPP = 100
"""Largest width of a pixel, um; resampling from more would enlarge an image beyond all memory."""
LONGEST_NAME = 255
"""Longest name of a file or folder, in bytes."""
NAMES = ("patient", "grade", "domain")
"""Keys with text values."""


def load_data_list(
    dataset_dir: str | Path,
    name: str,
    serve: Callable[[dict[str, list[Entry]]], dict[str, list[Entry]]] | None = None,
) -> dict[str, list[Entry]]:
    """Read and check a data list, a JSON file with the four parts, and make its paths absolute.

    Args:
        dataset_dir: folder of the list; paths in the list are relative to it.
        name: file name of the list, for example ``heldout_10_seed0.json``.
        serve: function of a protocol that takes the four parts and returns those that it uses, or raises an error.

    Returns:
        ``training``, ``unlabeled``, ``validation`` and ``test``, each a list of entries; missing parts are empty. An
        entry keeps its keys: ``image`` and ``label`` are absolute paths, ``patient``, ``grade`` and ``domain`` are
        text; these and ``mpp`` are removed if they are ``null`` or empty. Other keys of the file, such as ``labels``
        (the names of classes), are ignored.

    Raises:
        FileNotFoundError: if the folder, the list, or a file in the list does not exist.
        ValueError: if the file is not a data list, an entry is invalid, a path is outside the folder, a label is
            missing or not of the size of its image, an unlabeled entry has a label, or parts overlap; see
            ``leakage.check_apart``.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    path = _find_list(folder, name)
    content = read_object(path)
    _check_classes(content.get("labels", {}), path)
    lists = {part: _read_part(content.get(part, []), part, path) for part in PARTS}
    for part, entries in lists.items():
        _resolve_paths(entries, folder, part, path)
        _check_files(entries, part, path)
        _check_sizes(entries, part, path)
    check_apart(lists, path)
    return lists if serve is None else serve(lists)


def image_files(folder: str | Path) -> list[Entry]:
    """Return the pictures of a folder, or one picture, for inference.

    Returns:
        ``{"image": absolute path}`` for each picture (PNG, JPEG, BMP, TIFF, NIfTI), sorted by name; subfolders and
        ``*_anno`` masks are ignored.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if it has no pictures, or two whose names differ only in the suffix.
    """
    path = Path(os.path.abspath(Path(folder).expanduser()))
    if path.is_file() and is_picture(path):
        return [{IMAGE: str(path)}]
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}; give a folder of pictures")
    files = [file for file in sorted(path.iterdir()) if file.is_file() and is_picture(file)]
    warn_of_others(path, files)
    files = [file for file in files if not stem_of(file).endswith("_anno")]
    _check_stems(files)
    if not files:
        raise ValueError(f"no picture in {path}; give a folder with {', '.join(IMAGE_SUFFIXES)} files")
    return [{IMAGE: str(file)} for file in files]


def images_digest(images: dict[str, list[Entry]] | list[Entry]) -> str:
    """Return a short hash of the file names of each part, which does not depend on the location of the folder.

    Args:
        images: a data list; or a part of one, which stands for the whole list; or other training images.
    """
    datalist = images if isinstance(images, dict) else getattr(images, "datalist", {"training": images})
    names = {part: sorted(Path(entry[IMAGE]).name for entry in entries) for part, entries in sorted(datalist.items())}
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]


class Part(list[Entry]):
    """One part of a data list, with a reference to the whole list.

    Attributes:
        datalist: the whole list, by part.
    """

    def __init__(self, datalist: dict[str, list[Entry]], part: str) -> None:
        super().__init__(datalist[part])
        self.datalist = datalist


def required_part(datalist: dict[str, list[Entry]], part: str) -> Part:
    """Return one part of a data list and check that it is not empty: engines skip an empty loader without an error.

    Raises:
        ValueError: if the part is empty.
    """
    entries = Part(datalist, part)
    if not entries:
        raise ValueError(f"the data list has no image under {part!r}; use another list (--data_list) or add images")
    return entries


def images_to_predict(dataset_dir: str | Path, data_list: str | None = None, part: str = "test") -> list[Entry]:
    """Return the entries for inference: the pictures of a folder, or one part of a data list.

    Args:
        dataset_dir: folder of pictures, or folder of the list.
        data_list: file name of the list; ``None`` means the folder's pictures.
        part: part of the list; its entries need no label, and may have ``mpp``.

    Returns:
        Entries without ``label``. Files are not checked here; the reader reports missing ones.
    """
    if data_list is None:
        return image_files(dataset_dir)
    folder = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    path = _find_list(folder, data_list)
    listed = read_object(path).get(part) or []
    if not isinstance(listed, list):
        raise ValueError(f"{part} in {path} is not a list; write entries such as [{{'image': ...}}]")
    content = required_part({part: listed}, part)
    entries = [read_entry(entry, f"entry {number} of {part} in {path}") for number, entry in enumerate(content)]
    _resolve_paths(entries, folder, part, path)
    _check_stems([Path(entry[IMAGE]) for entry in entries])
    return [{key: value for key, value in entry.items() if key != LABEL} for entry in entries]


def _check_stems(files: list[Path]) -> None:
    """Refuse pictures whose masks would have the same name, NAME_mask.png."""
    counts = Counter(stem_of(file) for file in files)
    duplicates = [str(file) for file in files if counts[stem_of(file)] > 1]
    if duplicates:
        raise ValueError(
            f"names of pictures differ only in suffix or folder ({join_names(duplicates)}); rename them, because their "
            f"masks would have the same name"
        )


def _find_list(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no data folder {folder}; give --dataset_dir, or create one with scripts/prepare_data.py"
        )
    path = folder / name
    if path.is_file():
        return path
    others = sorted(file.name for file in folder.glob("*.json"))
    if not others:
        raise FileNotFoundError(f"no data list {name} in {folder}; make the lists with scripts/prepare_data.py")
    raise FileNotFoundError(f"no data list {name} in {folder}; it holds {', '.join(others)}: give one as --data_list")


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object of a data list; its entries are not checked.

    Raises:
        ValueError: if the file is not a JSON object, has a key twice or text that is not Unicode, or none of the parts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error}); create the data list again") from error
    try:
        os.fsencode(json.dumps(content, ensure_ascii=False))
    except UnicodeEncodeError as error:
        text = error.object[max(error.start - 30, 0) : error.end]
        raise ValueError(f"{path} holds a text that is not Unicode ({text!r}); write it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; a data list is an object with {', '.join(PARTS)}")
    if not any(part in content for part in PARTS):
        raise ValueError(f"{path} has none of {', '.join(PARTS)}; a data list needs at least one of them")
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object; keep one of them")
    return content


def _check_classes(labels: Any, path: Path) -> None:
    """Check that ``labels`` maps indices to class names, as in the Medical Segmentation Decathlon."""
    good = isinstance(labels, dict) and all(key.isdigit() and isinstance(name, str) for key, name in labels.items())
    if not good:
        example = '{"0": "background", "1": "gland"}'
        raise ValueError(f"labels in {path} does not name classes; write for example {example}, or remove it")


def _read_part(entries: Any, part: str, path: Path) -> list[Entry]:
    if not isinstance(entries, list):
        raise ValueError(f"{part} in {path} is not a list; write entries such as [{{'image': ..., 'label': ...}}]")
    read = [read_entry(entry, f"entry {number} of {part} in {path}") for number, entry in enumerate(entries)]
    if part == "unlabeled":
        wrong = [entry[IMAGE] for entry in read if LABEL in entry]
        advice = "has a label; remove the key label, or move it to training"
    else:
        wrong = [entry[IMAGE] for entry in read if LABEL not in entry]
        advice = "has no label; add one, or move it to unlabeled"
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(entries)} in {part} of {path} ({join_names(wrong)}): each {advice}")
    return read


def read_entry(entry: Any, location: str) -> Entry:
    """Check one entry and return it; ``location`` describes its position for messages.

    Raises:
        ValueError: if it has no image or an invalid value.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get(IMAGE), str):
        raise ValueError(f"{location} has no image; give every entry the path of an image")
    if LABEL in entry and not isinstance(entry[LABEL], str):
        raise ValueError(f"{location} has a label that is not a path; give a path or remove it")
    for file in (entry[IMAGE], entry.get(LABEL, "")):
        if "\0" in file or any(len(name.encode(errors="replace")) > LONGEST_NAME for name in file.split("/")):
            raise ValueError(f"{location} has a path that no file can have ({file!r:.60}); correct it")
    read = {key: value for key, value in entry.items() if key not in (*NAMES, MPP) or value not in (None, "")}
    for key in NAMES:
        value = read.get(key, "")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{location} has a {key} that is not text ({value!r}); give text or remove it")
        if key in read:
            read[key] = str(value)
    mpp = read.get(MPP, 1)
    if isinstance(mpp, bool) or not isinstance(mpp, int | float) or not 0 < mpp <= LARGEST_MPP:
        raise ValueError(
            f"{location} has the mpp {mpp!r:.40}; give the width of a pixel in um, above 0 and at most {LARGEST_MPP}"
        )
    return read


def _resolve_paths(entries: list[Entry], folder: Path, part: str, path: Path) -> None:
    """Make paths absolute; refuse paths outside the folder. Symbolic links inside it may point anywhere."""
    outside = []
    for entry in entries:
        for key in (IMAGE, LABEL):
            if key in entry:
                file = os.path.normpath(folder / entry[key])
                if not Path(file).is_relative_to(os.path.normpath(folder)):
                    outside.append(entry[key])
                entry[key] = file
    if outside:
        raise ValueError(
            f"{path} has {pluralize(len(outside), 'path')} of {part} outside the data folder ({join_names(outside)}); "
            f"put the files into it, or links to them"
        )


def _check_files(entries: list[Entry], part: str, path: Path) -> None:
    files = [entry[key] for entry in entries for key in (IMAGE, LABEL) if key in entry]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} files of {part} in {path} are missing ({join_names(missing)}); "
            f"add them, or create the folder again with scripts/prepare_data.py"
        )


def _check_sizes(entries: list[Entry], part: str, path: Path) -> None:
    """Check that masks have the size of their images."""
    for entry in entries:
        if LABEL in entry:
            try:
                check_pair(entry[IMAGE], entry[LABEL])
            except ValueError as error:
                raise ValueError(f"{error} ({part} of {path})") from error
