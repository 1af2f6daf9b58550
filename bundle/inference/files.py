"""Atomic writing of files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from secrets import token_hex


@contextmanager
def path_in_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Context manager that adds the path of a file to an OSError; the error of a full disk does not name one.

    Args:
        path: final path of the file.

    Raises:
        OSError: with ``path``, in place of an OSError raised inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path} could not be written: {error}") from error
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def temporary_path(path: str | os.PathLike[str]) -> Path:
    """Return a temporary path beside a file, with the same suffix, because some writers choose the format by it.

    Temporary files of interrupted runs for the same file are deleted.

    Args:
        path: final path of the file; its folder is created if missing.

    Raises:
        OSError: if the folder cannot be created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".*.partial.{escape(path.name)}"):
        abandoned.unlink(missing_ok=True)
    return path.with_name(f".{token_hex(4)}.partial.{path.name}")


@contextmanager
def hidden_until_done(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Context manager that yields a temporary path and renames it to ``path`` on success; deletes it on an error.

    Args:
        path: final path of the file. An existing file stays unchanged after an error.

    Yields:
        The temporary path.

    Raises:
        OSError: if the file cannot be written, for example on a full disk; with ``path``.
    """
    with path_in_errors(path):
        temporary = temporary_path(path)
        try:
            yield temporary
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
