"""Atomic writing of files, and errors that name the file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from bundle.utils import atomic_path


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "table.csv"
    with atomic_path(path) as unfinished:
        unfinished.write_text("a")
        assert not path.exists()
    assert path.read_text() == "a"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file_and_names_it(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("old")

    def fail() -> None:
        with atomic_path(path) as unfinished:
            unfinished.write_text("half of")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space left on device") as caught:
        fail()
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_that_names_its_file_stays(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_path(tmp_path / "table.csv"):
        (tmp_path / "elsewhere").read_text()
    with pytest.raises(OSError, match="no picture"), atomic_path(tmp_path / "table.csv"):
        raise OSError("no picture")
    assert list(tmp_path.iterdir()) == []
