"""Files of a benchmark: JSON written whole and read with a clear error; folders moved aside; a lock on the output."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from secrets import token_hex
from types import TracebackType
from typing import IO, Any

PATIENCE = 7.0
"""Seconds to wait for a lock that is held. What a killed run left may need some until it has ended: processes that load
data look every five seconds whether their parent is there."""
INTERVAL = 0.1
"""Seconds between two tries to take a lock."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a file whole or not at all; numbers that are not finite become ``null``, which strict readers know."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{token_hex(4)}.partial")
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
    """Keeps a second run out of an output folder; use it in a ``with``.

    The lock is the operating system's (``flock``), on ``FOLDER/.lock``, and ends with the last process that has the
    file open. Child processes get the file (``inherited``), so a training that outlives a killed benchmark still keeps
    others out. ``filelock.FileLock`` does not hand its file on: with that the lock would end with the benchmark.

    Args:
        folder: to be kept.
        owner: what this process calls itself.

    Raises:
        ValueError: where other processes hold it, also after some seconds, or the file system has no locks.
    """

    def __init__(self, folder: Path, owner: str = "benchmark") -> None:
        self.path = folder / ".lock"
        self.owner = owner
        self._file: IO[str] | None = None

    @property
    def inherited(self) -> tuple[int, ...]:
        """File descriptors to leave open in child processes."""
        return () if self._file is None else (self._file.fileno(),)

    def note(self, processes: Iterable[str]) -> None:
        """Write down the names of the processes at work, ``NAME (process NUMBER)``, for whoever meets the lock."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(", ".join([f"{self.owner} (process {os.getpid()})", *processes]))
            self._file.flush()

    def __enter__(self) -> OutputLock:
        """Take the lock."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+", encoding="utf-8")
        until = time.monotonic() + PATIENCE
        try:
            while not self._taken(self._file):
                if time.monotonic() >= until:
                    who = holders(self._file) or "another run"
                    raise ValueError(
                        f"{self.path.parent} is in use by {who}; wait for it, end it, or give another --output"
                    )
                time.sleep(INTERVAL)
            self.note([])
        except BaseException:
            self._file.close()
            raise
        return self

    def _taken(self, file: IO[str]) -> bool:
        """Try to take the lock."""
        import fcntl  # here, because Windows has none and the bundle is imported there too

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            advice = "give an --output on a file system that has locks"
            raise ValueError(f"{self.path} cannot be locked ({error.strerror}); {advice}") from error
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._file.close()


def holders(file: IO[str]) -> str:
    """Processes that hold a lock of ``OutputLock``, by the names that were noted; empty where the system tells of none.

    Linux alone tells, and only of processes of the same user.

    Args:
        file: the file of the lock, open for reading.
    """
    file.seek(0)
    names = {int(number): name for name, number in re.findall(r"([^,()]+) \(process (\d+)\)", file.read())}
    place, proc, found = os.fstat(file.fileno()), Path("/proc"), []
    for number in sorted(int(one) for one in os.listdir(proc) if one.isdigit()) if proc.is_dir() else []:
        with suppress(OSError):  # it has ended, or belongs to another user
            if any(_locks(proc / str(number), one, place) for one in os.listdir(proc / str(number) / "fd")):
                found.append(f"{names[number].strip()} (process {number})" if number in names else f"process {number}")
    return ", ".join(found)


def _locks(process: Path, descriptor: str, place: os.stat_result) -> bool:
    """Whether one of the open files of a process is that at ``place``, and holds a lock on it."""
    try:
        return (
            os.path.samestat(os.stat(process / "fd" / descriptor), place)
            and "FLOCK" in (process / "fdinfo" / descriptor).read_text()
        )
    except OSError:  # it is closed by now
        return False


def _finite(content: Any) -> Any:
    """The same with ``None`` for NaN and infinities."""
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
