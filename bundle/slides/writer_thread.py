"""Writer thread with a bounded queue, and the times of the steps for a slide."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

AHEAD = 4
"""Maximum number of blocks in the queue, to bound the memory."""


@dataclass
class Times:
    """Times of one slide, s. Steps run in parallel, so they may add up to more than ``all``.

    Attributes:
        all: from opening the slide to the last file.
        tissue: tissue detection.
        reading: sum over all worker processes.
        network: prediction and upsampling.
        writing: masks and polygons.
        waiting_reading: time the network waits for pixels.
        waiting_writing: time the network waits for the queue, and at the end for the remaining writes.
    """

    all: float = 0.0
    tissue: float = 0.0
    reading: float = 0.0
    network: float = 0.0
    writing: float = 0.0
    waiting_reading: float = 0.0
    waiting_writing: float = 0.0


class Queue:
    """One thread that runs functions in order. An error is raised by a later :meth:`put` or by :meth:`finish`."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []

    def put(self, work: Callable[..., None], *arguments: Any) -> None:
        """Add a function call; wait while the queue is full."""
        while len(self._waiting) >= AHEAD:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._timed, work, *arguments))

    def finish(self) -> None:
        """Wait until the queue is empty."""
        while self._waiting:
            self._waiting.pop(0).result()

    def close(self) -> None:
        """Stop the thread and discard the calls that have not started."""
        self._pool.shutdown(cancel_futures=True)

    def _timed(self, work: Callable[..., None], *arguments: Any) -> None:
        started = time.perf_counter()
        work(*arguments)
        self.seconds += time.perf_counter() - started
