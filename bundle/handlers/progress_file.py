"""How far a training is, in a small JSON file that another program may read at any time."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events

from bundle.handlers.files import whole


class ProgressFile:
    """Writes the progress of a training: steps, epochs, loss, best score, seconds passed and left; rank 0 only.

    The file is always whole. A server that shows the progress of a training in another process reads it.

    Args:
        path: file to write, JSON.
        evaluator: of the validation, for its best score; ``None`` where there is none.
        interval: least seconds between two writings.
    """

    def __init__(self, path: str | os.PathLike[str], evaluator: Engine | None = None, interval: float = 1.0) -> None:
        self.path = Path(path)
        self.evaluator = evaluator
        self.interval = interval
        self._started = self._written = 0.0
        self._first = 0

    def attach(self, engine: Engine) -> None:
        """Write at the start, now and then, and at the end."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._now_and_then)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Engine) -> None:
        self._started = time.monotonic()
        self._first = engine.state.iteration
        self._write(engine)

    def _now_and_then(self, engine: Engine) -> None:
        if time.monotonic() - self._written >= self.interval:
            self._write(engine)

    def _write(self, engine: Engine) -> None:
        if idist.get_rank() != 0:
            return
        state = engine.state
        self._written = time.monotonic()
        passed = self._written - self._started
        length = state.epoch_length or 0
        steps, done = length * (state.max_epochs or 0), state.iteration
        made = done - self._first
        content: dict[str, Any] = {
            "epoch": -(-done // length) if length else 0,
            "epochs": state.max_epochs,
            "step": done,
            "steps": steps,
            "seconds": round(passed, 1),
            "seconds_left": round(passed / made * (steps - done), 1) if made and steps else None,
            "loss": self._loss(state),
            "best_score": self._best(),
        }
        with whole(self.path) as place:
            place.write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _loss(self, state: Any) -> float | None:
        step = getattr(state, "step", None)
        return _plain(step["loss"]) if step and "loss" in step else None

    def _best(self) -> float | None:
        if self.evaluator is None:
            return None
        score = getattr(self.evaluator.state, "best_metric", None)
        return None if score is None or score < 0 else _plain(score)  # MONAI begins with -1


def _plain(value: Any) -> float | None:
    """A number that JSON has; ``None`` for what is not finite."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None
