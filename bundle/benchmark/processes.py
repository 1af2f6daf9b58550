"""Child processes: started with a log each, waited for together, stopped together, and what each took."""

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
"""Seconds that a child has to end when it is asked to."""
INTERVAL = 0.1
"""Seconds between two looks at the children."""
UNIT = 2**20 if sys.platform == "darwin" else 2**10
"""``ru_maxrss`` in one MiB."""


@dataclass(frozen=True)
class Ended:
    """A child that has ended.

    Attributes:
        name: as it was started.
        exit_code: 0 is good; minus the number of the signal that ended it.
        seconds: from start to end.
        host_mib: its largest resident memory, MiB, or that of its own children where one was larger; never less than
            what this process had when it started it, since a fork begins with that.
    """

    name: str
    exit_code: int
    seconds: float
    host_mib: float


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the end of the ``with``, where their handlers raise an exception.

    Python runs handlers in the main thread, between any two of its steps, so there is nothing to put off elsewhere.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    handlers = {one: handler for one in (signal.SIGTERM, signal.SIGINT) if callable(handler := signal.getsignal(one))}
    try:
        for one in handlers:
            signal.signal(one, lambda number, _: arrived.append(number))
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        for number in arrived:
            signal.raise_signal(number)


class Children:
    """Processes that run beside each other. Each is the leader of its own group: Ctrl-C reaches the parent alone.

    A child is known from the moment it exists, also where a Ctrl-C comes while it is started, so ``stop`` ends all of
    them. When a child has ended, what is left of its group is killed.

    Args:
        inherited: file descriptors that stay open in them.
    """

    def __init__(self, inherited: tuple[int, ...] = ()) -> None:
        self.inherited = inherited
        self._running: dict[int, tuple[str, float]] = {}

    def start(self, name: str, command: Sequence[str], log: Path, folder: Path, environment: Mapping[str, str]) -> None:
        """Start a process.

        Args:
            name: of the child.
            command: the program and its words.
            log: file to which both its streams are appended.
            folder: its working directory.
            environment: its whole environment.
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
                process.returncode = 0  # reaped here, by wait4, and not by subprocess
                self._running[process.pid] = (name, started)

    def running(self) -> dict[str, float]:
        """Names of those at work, and the seconds since their start."""
        return {name: time.monotonic() - started for name, started in self._running.values()}

    def processes(self) -> list[str]:
        """Names and process numbers of those at work, as text."""
        return [f"{name} (process {number})" for number, (name, _) in self._running.items()]

    def wait(self, seconds: float) -> list[Ended]:
        """Those that have ended, as soon as one has; empty after so many seconds without one."""
        until = time.monotonic() + seconds
        while True:
            ended = [one for number in list(self._running) if (one := self._look(number)) is not None]
            if ended or time.monotonic() >= until:
                return ended
            time.sleep(INTERVAL)

    def stop(self) -> list[Ended]:
        """Ask all to end, with their own children, and kill those that do not within ten seconds.

        A Ctrl-C meanwhile kills them at once.
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

    def _look(self, number: int) -> Ended | None:
        """A child that has ended, reaped; its memory is its own, which ``getrusage`` of all children cannot tell."""
        with uninterrupted():
            if hasattr(os, "waitid"):  # macOS has none before Python 3.13
                if os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                    return None
                _send(number, signal.SIGKILL)  # to what it left; until it is reaped, nobody else gets its number
            found, status, usage = os.wait4(number, os.WNOHANG)
            if found == 0:
                return None
            name, started = self._running.pop(number)
        seconds = time.monotonic() - started
        return Ended(name, os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss / UNIT)

    def _send(self, kind: signal.Signals) -> None:
        for number in self._running:
            _send(number, kind)


def _send(group: int, kind: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # all of them have just ended
        os.killpg(group, kind)
