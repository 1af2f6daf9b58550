"""Data lists and folders on disk: which images train, teach without a label, choose and test a network."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bundle.data.label_maps import check_pair
from bundle.data.leakage import check_apart
from bundle.data.pictures import IMAGE_SUFFIXES, is_picture, stem_of
from bundle.data.sentences import counted, some
from bundle.types import IMAGE, LABEL

Entry = dict[str, Any]
"""One image of a list: ``image``, ``label`` where it has one, and what is known of patient, grade, domain and mpp."""

PARTS = ("training", "unlabeled", "validation", "test")
"""The keys of a data list; all but ``unlabeled`` need a label on every entry."""
MPP = "mpp"
"""Key of the width of a pixel, um."""
NAMES = ("patient", "grade", "domain")
"""Keys that name what an image belongs to."""


def load_data_list(
    dataset_dir: str | Path,
    name: str,
    serve: Callable[[dict[str, list[Entry]]], dict[str, list[Entry]]] | None = None,
) -> dict[str, list[Entry]]:
    """Read and check a data list, a JSON file of the four parts, and make its paths absolute.

    Args:
        dataset_dir: the folder that holds the list; paths in the list are relative to it.
        name: file name of the list, for instance ``heldout_10_seed0.json``.
        serve: what a protocol makes of the list: takes the four parts, gives those that it uses, or refuses.

    Returns:
        ``training``, ``unlabeled``, ``validation`` and ``test``, each a list of entries; a part that the file does not
        have is empty. An entry keeps its keys: ``image`` and ``label`` are absolute paths as text, ``patient``,
        ``grade`` and ``domain`` are text, and of these and ``mpp`` one that is ``null`` or empty is left out. What else
        the file holds, such as ``labels``, the names of classes, is no part.

    Raises:
        FileNotFoundError: without the folder, the list, or a file that the list names.
        ValueError: where the file is no such list, an entry is none, a path leads out of the folder, a label is
            missing or not of the size of its image, an unlabeled entry has one, or parts that must be apart are not;
            see ``overlaps.check_apart``.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    path = _find_list(folder, name)
    content = read_object(path)
    _check_classes(content.get("labels", {}), path)
    lists = {part: _read_part(content.get(part, []), part, path) for part in PARTS}
    for part, entries in lists.items():
        _place(entries, folder, part, path)
        _check_files(entries, part, path)
        _check_sizes(entries, part, path)
    check_apart(lists, path)
    return lists if serve is None else serve(lists)


def image_files(folder: str | Path) -> list[Entry]:
    """Pictures of one folder, for inference: sorted by name, sub-folders and ``*_anno`` masks left out.

    Returns:
        One ``{"image": absolute path}`` a picture (PNG, JPEG, BMP, TIFF, NIfTI); of a picture in place of a folder, it.

    Raises:
        FileNotFoundError: where the folder does not exist.
        ValueError: where it holds no picture, or two whose names differ in the ending alone.
    """
    path = Path(os.path.abspath(Path(folder).expanduser()))
    if path.is_file() and is_picture(path):
        return [{IMAGE: str(path)}]
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}; give a folder that holds pictures")
    files = [file for file in sorted(path.iterdir()) if file.is_file() and is_picture(file)]
    files = [file for file in files if not stem_of(file).endswith("_anno")]
    _check_stems(files)
    if not files:
        raise ValueError(f"no picture in {path}; give a folder that holds {', '.join(IMAGE_SUFFIXES)} files")
    return [{IMAGE: str(file)} for file in files]


def images_digest(datalist: dict[str, list[Entry]]) -> str:
    """Short text that tells one choice of images from another: names of files by part, wherever the folder lies."""
    names = {part: sorted(Path(entry[IMAGE]).name for entry in entries) for part, entries in sorted(datalist.items())}
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:12]


class Part(list[Entry]):
    """One part of a data list that knows its list: entries that somebody puts in its place belong to none.

    Attributes:
        datalist: the list, by part.
    """

    def __init__(self, datalist: dict[str, list[Entry]], part: str) -> None:
        super().__init__(datalist[part])
        self.datalist = datalist


def required_part(datalist: dict[str, list[Entry]], part: str) -> Part:
    """One part of a data list that must not be empty: engines skip an empty loader and call it success.

    Raises:
        ValueError: where the part is empty.
    """
    entries = Part(datalist, part)
    if not entries:
        raise ValueError(f"the data list has no image under {part!r}; take another list (--data_list) or add some")
    return entries


def images_to_predict(dataset_dir: str | Path, data_list: str | None = None, part: str = "test") -> list[Entry]:
    """What inference runs on: the pictures of a folder, or one part of a data list.

    Args:
        dataset_dir: a folder of pictures, or the folder that holds the list.
        data_list: file name of the list; ``None`` takes the folder's pictures.
        part: part of the list; its entries need no label, and may have ``mpp``.

    Returns:
        Entries without ``label``. Their files are not looked at: one that is missing is for its reader to tell.
    """
    if data_list is None:
        return image_files(dataset_dir)
    folder = Path(os.path.abspath(Path(dataset_dir).expanduser()))
    path = _find_list(folder, data_list)
    content = required_part({part: read_object(path).get(part) or []}, part)
    entries = [read_entry(entry, f"entry {number} of {part} in {path}") for number, entry in enumerate(content)]
    _place(entries, folder, part, path)
    _check_stems([Path(entry[IMAGE]) for entry in entries])
    return [{key: value for key, value in entry.items() if key != LABEL} for entry in entries]


def _check_stems(files: list[Path]) -> None:
    """Refuse pictures whose masks would get one name, NAME_mask.png."""
    counts = Counter(stem_of(file) for file in files)
    twice = [str(file) for file in files if counts[stem_of(file)] > 1]
    if twice:
        raise ValueError(
            f"pictures share a name but for ending or folder ({some(twice)}); rename them: masks would too"
        )


def _find_list(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(
            f"no data folder {folder}; give --dataset_dir, or make one with scripts/prepare_data.py"
        )
    path = folder / name
    if path.is_file():
        return path
    others = sorted(file.name for file in folder.glob("*.json"))
    if not others:
        raise FileNotFoundError(f"no data list {name} in {folder}; make the lists with scripts/prepare_data.py")
    raise FileNotFoundError(f"no data list {name} in {folder}; it holds {', '.join(others)}: give one as --data_list")


def read_object(path: Path) -> dict[str, Any]:
    """Read the JSON object of a data list; its entries are not looked at.

    Raises:
        ValueError: where the file is no JSON object, or has none of the parts.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); write or make the data list again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; a data list is an object with {', '.join(PARTS)}")
    if not any(part in content for part in PARTS):
        raise ValueError(f"{path} has none of {', '.join(PARTS)}; a data list needs at least one of them")
    return content


def _check_classes(labels: Any, path: Path) -> None:
    """``labels`` names classes by their index, as in the Medical Segmentation Decathlon."""
    good = isinstance(labels, dict) and all(key.isdigit() and isinstance(name, str) for key, name in labels.items())
    if not good:
        example = '{"0": "background", "1": "gland"}'
        raise ValueError(f"labels in {path} names no classes; write for instance {example}, or leave it out")


def _read_part(entries: Any, part: str, path: Path) -> list[Entry]:
    if not isinstance(entries, list):
        raise ValueError(f"{part} in {path} is no list; write a list of entries such as {{'image': ..., 'label': ...}}")
    read = [read_entry(entry, f"entry {number} of {part} in {path}") for number, entry in enumerate(entries)]
    if part == "unlabeled":
        wrong = [entry[IMAGE] for entry in read if LABEL in entry]
        advice = "has a label; take the key label away, or move it to training"
    else:
        wrong = [entry[IMAGE] for entry in read if LABEL not in entry]
        advice = "has no label; give it one, or move it to unlabeled"
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(entries)} in {part} of {path} ({some(wrong)}): each {advice}")
    return read


def read_entry(entry: Any, place: str) -> Entry:
    """One entry with its values checked; ``place`` says where it stands.

    Raises:
        ValueError: where it has no image, or a value that cannot be.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get(IMAGE), str):
        raise ValueError(f"{place} has no image; give every entry the path of one")
    if LABEL in entry and not isinstance(entry[LABEL], str):
        raise ValueError(f"{place} has a label that is no path; give one or leave it out")
    read = {key: value for key, value in entry.items() if key not in (*NAMES, MPP) or value not in (None, "")}
    for key in NAMES:
        value = read.get(key, "")
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{place} has a {key} that is no name ({value!r}); give text or leave it out")
        if key in read:
            read[key] = str(value)
    mpp = read.get(MPP, 1)
    if isinstance(mpp, bool) or not isinstance(mpp, int | float) or not 0 < mpp < math.inf:
        raise ValueError(f"{place} has the mpp {mpp!r}; give the width of a pixel in um, a number above 0")
    return read


def _place(entries: list[Entry], folder: Path, part: str, path: Path) -> None:
    """Make paths absolute; none may lead out of the folder. Links inside it may point where they like."""
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
            f"{counted(len(outside), 'path')} of {part} in {path} lead out of the data folder ({some(outside)}); "
            f"put the files into it, or links to them"
        )


def _check_files(entries: list[Entry], part: str, path: Path) -> None:
    files = [entry[key] for entry in entries for key in (IMAGE, LABEL) if key in entry]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} files of {part} in {path} are missing ({some(missing)}); "
            f"put them there, or make the folder again with scripts/prepare_data.py"
        )


def _check_sizes(entries: list[Entry], part: str, path: Path) -> None:
    """Masks must have the size of their images."""
    for entry in entries:
        if LABEL in entry:
            try:
                check_pair(entry[IMAGE], entry[LABEL])
            except ValueError as error:
                raise ValueError(f"{error} ({part} of {path})") from error
