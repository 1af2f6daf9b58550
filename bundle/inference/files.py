"""Files that appear whole or not at all, for what inference writes piece by piece."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from secrets import token_hex


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the system that happen inside say which file was being written; that of a full disk names none.

    Args:
        path: the file, by the name that it shall have.

    Raises:
        OSError: naming ``path``, in place of one that was raised inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{path} could not be written: {error}") from error
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def hidden_place(path: str | os.PathLike[str]) -> Path:
    """Where a file is written before it has its name: beside it, with the same suffix, for writers that go by it.

    What runs that were killed while writing the file have left there is taken away.

    Args:
        path: where the file shall appear; its folder is made where it is missing.

    Raises:
        OSError: where the folder cannot be made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".*.partial.{escape(path.name)}"):
        left.unlink(missing_ok=True)
    return path.with_name(f".{token_hex(4)}.partial.{path.name}")


@contextmanager
def hidden_until_done(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Place to write a file to, which gets the file's name when all inside went well and is taken away if not.

    Args:
        path: where the file shall appear. What stood there before stays after an error.

    Yields:
        The place.

    Raises:
        OSError: where the file cannot be written, for instance on a full disk; names ``path``.
    """
    with naming(path):
        hidden = hidden_place(path)
        try:
            yield hidden
            hidden.replace(path)
        finally:
            hidden.unlink(missing_ok=True)
