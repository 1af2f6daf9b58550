"""Writing a data folder: all of it or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def new_folder(output: str | Path) -> Iterator[Path]:
    """Folder that appears under its name only when it is complete.

    Inside the ``with`` one writes to a hidden folder beside ``output``; at the end it is renamed, and after an error
    it is taken away.

    Args:
        output: the folder to make; it may exist if it is empty.

    Raises:
        ValueError: where ``output`` exists and is not an empty folder.
    """
    path = Path(output).expanduser().absolute()
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.rmdir()
        partial.rename(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def check_new(output: str | Path) -> None:
    """Refuse a folder that holds something already.

    Raises:
        ValueError: where ``output`` exists and is not an empty folder.
    """
    path = Path(output).expanduser().absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path} exists and is not empty; give another --output, or take it away first")


def write_lists(folder: Path, lists: Mapping[str, Any]) -> None:
    """Write data lists, file name -> content, as JSON with one entry a line."""
    for name, parts in lists.items():
        blocks = []
        for part, entries in parts.items():
            lines = ",\n".join(f"  {json.dumps(entry)}" for entry in entries)
            blocks.append(f" {json.dumps(part)}: [\n{lines}\n ]" if entries else f" {json.dumps(part)}: []")
        (folder / name).write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")
