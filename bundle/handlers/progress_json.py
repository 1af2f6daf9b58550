"""JSON file with the progress of a training, for other programs."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from bundle.utils import atomic_path


class ProgressFile:
    """Handler that writes steps, epochs, loss, best score, finished share and seconds of a training; rank 0 only.

    It writes atomically, so that a server in another process can read the file at any time.

    Args:
        path: JSON file to write.
        evaluator: evaluator of the validation, for its best score; ``None`` without validation.
        interval: minimal seconds between two writes.
        limit: longest time in seconds, as of ``TimeLimit``; the remaining time and the finished share follow it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        evaluator: Engine | None = None,
        interval: float = 1.0,
        limit: float | None = None,
    ) -> None:
        self.path = Path(path)
        self.evaluator = evaluator
        self.interval = interval
        self.limit = limit
        self._started = self._written = 0.0
        self._first = 0

    def attach(self, engine: Engine) -> None:
        """Write at the start, after each interval, and at the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write_at_interval)
        engine.add_event_handler(Events.COMPLETED, self._write, ended=True)

    def _start(self, engine: Engine) -> None:
        self._started = time.monotonic()
        self._first = engine.state.iteration
        self._write(engine)

    def _write_at_interval(self, engine: Engine) -> None:
        if time.monotonic() - self._written >= self.interval:
            self._write(engine)

    def _write(self, engine: Engine, ended: bool = False) -> None:
        if idist.get_rank() != 0:
            return
        state = engine.state
        self._written = time.monotonic()
        elapsed = self._written - self._started
        length = state.epoch_length or 0
        done = state.iteration
        steps = done if ended else length * (state.max_epochs or 0)  # a time limit ends within an epoch
        left = self._seconds_left(elapsed, done - self._first, steps - done)
        share = done / steps if steps else 0.0
        if self.limit is not None:
            share = max(share, min(elapsed / self.limit, 1.0))
        content: dict[str, Any] = {
            "epoch": -(-done // length) if length else 0,
            "epochs": state.max_epochs,
            "step": done,
            "steps": steps,
            "seconds": round(elapsed, 1),
            "seconds_left": None if left is None else round(left, 1),
            "share": round(share, 4),
            "loss": self._loss(state),
            "best_score": self._best(),
        }
        with atomic_path(self.path, clean=True) as partial:
            partial.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _seconds_left(self, elapsed: float, steps: int, steps_left: int) -> float | None:
        """Return the time until the last step or the limit, whichever comes first; ``None`` if neither is known."""
        times = [elapsed / steps * steps_left] if steps else []
        if self.limit is not None:
            times.append(max(self.limit - elapsed, 0.0) if steps_left else 0.0)
        return min(times, default=None)

    def _loss(self, state: Any) -> float | None:
        step = getattr(state, "step", None)
        return _json_number(step["loss"]) if step and "loss" in step else None

    def _best(self) -> float | None:
        if self.evaluator is None:
            return None
        score = getattr(self.evaluator.state, "best_metric", None)
        return None if score is None or score < 0 else _json_number(score)  # MONAI starts with -1


def _json_number(value: Any) -> float | None:
    """Return a value rounded to 6 digits; ``None`` if it is not finite, which JSON does not allow."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None
