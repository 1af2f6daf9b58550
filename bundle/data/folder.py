"""Data lists and folders on disk: which images train, teach without a label, choose and test a network."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bundle.types import IMAGE, LABEL

Entry = dict[str, Any]
"""One image of a list: ``image``, ``label`` where it has one, and what is known of patient, grade, domain and mpp."""

PARTS = ("training", "unlabeled", "validation", "test")
"""The keys of a data list; all but ``unlabeled`` need a label on every entry."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
"""How the name of a picture ends, in small letters."""
SHOWN = 3
"""How many names an error shows."""


def load_data_list(dataset_dir: str | Path, name: str) -> dict[str, list[Entry]]:
    """Read and check a data list, a JSON file of the four parts, and make its paths absolute.

    Args:
        dataset_dir: the folder that holds the list; paths in the list are relative to it.
        name: file name of the list, for instance ``heldout_10_seed0.json``.

    Returns:
        ``training``, ``unlabeled``, ``validation`` and ``test``, each a list of entries; a part that the file does not
        have is empty. An entry keeps all its keys; ``image`` and ``label`` are absolute paths as text.

    Raises:
        FileNotFoundError: without the folder, the list, or a file that the list names.
        ValueError: where the file is no such list, a label is missing, an unlabeled entry has one, or an image stands
            both in ``training`` or ``unlabeled`` and in ``validation`` or ``test``.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    path = _find_list(folder, name)
    content = _read_object(path)
    lists = {part: _read_part(content.get(part, []), part, path) for part in PARTS}
    for part, entries in lists.items():
        for entry in entries:
            for key in (IMAGE, LABEL):
                if key in entry:
                    entry[key] = str(folder / entry[key])
        _check_files(entries, part, path)
    _check_overlap(lists, path)
    return lists


def image_files(folder: str | Path) -> list[Entry]:
    """Pictures of one folder, for inference: sorted by name, sub-folders and ``*_anno`` masks left out.

    Returns:
        One ``{"image": absolute path}`` a picture (PNG, JPEG, BMP, TIFF).

    Raises:
        FileNotFoundError: where the folder does not exist.
        ValueError: where it holds no picture, or two whose names differ in the ending alone.
    """
    path = Path(folder).expanduser().absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}; give a folder that holds pictures")
    files = [file for file in sorted(path.iterdir()) if file.is_file() and file.suffix.lower() in SUFFIXES]
    files = [file for file in files if not file.stem.endswith("_anno") and not file.name.startswith(".")]
    _check_stems(files)
    if not files:
        raise ValueError(f"no picture in {path}; give a folder that holds {', '.join(SUFFIXES)} files")
    return [{IMAGE: str(file)} for file in files]


def required_part(datalist: dict[str, list[Entry]], part: str) -> list[Entry]:
    """One part of a data list that must not be empty: engines skip an empty loader and call it success.

    Raises:
        ValueError: where the part is empty.
    """
    entries = datalist[part]
    if not entries:
        raise ValueError(f"the data list has no image under {part!r}; take another list (--data_list) or add some")
    return entries


def images_to_predict(dataset_dir: str | Path, data_list: str | None = None, part: str = "test") -> list[Entry]:
    """What inference runs on: the pictures of a folder, or one part of a data list.

    Args:
        dataset_dir: a folder of pictures, or the folder that holds the list.
        data_list: file name of the list; ``None`` takes the folder's pictures.
        part: part of the list.

    Returns:
        Entries without ``label``.
    """
    if data_list is None:
        return image_files(dataset_dir)
    entries = required_part(load_data_list(dataset_dir, data_list), part)
    _check_stems([Path(entry[IMAGE]) for entry in entries])
    return [{key: value for key, value in entry.items() if key != LABEL} for entry in entries]


def _check_stems(files: list[Path]) -> None:
    """Refuse pictures whose masks would get one name, NAME_mask.png."""
    counts = Counter(file.stem for file in files)
    twice = [str(file) for file in files if counts[file.stem] > 1]
    if twice:
        raise ValueError(
            f"pictures share a name but for ending or folder ({_some(twice)}); rename them: masks would too"
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
    raise FileNotFoundError(f"no data list {name} in {folder}; it holds {', '.join(others)}")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); write or make the data list again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; a data list is an object with {', '.join(PARTS)}")
    if not any(part in content for part in PARTS):
        raise ValueError(f"{path} has none of {', '.join(PARTS)}; a data list needs at least one of them")
    return content


def _read_part(entries: Any, part: str, path: Path) -> list[Entry]:
    if not isinstance(entries, list):
        raise ValueError(f"{part} in {path} is no list; write a list of entries such as {{'image': ..., 'label': ...}}")
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get(IMAGE), str):
            raise ValueError(f"entry {number} of {part} in {path} has no image; give every entry the path of one")
        if LABEL in entry and not isinstance(entry[LABEL], str):
            raise ValueError(
                f"entry {number} of {part} in {path} has a label that is no path; give one or leave it out"
            )
    if part == "unlabeled":
        wrong = [entry[IMAGE] for entry in entries if LABEL in entry]
        advice = "has a label; take the key label away, or move it to training"
    else:
        wrong = [entry[IMAGE] for entry in entries if LABEL not in entry]
        advice = "has no label; give it one, or move it to unlabeled"
    if wrong:
        raise ValueError(f"{len(wrong)} of {len(entries)} in {part} of {path} ({_some(wrong)}): each {advice}")
    return [dict(entry) for entry in entries]


def _check_files(entries: list[Entry], part: str, path: Path) -> None:
    files = [entry[key] for entry in entries for key in (IMAGE, LABEL) if key in entry]
    missing = [file for file in files if not Path(file).is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of {len(files)} files of {part} in {path} are missing ({_some(missing)}); "
            f"put them there, or make the folder again with scripts/prepare_data.py"
        )


def _check_overlap(lists: dict[str, list[Entry]], path: Path) -> None:
    for held in ("validation", "test"):
        for seen in ("training", "unlabeled"):
            learned = {Path(entry[IMAGE]).resolve() for entry in lists[seen]}
            both = [entry[IMAGE] for entry in lists[held] if Path(entry[IMAGE]).resolve() in learned]
            if both:
                raise ValueError(
                    f"{len(both)} images of {path} stand both in {held} and in {seen} ({_some(both)}); "
                    f"take them out of one of the two"
                )


def _some(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:SHOWN]) + (", ..." if len(found) > SHOWN else "")
