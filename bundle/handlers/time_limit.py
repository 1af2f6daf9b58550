"""End of a training after a given time."""

from __future__ import annotations

import time

from ignite.engine import Engine, Events


class TimeLimit:
    """Handler that makes the current epoch the last one when the time is over; attach it to the trainer.

    The epoch ends after the current step, with all that follows an epoch: validation, log and model file. Ignite's
    ``TimeLimit`` terminates the run instead, without the last validation.

    Args:
        seconds: longest time from the start of the training to its last step, above 0.
    """

    def __init__(self, seconds: float) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds is {seconds}; the time limit must be above 0")
        self.seconds = seconds
        self._end = float("inf")

    def attach(self, engine: Engine) -> None:
        """Start the clock with the training, and look at it after each step."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._end_if_over)

    def _start(self, engine: Engine) -> None:
        self._end = time.monotonic() + self.seconds

    def _end_if_over(self, engine: Engine) -> None:
        if time.monotonic() >= self._end:
            engine.state.max_epochs = engine.state.epoch
            engine.terminate_epoch()
