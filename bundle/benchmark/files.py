"""Files of a benchmark: JSON written whole and read with a clear error; folders moved aside; a lock on the output."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import IO, Any


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all; numbers that are not finite become ``null``, which strict readers know."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            json.dump(_finite(content), file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path, form: str) -> dict[str, Any]:
    """Read a file of a known format.

    Args:
        path: the file.
        form: what its key ``format`` must say.

    Raises:
        ValueError: where it is not JSON, or of another format.
        OSError: where it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != form:
        raise ValueError(f"{path} is of format {found!r}, not {form!r}")
    return content


def move_aside(folder: Path, into: Path) -> Path:
    """Move a folder away under a name that no other has, ``INTO/NAME-TIME``; nothing is lost.

    Returns:
        Where it lies now.
    """
    into.mkdir(parents=True, exist_ok=True)
    start = f"{folder.name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    names = (f"{start}{end}" for end in ("", *(f"-{number}" for number in range(2, 1000))))
    target = next(into / name for name in names if not (into / name).exists())
    folder.rename(target)
    return target


def now() -> str:
    """The time, ISO 8601 with seconds, in UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class OutputLock:
    """Keeps a second benchmark out of an output folder; use it in a ``with``.

    The lock is the operating system's, on ``FOLDER/.lock``, and ends with the last process that holds the file. Child
    processes get the file (``inherited``), so a training that outlives a killed benchmark still keeps others out.

    Raises:
        ValueError: where another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._file: IO[str] | None = None

    @property
    def inherited(self) -> tuple[int, ...]:
        """File descriptors to leave open in child processes."""
        return () if self._file is None else (self._file.fileno(),)

    def note(self, processes: Iterable[str]) -> None:
        """Write down who is at work, for whoever meets the lock."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(", ".join([f"benchmark (process {os.getpid()})", *processes]))
            self._file.flush()

    def __enter__(self) -> OutputLock:
        """Take the lock."""
        import fcntl  # here, because Windows has none and the bundle is imported there too

        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read() or "a process that left no name"
            self._file.close()
            raise ValueError(
                f"{self.path.parent} is in use by another benchmark, or by what a killed one left: {holder}; "
                "wait for it, end it, or give another --output"
            ) from error
        self.note([])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()


def _finite(content: Any) -> Any:
    """The same with ``None`` for NaN and infinities."""
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
