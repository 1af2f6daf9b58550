"""Reports of files in a folder that are left out, so that no file is skipped silently."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from pathlib import Path

from bundle.data.message_text import join_names, pluralize

BROKEN_LINK = "broken link"
MOST_NAMES = 50
"""Number of names of a reason that a note gives."""

logger = logging.getLogger(__name__)


def others_in(folder: Path, used: Collection[Path]) -> list[Path]:
    """Return the files of a folder that are not used, sorted: other formats, and broken links.

    Folders and hidden files do not count.

    Args:
        folder: an existing folder.
        used: files of the folder that are used.
    """
    known = {file.name for file in used}
    visible = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and not file.is_dir()]
    return [file for file in visible if file.name not in known]


def is_broken_link(file: Path) -> bool:
    """Return whether a file is a broken symbolic link."""
    return file.is_symlink() and not file.exists()


def note_on_others(folder: Path, used: Collection[Path], reasons: Mapping[str, str] | None = None) -> str | None:
    """Return a note that names the files of a folder that are left out, by reason; ``None`` if there are none.

    Args:
        folder: an existing folder.
        used: files of the folder that are used.
        reasons: name of a file -> why it is left out, other than another format or a broken link.
    """
    others = others_in(folder, used)
    if not others:
        return None
    names: dict[str, list[str]] = {BROKEN_LINK: []}  # a lost file matters more than one in another format
    for file in others:
        reason = BROKEN_LINK if is_broken_link(file) else (reasons or {}).get(file.name, "another format")
        names.setdefault(reason, []).append(file.name)
    groups = [f"{join_names(files, MOST_NAMES)} ({reason})" for reason, files in names.items() if files]
    are = "is" if len(others) == 1 else "are"
    return f"{pluralize(len(others), 'file')} in {folder} {are} left out: {'; '.join(groups)}"


def warn_of_others(folder: Path, used: Collection[Path], reasons: Mapping[str, str] | None = None) -> None:
    """Log a warning about the files of a folder that are left out; arguments as for ``note_on_others``."""
    note = note_on_others(folder, used, reasons)
    if note is not None:
        logger.warning("%s", note)
