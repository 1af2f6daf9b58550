"""Processes that start at once: children of one that has imported torch and MONAI already.

``python -m monai.bundle`` spends five seconds on imports alone. `warm_python.py` imports what all such processes need,
once, and becomes any of them by a fork of itself: with its own folder, environment, words, output and exit code. Tests
of what no fork has (the start of Python, a person's Ctrl-C, a kill from outside) start Python itself.

As a program this file stands for Python where a process of a test starts another, as `torchrun` does: it passes on its
words to the same warm process, signals to the child, and the child's end to who started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("warm_python.py")
STAND_IN = f"""#!/bin/sh
exec '{sys.executable}' -IS '{__file__}' '%s' "$@"
"""
"""What processes that start others take for Python; knows where the warm process listens."""
Run = subprocess.CompletedProcess[str]


class Child:
    """A child of the warm process.

    Args:
        address: Where the warm process listens.
        request: What it is to be: ``words``, ``cwd``, ``environment``, ``limit``.
        files: Its output and errors.
    """

    def __init__(self, address: str, request: Mapping[str, Any], files: Sequence[int]) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(address)
        text = json.dumps(request).encode() + b"\n"
        sent = socket.send_fds(self._connection, [text], list(files))
        self._connection.sendall(text[sent:])
        self._answers = self._connection.makefile("rb")
        self.pid = int(self._answers.readline())

    def exit_code(self, timeout: float | None) -> int:
        """Wait for its end; negative for a signal.

        Raises:
            TimeoutError: It takes longer, and is killed.
        """
        self._connection.settimeout(timeout)
        with self._connection, self._answers:  # who closes this early kills the child
            try:
                return int(self._answers.readline())
            except TimeoutError:
                raise TimeoutError(f"process {self.pid} took more than {timeout} s and is killed") from None


def send(pid: int, number: int) -> None:
    """Send a signal to a process, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Python:
    """Runs what ``python WORDS`` runs, on the CPU, in a process of its own that has its imports already."""

    def __init__(self) -> None:
        self._warm: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")  # short: the name of a socket has 108 bytes at most
        self._address = str(Path(self._folder.name) / "socket")

    def __call__(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        merged: bool = False,
        limit: int = 0,
        timeout: float = 300,
        stop: tuple[int, float] | None = None,
        **environment: str,
    ) -> Run:
        """Run it to its end.

        Args:
            words: What follows ``python``: ``-m`` and a module, ``-c`` and code, or a file; and its arguments.
            cwd: Its folder, else that of the tests.
            merged: Whether errors go to standard output, between the lines where they occur.
            limit: Bytes of the largest file that it can write; 0 is no limit.
            timeout: Seconds after which it is killed.
            stop: A signal, and the seconds after which it is sent.
            environment: What differs from the environment of the tests.
        """
        if self._warm is None:
            self._begin()
        given = list(map(str, words))
        request = {
            "words": given,
            "cwd": str(cwd or Path.cwd()),
            "limit": limit,
            "environment": os.environ | environment,
        }
        pipes = [os.pipe() for _ in range(1 if merged else 2)]  # no files: a full disk must not silence what is said
        child = Child(self._address, request, [writing for _, writing in pipes])
        for _, writing in pipes:
            os.close(writing)
        texts = [""] * len(pipes)

        def read(place: int) -> None:
            with open(pipes[place][0], encoding="utf-8", errors="replace") as file:
                texts[place] = file.read()

        readers = [threading.Thread(target=read, args=(place,)) for place in range(len(pipes))]
        for reader in readers:
            reader.start()
        timer = threading.Timer(stop[1], send, (child.pid, stop[0])) if stop else None
        if timer is not None:
            timer.start()
        code = child.exit_code(timeout)
        if timer is not None:
            timer.cancel()
        for reader in readers:
            reader.join()
        return Run(given, code, texts[0], "" if merged else texts[1])

    def _begin(self) -> None:
        stand_in = Path(self._folder.name) / "python"
        stand_in.write_text(STAND_IN % self._address)
        stand_in.chmod(0o700)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._warm = subprocess.Popen(
            [sys.executable, str(PROGRAM), self._address, str(stand_in)],
            env=environment | {"CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.PIPE,
        )
        until = time.monotonic() + 120
        while not Path(self._address).exists():
            assert self._warm.poll() is None, "the warm process has ended"
            assert time.monotonic() < until
            time.sleep(0.01)

    def close(self) -> None:
        """End the warm process."""
        if self._warm is not None:
            try:
                self._warm.communicate(timeout=300)  # a busy machine may take long
            finally:
                self._warm.kill()  # of no effect if it has ended
                self._warm.wait()
                self._folder.cleanup()
            assert self._warm.returncode == 0
        else:
            self._folder.cleanup()


def main() -> None:
    """Be Python for who started this, by a child of the warm process."""
    address, *words = sys.argv[1:]
    request = {"words": words, "cwd": os.getcwd(), "environment": dict(os.environ), "limit": 0}
    child = Child(address, request, [1, 2])

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    code = child.exit_code(None)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
