"""Check of a data list: what it holds and all that is wrong with it, where ``load_data_list`` stops at the first fault.

Files are decoded by threads: Pillow, zlib and numpy let each other run meanwhile, and a process would first have to
import torch, which takes longer than the check of a thousand tiles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bundle.data.check_files import FileFacts, ImageFacts, LabelFacts, look_at_image, look_at_label
from bundle.data.lists import MPP, NAMES, PARTS, read_entry, read_object
from bundle.data.sentences import some
from bundle.types import IMAGE, LABEL

BAD_ENTRY, BAD_VALUE, OUTSIDE = "bad_entry", "bad_value", "outside_folder"
"""Faults of an entry that are seen without opening a file."""


@dataclass(frozen=True)
class Checked:
    """One entry of a list, with the facts of its files."""

    part: str
    image_path: str
    """As the list has it."""
    label_path: str | None
    known: dict[str, Any]
    """``patient``, ``grade``, ``domain`` and ``mpp``, as far as they are given and right."""
    image_file: str | None
    """Absolute path; ``None`` where the path leads out of the data folder."""
    label_file: str | None
    """Likewise; ``None`` also where there is no mask."""
    source: str
    """The image's file with links followed."""
    image: ImageFacts | None = None
    label: LabelFacts | None = None

    @property
    def digest(self) -> str:
        """What tells the image by its content; empty where it cannot be read, or has one color as empty glass has."""
        return "" if self.image is None or self.image.one_color else self.image.digest


@dataclass(frozen=True)
class Finding:
    """One kind of fault or oddity, with all its cases."""

    kind: str
    """Short word for programs, for instance ``missing_file``."""
    problem: bool
    """Whether the list must not be used so; else it is a warning."""
    sentence: str
    """How many, the first few, and what to do."""
    cases: list[str]
    """All cases, in the order of the list."""


@dataclass(frozen=True)
class CheckedList:
    """All entries of a data list with their facts."""

    path: Path
    classes: int | None
    """Number of classes that masks were read with, background included; ``None`` where values number glands."""
    entries: list[Checked]
    faults: list[tuple[str, str]] = field(default_factory=list)
    """Kind and sentence of what is wrong with entries themselves."""
    strangers: list[str] = field(default_factory=list)
    """Keys of the list that hold entries and are no part."""

    def part(self, name: str) -> list[Checked]:
        """Entries of a part, in their order."""
        return [entry for entry in self.entries if entry.part == name]


def check_list(
    path: str | Path,
    classes: int | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> CheckedList:
    """Read a data list and decode all its files, each once.

    Args:
        path: file of the list; its folder is the data folder.
        classes: number of classes, background included, where values of masks are classes; ``None`` asks the list,
            which may name more than two under ``labels``.
        workers: threads that decode.
        progress: told after each file how many are done, and of how many.

    Raises:
        FileNotFoundError: without the list.
        ValueError: where the file is no data list at all.
    """
    file = Path(path).expanduser().absolute()
    _check_place(file)
    content = read_object(file)
    if classes is None:
        names = content.get("labels")
        classes = len(names) if isinstance(names, dict) and len(names) > 2 else None
    raw: list[Checked] = []
    faults: list[tuple[str, str]] = []
    for part in PARTS:
        raw += _read_part(content.get(part, []), part, file, faults)
    facts = _look_at(raw, classes, workers, progress)
    entries = [
        replace(
            entry,
            image=facts.get((ImageFacts, entry.image_file or "")),
            label=facts.get((LabelFacts, entry.label_file or "")),
        )
        for entry in raw
    ]
    strangers = [key for key, value in content.items() if key not in PARTS and _holds_entries(value)]
    return CheckedList(file, classes, entries, faults, strangers)


def _look_at(
    entries: Sequence[Checked], classes: int | None, workers: int, progress: Callable[[int, int], None] | None
) -> dict[tuple[type[FileFacts], str], Any]:
    """Facts of all files by kind and path; a file that several entries name is opened once."""
    images = {entry.image_file: None for entry in entries if entry.image_file is not None}
    labels = {entry.label_file: None for entry in entries if entry.label_file is not None}
    looks: list[Callable[[], FileFacts]] = [partial(look_at_image, path) for path in images]
    looks += [partial(look_at_label, path, classes) for path in labels]
    facts: dict[tuple[type[FileFacts], str], Any] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            for done, seen in enumerate(pool.map(_call, looks), start=1):
                facts[type(seen), seen.path] = seen
                if progress is not None:
                    progress(done, len(looks))
        finally:
            pool.shutdown(cancel_futures=True)  # on Ctrl-C only the files in hand are waited for
    return facts


def _call(look: Callable[[], FileFacts]) -> FileFacts:
    return look()


def _check_place(file: Path) -> None:
    if file.is_dir():
        lists = sorted(one.name for one in file.glob("*.json"))
        advice = f"it holds {some(lists)}" if lists else "it holds no .json file"
        raise ValueError(f"{file} is a folder; give the path of a data list ({advice})")
    if not file.is_file():
        lists = sorted(one.name for one in file.parent.glob("*.json"))
        advice = f"; {file.parent} holds {some(lists)}" if lists else "; make one with scripts/prepare_data.py"
        raise FileNotFoundError(f"no data list {file}{advice}")


def _holds_entries(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(entry, dict) and IMAGE in entry for entry in value)


def _read_part(entries: Any, part: str, path: Path, faults: list[tuple[str, str]]) -> list[Checked]:
    """Entries of a part as far as they can be read; what cannot goes to ``faults``."""
    if not isinstance(entries, list):
        faults.append((BAD_ENTRY, f"{part} is no list of entries"))
        return []
    return [
        read
        for number, entry in enumerate(entries)
        if (read := _read(entry, f"entry {number} of {part}", part, path, faults)) is not None
    ]


def _read(entry: Any, place: str, part: str, path: Path, faults: list[tuple[str, str]]) -> Checked | None:
    """One entry. Its keys are read one by one, so that each fault is told and the rest of the entry is used."""
    if not isinstance(entry, dict) or not isinstance(entry.get(IMAGE), str) or not entry[IMAGE]:
        faults.append((BAD_ENTRY, f"{place} has no path of an image"))
        return None
    read: dict[str, Any] = {}
    for key in (LABEL, *NAMES, MPP):
        if key not in entry:
            continue
        try:
            read |= read_entry({IMAGE: entry[IMAGE], key: entry[key]}, place)
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
    return Checked(part, entry[IMAGE], read.get(LABEL), known, image, label, source)
