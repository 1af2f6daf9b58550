"""Progress of a run and its remaining time, on one line."""

from __future__ import annotations

import sys
import time
from typing import TextIO

import ignite.distributed as idist
from ignite.engine import Engine, Events
from tqdm import tqdm

FORMAT = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} UNIT [{elapsed}, {remaining} left{postfix}]"


class RunProgress:
    """Handler that shows the progress of a whole run, its loss and remaining time; for any engine, rank 0 only.

    On a terminal it is a bar of tqdm, cleared at the end of each epoch so that log lines are not mixed with it.
    Otherwise, as in a log file, it is a plain line at intervals. The remaining time is estimated from the average over
    this run, including validation.

    Ignite's ``ProgressBar`` is not used, because it restarts in each epoch and so shows no remaining time of the whole
    training, counts steps before a resume as steps of this run, and fills a log file when it redraws.

    Args:
        title: name of the run: ``training``, ``evaluation``, ``inference``.
        unit: name of an iteration: ``steps``, ``images``.
        interval: seconds between two updates; default is 0.5 on a terminal, 30 elsewhere.
        stream: output stream; default is standard error at the start of the training.
    """

    def __init__(
        self,
        title: str = "training",
        unit: str = "steps",
        interval: float | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.title = title
        self.unit = unit
        self.interval = interval
        self.stream = stream
        self._bar: tqdm | None = None
        self._first = 0
        self._started = self._shown = 0.0

    def attach(self, engine: Engine) -> None:
        """Show the progress of an engine."""
        engine.add_event_handler(Events.STARTED, self._close)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._advance)
        engine.add_event_handler(Events.COMPLETED, self._close)
        engine.add_event_handler(Events.TERMINATE, self._close)

    def _start(self, engine: Engine) -> None:
        """Open the bar in the first epoch of a run, at the step of a resumed training."""
        if self._started or idist.get_rank() != 0:
            return
        self._first = engine.state.iteration
        self._started = self._shown = time.monotonic()
        stream = self._stream()
        if stream.isatty():
            # `_advance` decides when to draw; tqdm would draw at each change of the postfix
            self._bar = tqdm(
                desc=self.title,
                total=self._total(engine),
                initial=self._first,
                file=stream,
                dynamic_ncols=True,
                mininterval=0.0,
                smoothing=0.0,
            )

    def _advance(self, engine: Engine) -> None:
        """Redraw after each interval and at the end."""
        if not self._started:
            return
        iteration, total = engine.state.iteration, self._total(engine)
        now = time.monotonic()
        interval = self.interval
        if interval is None:
            interval = 0.5 if self._bar is not None else 30.0
        if now - self._shown >= interval or iteration == total:
            self._shown = now
            self._show(engine, iteration, total)
        if self._bar is not None and engine.state.epoch_length and iteration % engine.state.epoch_length == 0:
            self._bar.clear()

    def _show(self, engine: Engine, iteration: int, total: int | None) -> None:
        """Draw once; the loss is read from the device only here."""
        notes = [f"epoch {engine.state.epoch}/{engine.state.max_epochs}"] if engine.state.max_epochs != 1 else []
        step = getattr(engine.state, "step", None)
        if step and "loss" in step:
            notes.append(f"loss {float(step['loss']):.4f}")
        postfix = ", ".join(notes)
        if self._bar is not None:
            self._bar.total = total
            self._bar.n = iteration
            self._bar.set_postfix_str(postfix)
            return
        line = tqdm.format_meter(
            iteration,
            total,
            time.monotonic() - self._started,
            prefix=self.title,
            initial=self._first,
            postfix=postfix,
            bar_format=FORMAT.replace("UNIT", self.unit) if total else None,
        )
        stream = self._stream()
        stream.write(line + "\n")
        stream.flush()

    def _close(self, engine: Engine) -> None:
        """Close the bar; its last state stays on the screen."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
        self._started = 0.0

    def _stream(self) -> TextIO:
        return sys.stderr if self.stream is None else self.stream

    @staticmethod
    def _total(engine: Engine) -> int | None:
        """Return the steps of the whole training, if the length of an epoch is known."""
        length, epochs = engine.state.epoch_length, engine.state.max_epochs
        return length * epochs if length and epochs else None
