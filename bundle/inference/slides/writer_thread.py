"""How the work on a slide is spread: what is written waits in a queue, and each part of the work has its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

AHEAD = 4
"""Blocks that may wait to be written; more would only take memory."""


@dataclass
class Times:
    """Seconds of one slide. Reading and writing go on beside the network, so they may add up to more than ``all``.

    Attributes:
        all: from opening to the last file.
        tissue: looking for tissue.
        reading: in all worker processes.
        network: scores and classes.
        writing: masks and polygons.
        waiting_reading: of the network for pixels.
        waiting_writing: of the network for a place in the queue of what is to be written, and at the end for the rest.
    """

    all: float = 0.0
    tissue: float = 0.0
    reading: float = 0.0
    network: float = 0.0
    writing: float = 0.0
    waiting_reading: float = 0.0
    waiting_writing: float = 0.0


class Queue:
    """One thread that writes block after block, in their order; what fails there, fails where the next is put."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []

    def put(self, work: Callable[..., None], *arguments: Any) -> None:
        """Let work be done, once there is a place in the queue."""
        while len(self._waiting) >= AHEAD:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._timed, work, *arguments))

    def finish(self) -> None:
        """Wait for all that was put."""
        while self._waiting:
            self._waiting.pop(0).result()

    def close(self) -> None:
        """End the thread; what it has not begun is not done."""
        self._pool.shutdown(cancel_futures=True)

    def _timed(self, work: Callable[..., None], *arguments: Any) -> None:
        started = time.perf_counter()
        work(*arguments)
        self.seconds += time.perf_counter() - started
