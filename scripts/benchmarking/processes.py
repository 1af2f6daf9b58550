"""Child processes with log files: start, wait, stop, and measurement of time and memory.

``concurrent.futures`` does not end running processes with their own children, and psutil knows no peak memory of a
process that has ended, so this is written with ``subprocess`` and ``os.wait4``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 10.0
"""Seconds between SIGTERM and SIGKILL."""
INTERVAL = 0.1
"""Seconds between two checks of the children."""
UNIT = 2**20 if sys.platform == "darwin" else 2**10
"""Units of ``ru_maxrss`` per MiB."""


@dataclass(frozen=True)
class Ended:
    """A child process that has ended.

    Attributes:
        name: name given at its start.
        exit_code: 0 for success; negative: number of the signal that ended it.
        seconds: time from start to end.
        host_mib: peak resident memory, MiB, of the child or the largest of its own children. It is at least that of
            this process at the start of the child, because a fork starts with that memory.
        lost: whether the machine or the worker that ran it was lost, so that it can be continued elsewhere.
    """

    name: str
    exit_code: int
    seconds: float
    host_mib: float
    lost: bool = False


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end of the ``with`` block, where their handlers raise an exception.

    Python runs signal handlers only in the main thread, so other threads need no delay.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    kinds = (signal.SIGTERM, signal.SIGINT)
    handlers = {kind: handler for kind in kinds if callable(handler := signal.getsignal(kind))}
    try:
        for kind in handlers:
            signal.signal(kind, lambda number, _: arrived.append(number))
        yield
    finally:
        for kind, handler in handlers.items():
            signal.signal(kind, handler)
        for number in arrived:
            signal.raise_signal(number)


class Children:
    """Child processes that run in parallel, each in its own process group, so that Ctrl-C reaches only the parent.

    A child is registered even if Ctrl-C arrives during its start, so that ``stop`` ends all children. When a child
    ends, remaining processes of its group are killed.

    Args:
        inherited: file descriptors that stay open in the children.
    """

    def __init__(self, inherited: tuple[int, ...] = ()) -> None:
        self.inherited = inherited
        self._running: dict[int, tuple[str, float]] = {}

    def start(self, name: str, command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]) -> None:
        """Start a process.

        Args:
            name: name of the child.
            command: program and arguments.
            log: file to which standard output and standard error are appended.
            folder: working directory.
            environment: all environment variables.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"$ {' '.join(command)}\n")
            file.flush()
            with uninterrupted():
                started = time.monotonic()
                process = subprocess.Popen(
                    list(command),
                    cwd=folder,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=self.inherited,
                )
                process.returncode = 0  # reaped by wait4 below, not by subprocess
                self._running[process.pid] = (name, started)

    def running(self) -> dict[str, float]:
        """Return name -> seconds since the start, of the running children."""
        return {name: time.monotonic() - started for name, started in self._running.values()}

    def processes(self) -> list[str]:
        """Return names and process numbers of the running children, as text."""
        return [f"{name} (process {number})" for number, (name, _) in self._running.items()]

    def wait(self, seconds: float) -> list[Ended]:
        """Return the ended children as soon as there is one; an empty list after ``seconds``."""
        until = time.monotonic() + seconds
        while True:
            ended = [child for number in list(self._running) if (child := self._reap(number)) is not None]
            if ended or time.monotonic() >= until:
                return ended
            time.sleep(INTERVAL)

    def stop(self) -> list[Ended]:
        """Terminate all children with their groups, and kill those that do not end within ten seconds.

        Ctrl-C in the meantime kills them at once.
        """
        ended = []
        try:
            self._send(signal.SIGTERM)
            until = time.monotonic() + PATIENCE
            while self._running and time.monotonic() < until:
                ended += self.wait(INTERVAL)
        finally:
            self._send(signal.SIGKILL)
            while self._running:
                ended += self.wait(INTERVAL)
        return ended

    def _reap(self, number: int) -> Ended | None:
        """Reap a child if it has ended; ``wait4`` measures its memory, ``getrusage`` only that of all children."""
        with uninterrupted():
            if hasattr(os, "waitid"):  # macOS has none before Python 3.13
                if os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return None
                _send(number, signal.SIGKILL)  # to the rest of its group; its number is not reused before it is reaped
            reaped, status, usage = os.wait4(number, os.WNOHANG)
            if reaped == 0:
                return None
            name, started = self._running.pop(number)
        seconds = time.monotonic() - started
        return Ended(name, os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / UNIT)

    def _send(self, kind: signal.Signals) -> None:
        for number in self._running:
            _send(number, kind)


def _send(group: int, kind: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # the group has just ended
        os.killpg(group, kind)
