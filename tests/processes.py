"""Run Python programs in tests without paying for their imports.

``python -m monai.bundle`` spends five seconds on imports alone. `warm_python.py` imports the shared libraries once and
forks a child for each program, with its own working directory, environment, arguments, output and exit code. Tests of
what a fork does not have (the start of Python, Ctrl-C in a terminal, a kill from outside) start Python itself.

Run as a program, this file replaces the Python interpreter for processes that start others, such as `torchrun`: it
forwards its arguments to the same server, signals to the child, and the exit code of the child to its own parent.
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
"""Script that stands in for the Python interpreter, with the address of the server."""
Run = subprocess.CompletedProcess[str]


class Child:
    """A child forked from the server.

    Args:
        address: Socket of the server.
        request: The program: ``arguments`` (its command line), ``cwd``, ``environment``, ``limit``.
        files: File descriptors of its standard output and standard error.
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
        """Wait until it ends and return its exit code, which is negative after a signal.

        Raises:
            TimeoutError: if it takes longer than ``timeout`` seconds; it is killed.
        """
        self._connection.settimeout(timeout)
        with self._connection, self._answers:  # closing the connection early kills the child
            try:
                return int(self._answers.readline())
            except TimeoutError:
                raise TimeoutError(f"process {self.pid} took more than {timeout} s and is killed") from None


def send(pid: int, number: int) -> None:
    """Send a signal to a process unless it has ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Python:
    """Run ``python ARGUMENTS`` on the CPU, in a child process that has already imported the shared libraries."""

    def __init__(self) -> None:
        self._warm: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="warm-")  # the path of a socket has at most 108 bytes
        self._address = str(Path(self._folder.name) / "socket")

    def __call__(
        self,
        *arguments: str | Path,
        cwd: Path | None = None,
        merged: bool = False,
        limit: int = 0,
        timeout: float = 300,
        stop: tuple[int, float] | None = None,
        keeps_modes: bool = False,
        **environment: str,
    ) -> Run:
        """Run the program and wait until it ends.

        Args:
            arguments: Command line after ``python``: ``-m`` and a module, ``-c`` and code, or a file; then its
                arguments.
            cwd: Working directory (default: that of the tests).
            merged: Whether to merge standard error into standard output.
            limit: Size of the largest file that the program can write, in bytes; 0 for no limit.
            timeout: Seconds after which the program is killed.
            stop: A signal and the number of seconds after which it is sent.
            keeps_modes: Whether folders without permission to write are closed to root, too.
            environment: Variables added to the environment of the tests.
        """
        if self._warm is None:
            self._begin()
        given = list(map(str, arguments))
        request = {
            "arguments": given,
            "cwd": str(cwd or Path.cwd()),
            "limit": limit,
            "keeps_modes": keeps_modes,
            "environment": os.environ | environment,
        }
        # pipes, because the limit on file sizes would cut off output that goes to files
        pipes = [os.pipe() for _ in range(1 if merged else 2)]
        child = Child(self._address, request, [writing for _, writing in pipes])
        for _, writing in pipes:
            os.close(writing)
        texts = [""] * len(pipes)

        def read(index: int) -> None:
            with open(pipes[index][0], encoding="utf-8", errors="replace") as file:
                texts[index] = file.read()

        readers = [threading.Thread(target=read, args=(index,)) for index in range(len(pipes))]
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
            assert self._warm.poll() is None, "the server of warm processes has ended"
            assert time.monotonic() < until
            time.sleep(0.01)

    def close(self) -> None:
        """Stop the server."""
        if self._warm is not None:
            try:
                self._warm.communicate(timeout=300)  # slow on a busy machine
            finally:
                self._warm.kill()  # has no effect if it has ended
                self._warm.wait()
                self._folder.cleanup()
            assert self._warm.returncode == 0
        else:
            self._folder.cleanup()


def main() -> None:
    """Run the command line in a child of the server, in place of the Python interpreter."""
    address, *arguments = sys.argv[1:]
    request = {"arguments": arguments, "cwd": os.getcwd(), "environment": dict(os.environ), "limit": 0}
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
