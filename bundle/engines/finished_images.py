"""Journal files of an inference: one JSON record per line, readable also after a kill in the middle of a line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

JOURNAL = "journal_*.jsonl"
"""Pattern of the journals of a folder, one for each process."""
START = re.compile(r'\{"(?:settings|begun|image)": ')
"""First characters of a record."""


@dataclass
class Journals:
    """Content of all journals of an output folder."""

    done: dict[str, list[int]] = field(default_factory=dict)
    """Path of an image whose files exist -> its size and modification time."""
    owners: dict[str, str] = field(default_factory=dict)
    """Name of a file that an inference wrote, or was about to write -> path of its image."""
    files: int = 0
    """Number of journals."""


def read_journals(folder: Path, check: Callable[[Mapping[str, Any] | None], None]) -> Journals:
    """Read all journals of a folder.

    Args:
        folder: output folder; may be missing.
        check: called with the settings under which results in the folder were written.

    Raises:
        ValueError: raised by ``check``.
    """
    journals = Journals()
    begun: dict[str, list[str]] = {}
    for file in sorted(folder.glob(JOURNAL)):
        journals.files += 1
        settings: dict[str, Any] | None = None
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            record = _record(line)
            if record is None:
                continue  # the run was killed while it wrote this line
            if "settings" in record:
                settings = record["settings"]
            elif "begun" in record:
                begun[record["begun"]] = record["files"]
            else:
                journals.owners.update(dict.fromkeys(record["files"], record["image"]))
                # without the settings, which a damaged line held, the image is processed again
                if settings is not None and all(os.path.isfile(folder / name) for name in record["files"]):
                    check(settings)
                    journals.done[record["image"]] = record["state"]
    # The files of an image that was begun and not finished may exist, all or some of them.
    for image, names in begun.items():
        journals.owners.update({name: image for name in names if name not in journals.owners})
    return journals


def append(file: Path, record: Mapping[str, Any]) -> None:
    """Append a record to a journal; end an incomplete line of a killed run first.

    Raises:
        OSError: if the journal cannot be written; with its path, which the error of a full disk lacks.
    """
    try:
        with file.open("a+b") as journal:
            if journal.tell():
                journal.seek(-1, os.SEEK_END)
                if journal.read() != b"\n":
                    journal.write(b"\n")
            journal.write(json.dumps(record).encode() + b"\n")
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), str(file)) from error


def state_of(path: str | os.PathLike[str]) -> list[int]:
    """Return size and modification time (ns) of a file; an empty list if it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]


def _record(line: str) -> dict[str, Any] | None:
    """Return the record of a line, or the last one of several that a killed run left in one; ``None`` if damaged."""
    starts = [match.start() for match in START.finditer(line)]
    try:
        record = json.loads(line[starts[-1] :]) if starts else None
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and _is_complete(record) else None


def _is_complete(record: Mapping[str, Any]) -> bool:
    """Return whether a record has all its values, of their types."""
    if "settings" in record:
        return isinstance(record["settings"], dict)
    files, state = record.get("files"), record.get("state", [])
    lists = isinstance(files, list) and isinstance(state, list) and all(isinstance(name, str) for name in files)
    return lists and isinstance(record.get("begun", record.get("image")), str) and ("begun" in record or state != [])
