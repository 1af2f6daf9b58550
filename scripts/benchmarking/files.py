"""Files of a benchmark: atomic JSON files, folders moved aside, and a lock on the output folder."""

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
from types import TracebackType
from typing import IO, Any

from bundle.utils import atomic_path

PATIENCE = 7.0
"""Seconds to wait for a lock. Loader processes of a killed run check only every five seconds whether their parent
exists."""
INTERVAL = 0.1
"""Seconds between two attempts to acquire a lock."""


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically; numbers that are not finite become ``null``, because JSON does not allow them."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        json.dump(_finite(content), file, indent=1, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path, form: str) -> dict[str, Any]:
    """Read a JSON file of a known format.

    Args:
        path: file to read.
        form: expected value of its key ``format``.

    Raises:
        ValueError: if it is not JSON, or of another format.
        OSError: if it cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    actual = content.get("format") if isinstance(content, dict) else None
    if actual != form:
        raise ValueError(f"{path} has format {actual!r}, expected {form!r}")
    return content


def move_aside(folder: Path, into: Path) -> Path:
    """Move a folder to a new name, ``INTO/NAME-TIME``, without overwriting anything.

    Returns:
        The new path.
    """
    into.mkdir(parents=True, exist_ok=True)
    start = f"{folder.name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}"
    names = (f"{start}{end}" for end in ("", *(f"-{number}" for number in range(2, 1000))))
    target = next(into / name for name in names if not (into / name).exists())
    folder.rename(target)
    return target


def now() -> str:
    """Return the current time in UTC, ISO 8601 with seconds."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


class OutputLock:
    """Context manager that locks an output folder against a second run.

    It is a lock of the operating system (``flock``) on ``FOLDER/.lock``, which ends when the last process closes the
    file. Child processes inherit the file (``inherited``), so that the folder stays locked while a training outlives a
    killed benchmark. ``filelock.FileLock`` does not pass its file on, so its lock would end with the benchmark.

    Args:
        folder: folder to lock.
        owner: name of this process in messages.
        patience: seconds to wait for the lock (default: ``PATIENCE``).

    Raises:
        ValueError: if other processes still hold the lock after some seconds, or the file system has no locks.
    """

    def __init__(self, folder: Path, owner: str = "benchmark", patience: float | None = None) -> None:
        self.path = folder / ".lock"
        self.owner = owner
        self.patience = PATIENCE if patience is None else patience
        self._file: IO[str] | None = None

    @property
    def inherited(self) -> tuple[int, ...]:
        """File descriptors to leave open in child processes."""
        return () if self._file is None else (self._file.fileno(),)

    def note(self, processes: Iterable[str]) -> None:
        """Write the names of the running processes, ``NAME (process NUMBER)``, to the file, for error messages."""
        if self._file is not None:
            self._file.seek(0)
            self._file.truncate()
            self._file.write(", ".join([f"{self.owner} (process {os.getpid()})", *processes]))
            self._file.flush()

    def __enter__(self) -> OutputLock:
        """Acquire the lock."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a+", encoding="utf-8")
        until = time.monotonic() + self.patience
        try:
            while not self._acquired(self._file):
                if time.monotonic() >= until:
                    owners = holders(self._file) or "another run"
                    raise ValueError(
                        f"{self.path.parent} is used by {owners}; wait for it, stop it, or give another --output"
                    )
                time.sleep(INTERVAL)
            self.note([])
        except BaseException:
            self._file.close()
            raise
        return self

    def _acquired(self, file: IO[str]) -> bool:
        """Try to acquire the lock."""
        import fcntl  # missing on Windows, where the bundle can be imported too

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
        """Release the lock."""
        if self._file is not None:
            self._file.close()


def holders(file: IO[str]) -> str:
    """Return the processes that hold a lock of ``OutputLock``, with their noted names; empty if unknown.

    Only Linux provides this information, and only for processes of the same user.

    Args:
        file: the file of the lock, open for reading.
    """
    file.seek(0)
    names = {int(number): name for name, number in re.findall(r"([^,()]+) \(process (\d+)\)", file.read())}
    status, proc, processes = os.fstat(file.fileno()), Path("/proc"), []
    for number in sorted(int(name) for name in os.listdir(proc) if name.isdigit()) if proc.is_dir() else []:
        with suppress(OSError):  # the process has ended, or belongs to another user
            if any(_locks(proc / str(number), fd, status) for fd in os.listdir(proc / str(number) / "fd")):
                text = f"{names[number].strip()} (process {number})" if number in names else f"process {number}"
                processes.append(text)
    return ", ".join(processes)


def _locks(process: Path, descriptor: str, status: os.stat_result) -> bool:
    """Return whether an open file of a process is the file with this status, and is locked."""
    try:
        return (
            os.path.samestat(os.stat(process / "fd" / descriptor), status)
            and "FLOCK" in (process / "fdinfo" / descriptor).read_text()
        )
    except OSError:  # closed in the meantime
        return False


def _finite(content: Any) -> Any:
    """Replace NaN and infinities by ``None``."""
    if isinstance(content, Mapping):
        return {str(key): _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
