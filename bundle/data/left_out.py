"""Files of a folder that are left out, so that nothing is passed over without a word."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from bundle.data.message_text import counted

logger = logging.getLogger(__name__)


def others_in(folder: Path, used: Collection[Path]) -> list[Path]:
    """Return the files of a folder that are not used, sorted: other formats, and links that lead nowhere.

    Folders and hidden files do not count.

    Args:
        folder: an existing folder.
        used: files of the folder that are used.
    """
    known = {file.name for file in used}
    visible = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and not file.is_dir()]
    return [file for file in visible if file.name not in known]


def is_dead_link(file: Path) -> bool:
    """Return whether a file is a symbolic link that leads nowhere."""
    return file.is_symlink() and not file.exists()


def note_on_others(folder: Path, used: Collection[Path]) -> str | None:
    """Return a note on the files of a folder that are left out, with their number and the first; ``None`` if none."""
    others = others_in(folder, used)
    if not others:
        return None
    # A lost file matters more than one that is in another format.
    first = next((file for file in others if is_dead_link(file)), others[0])
    reason = "a link that leads nowhere" if is_dead_link(first) else "another format"
    are = "is" if len(others) == 1 else "are"
    return f"{counted(len(others), 'file')} in {folder} {are} left out (first {first.name}, {reason})"


def warn_of_others(folder: Path, used: Collection[Path]) -> None:
    """Log a warning about the files of a folder that are left out."""
    note = note_on_others(folder, used)
    if note is not None:
        logger.warning("%s", note)
