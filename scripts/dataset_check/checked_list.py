"""Check of a data list: reports its contents and all faults, while ``load_data_list`` stops at the first fault.

Files are decoded in threads: Pillow, zlib and numpy release the GIL, and a process would first have to import torch,
which takes longer than the check of a thousand tiles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bundle.data.lists import MPP, NAMES, PARTS, read_entry, read_object
from bundle.data.message_text import join_names
from bundle.types import IMAGE, LABEL
from scripts.dataset_check.files import FileFacts, ImageFacts, LabelFacts, inspect_image, inspect_label

BAD_ENTRY, BAD_VALUE, OUTSIDE = "bad_entry", "bad_value", "outside_folder"
"""Faults of an entry that are found without opening its files."""


@dataclass(frozen=True)
class CheckedEntry:
    """One entry of a data list, with the properties of its files."""

    part: str
    image_path: str
    """Path as given in the list."""
    label_path: str | None
    known: dict[str, Any]
    """``patient``, ``grade``, ``domain`` and ``mpp``, if they are given and valid."""
    image_file: str | None
    """Absolute path; ``None`` if it is outside the data folder."""
    label_file: str | None
    """Absolute path; ``None`` if it is outside the data folder or there is no mask."""
    source: str
    """Path of the image with symbolic links resolved."""
    image: ImageFacts | None = None
    label: LabelFacts | None = None

    @property
    def digest(self) -> str:
        """Hash of the image's content; empty if it cannot be read or has only one color, such as background."""
        return "" if self.image is None or self.image.one_color else self.image.digest


@dataclass(frozen=True)
class Finding:
    """One kind of problem or warning, with all its cases."""

    kind: str
    """Identifier for programs, for example ``missing_file``."""
    problem: bool
    """Whether the list must not be used until it is fixed; else it is a warning."""
    sentence: str
    """Message with the number of cases, the first few, and what to do."""
    cases: list[str]
    """All cases, in the order of the list."""


@dataclass(frozen=True)
class CheckedList:
    """All entries of a data list, with the properties of their files."""

    path: Path
    classes: int | None
    """Number of classes of the masks, background included; ``None`` if values are instance numbers."""
    entries: list[CheckedEntry]
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Kind and message of each fault of the entries themselves."""
    unknown_keys: list[str] = field(default_factory=list)
    """Keys of the list that hold entries and are not a part."""

    def part(self, name: str) -> list[CheckedEntry]:
        """Return the entries of a part, in the order of the list."""
        return [entry for entry in self.entries if entry.part == name]


def check_list(
    path: str | Path,
    classes: int | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> CheckedList:
    """Read a data list and decode each of its files once.

    Args:
        path: path of the list; its folder is the data folder.
        classes: number of classes, background included, if values of masks are classes; ``None`` takes it from the
            list, if that names more than two under ``labels``.
        workers: number of threads.
        progress: called after each file with the number of files done and in total.

    Raises:
        FileNotFoundError: if the list does not exist.
        ValueError: if the file is not a data list.
    """
    file = Path(path).expanduser().absolute()
    _check_path(file)
    content = read_object(file)
    if classes is None:
        names = content.get("labels")
        classes = len(names) if isinstance(names, dict) and len(names) > 2 else None
    raw: list[CheckedEntry] = []
    faults: list[tuple[str, str]] = []
    for part in PARTS:
        raw += _read_part(content.get(part, []), part, file, faults)
    facts = _inspect_files(raw, classes, workers, progress)
    entries = [
        replace(
            entry,
            image=facts.get((ImageFacts, entry.image_file or "")),
            label=facts.get((LabelFacts, entry.label_file or "")),
        )
        for entry in raw
    ]
    unknown_keys = [key for key, value in content.items() if key not in PARTS and _holds_entries(value)]
    return CheckedList(file, classes, entries, faults, unknown_keys)


def _inspect_files(
    entries: Sequence[CheckedEntry], classes: int | None, workers: int, progress: Callable[[int, int], None] | None
) -> dict[tuple[type[FileFacts], str], Any]:
    """Return the properties of all files by type and path; a file of several entries is opened once."""
    images = {entry.image_file: None for entry in entries if entry.image_file is not None}
    labels = {entry.label_file: None for entry in entries if entry.label_file is not None}
    tasks: list[Callable[[], FileFacts]] = [partial(inspect_image, path) for path in images]
    tasks += [partial(inspect_label, path, classes) for path in labels]
    facts: dict[tuple[type[FileFacts], str], Any] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            for done, result in enumerate(pool.map(_call, tasks), start=1):
                facts[type(result), result.path] = result
                if progress is not None:
                    progress(done, len(tasks))
        finally:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C, wait only for the files that are being decoded
    return facts


def _call(task: Callable[[], FileFacts]) -> FileFacts:
    return task()


def _check_path(file: Path) -> None:
    if file.is_dir():
        lists = sorted(path.name for path in file.glob("*.json"))
        advice = f"it holds {join_names(lists)}" if lists else "it holds no .json file"
        raise ValueError(f"{file} is a folder; give the path of a data list ({advice})")
    if not file.is_file():
        lists = sorted(path.name for path in file.parent.glob("*.json"))
        advice = f"; {file.parent} holds {join_names(lists)}" if lists else "; make one with scripts/prepare_data.py"
        raise FileNotFoundError(f"no data list {file}{advice}")


def _holds_entries(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(entry, dict) and IMAGE in entry for entry in value)


def _read_part(entries: Any, part: str, path: Path, faults: list[tuple[str, str]]) -> list[CheckedEntry]:
    """Return the entries of a part that can be read; add the faults of all others to ``faults``."""
    if not isinstance(entries, list):
        faults.append((BAD_ENTRY, f"{part} is not a list of entries"))
        return []
    return [
        read
        for number, entry in enumerate(entries)
        if (read := _read(entry, f"entry {number} of {part}", part, path, faults)) is not None
    ]


def _read(entry: Any, location: str, part: str, path: Path, faults: list[tuple[str, str]]) -> CheckedEntry | None:
    """Return one entry; its keys are read one by one, so that all faults are reported and valid keys are used."""
    if not isinstance(entry, dict) or not isinstance(entry.get(IMAGE), str) or not entry[IMAGE]:
        faults.append((BAD_ENTRY, f"{location} has no image path"))
        return None
    try:
        read_entry({IMAGE: entry[IMAGE]}, location)
    except ValueError as error:
        faults.append((BAD_ENTRY, str(error)))
        return None
    read: dict[str, Any] = {}
    for key in (LABEL, *NAMES, MPP):
        if key not in entry:
            continue
        try:
            read |= read_entry({IMAGE: entry[IMAGE], key: entry[key]}, location)
        except ValueError as error:
            faults.append((BAD_VALUE, str(error)))
    files: dict[str, str | None] = {IMAGE: None, LABEL: None}
    for key, text in ((IMAGE, entry[IMAGE]), (LABEL, read.get(LABEL))):
        if text is not None:
            file = os.path.normpath(path.parent / text)
            if Path(file).is_relative_to(os.path.normpath(path.parent)):
                files[key] = file
            else:
                faults.append((OUTSIDE, text))
    known = {key: read[key] for key in (*NAMES, MPP) if key in read}
    image, label = files[IMAGE], files[LABEL]
    source = "" if image is None else os.path.realpath(image)
    return CheckedEntry(part, entry[IMAGE], read.get(LABEL), known, image, label, source)
