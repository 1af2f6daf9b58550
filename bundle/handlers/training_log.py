"""Log each epoch: one line in the log, one row of training.csv, and a warning about useless pseudo-labels."""

from __future__ import annotations

import csv
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from tensorboard.compat.proto.event_pb2 import Event, SessionLog

from bundle.handlers.epoch_averages import EpochSums
from bundle.handlers.files import whole
from bundle.types import EXPERTS

logger = logging.getLogger(__name__)

EPOCH = "epoch"
FOREGROUND = "foreground/"
COUNTED = "counted/"
LABELED = "labeled/"
UNLABELED = "unlabeled/"
LEARNING_RATE = "learning_rate"
SECONDS = "seconds"


class TrainingLog:
    """Record of a training: what every step put in ``engine.state.step``, as one row an epoch. For the trainer.

    After each epoch ``engine.state.training_log`` (``dict[str, float]``) holds the mean of every scalar; mean and
    spread over images of every gate weight (``unlabeled/gate_seg/sdf/mean``, ``.../spread``); ``learning_rate`` of
    the last step (``learning_rate/NAME`` where the optimizer has several parameter groups, NAME being the group's
    ``name`` or its number); and ``seconds`` of the training steps, validation not counted. All ranks get the same
    numbers; rank 0 logs and writes them.

    A restarted training keeps the rows of the epochs before the one it starts with, in the table and in TensorBoard; a
    new one in the same folder begins anew.

    Args:
        output_dir: folder of the table; made when missing.
        experts: names of the experts, in the order of the columns of the gate weights (B, K).
        name: file name of the table, comma-separated, with a column for every number.
        writer: TensorBoard's ``SummaryWriter``; shared with others and not closed here.
        evaluator: the engine that validates; the metrics of a validation in the epoch stand in the row as
            ``validation/NAME``. Its ``ValidationHandler`` comes before this handler.
        margin: shares of foreground below it (empty) or above 1 minus it (full) in an epoch's pseudo-labels are
            reported; a share, not percent.
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        experts: Sequence[str] = EXPERTS,
        name: str = "training.csv",
        writer: Any = None,
        evaluator: Engine | None = None,
        margin: float = 1e-4,
    ) -> None:
        self.path = Path(output_dir) / name
        self.writer = writer
        self.evaluator = evaluator
        self.margin = margin
        self._sums = EpochSums(experts)
        self._rows: list[dict[str, Any]] | None = None
        self._rates: dict[str, float] = {}
        self._void: dict[str, str] = {}
        self._started = self._ended = 0.0

    def attach(self, engine: Engine) -> None:
        """Watch a trainer that sets ``engine.state.step`` in every iteration."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._note_learning_rates)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        """Begin an epoch. Rows from it on, left by a run that was stopped, are dropped."""
        self._sums.reset()
        self._started = self._ended = time.perf_counter()
        if idist.get_rank() == 0:
            # Not when the run starts: a checkpoint may be loaded after this handler's turn there.
            if self._rows is None:
                self._rows = read_rows(self.path) if engine.state.epoch > 1 and self.path.exists() else []
                start_again(self.writer, engine.state.epoch)
            self._rows = [row for row in self._rows if int(row[EPOCH]) < engine.state.epoch]

    def _note_learning_rates(self, engine: Engine) -> None:
        """Keep the rates that this step will use; a scheduler may change them before the epoch ends."""
        groups = getattr(getattr(engine, "optimizer", None), "param_groups", [])
        if len(groups) == 1:
            self._rates = {LEARNING_RATE: float(groups[0]["lr"])}
        else:
            self._rates = {
                f"{LEARNING_RATE}/{group.get('name', number)}": float(group["lr"])
                for number, group in enumerate(groups)
            }

    def _add(self, engine: Engine) -> None:
        """Count one step."""
        state: Any = engine.state
        self._sums.add(state.step)
        self._ended = time.perf_counter()

    def _finish(self, engine: Engine) -> None:
        """Work out the epoch's numbers, then log, warn and write."""
        teaching = self._sums.means()
        teaching.update(self._rates)
        teaching[SECONDS] = self._ended - self._started
        state: Any = engine.state
        state.training_log = teaching
        if idist.get_rank() != 0 or self._rows is None:
            return
        epoch = state.epoch
        logger.info("epoch %d/%s: %s", epoch, state.max_epochs, summary(teaching))
        self._warn(teaching, epoch)
        row = teaching | self._validation(epoch)
        self._rows.append({EPOCH: epoch} | {name: f"{value:.6g}" for name, value in row.items()})
        write_rows(self.path, self._rows)
        if self.writer is not None:
            for name, value in teaching.items():
                self.writer.add_scalar(name, value, epoch)

    def _validation(self, epoch: int) -> dict[str, float]:
        """The metrics of this epoch's validation, if there was one; TensorBoard has them from MONAI's handler."""
        if self.evaluator is None or self.evaluator.state.epoch != epoch:
            return {}
        return {f"validation/{name}": float(value) for name, value in self.evaluator.state.metrics.items()}

    def _warn(self, teaching: Mapping[str, float], epoch: int) -> None:
        """Report pseudo-labels that hold one thing only: when it begins, and again when it changes."""
        void = {}
        for name, share in teaching.items():
            if name.startswith(FOREGROUND) and not self.margin <= share <= 1.0 - self.margin:
                part = name.removeprefix(FOREGROUND)
                void[part] = self._fault(share, teaching.get(COUNTED + part, 1.0))
        for part, fault in void.items():
            if self._void.get(part) != fault:
                term, _, head = part.rpartition("/")
                logger.warning(
                    "epoch %d: the pseudo-labels of consistency term '%s' for head '%s' were %s See the columns '%s%s' "
                    "and '...%s' of %s and the montages of validation.",
                    *(epoch, term, head, fault, FOREGROUND, part, part, self.path),
                )
        self._void = void

    def _fault(self, share: float, counted: float) -> str:
        """Explain a share of foreground near 0 or 1, or NaN, and say what to check."""
        if counted < self.margin:
            return (
                "without weight: no pixel counts, so the head learns nothing from them. Check the pseudo-labeler's "
                "threshold, unless it is meant to open later."
            )
        if share < self.margin:
            return (
                "all empty: no pixel is foreground, so the head learns to predict background. Check the ramp (too high "
                "before the pseudo-labels are good), the learning rate and the pseudo-labeler."
            )
        if share > 1.0 - self.margin:
            return (
                "all full: every pixel is foreground, so the head learns to predict foreground everywhere. Check the "
                "pseudo-labeler, the normalization of the unlabeled images, the ramp and the learning rate."
            )
        return "NaN. Check the learning rate and mixed precision."


def summary(teaching: Mapping[str, float]) -> str:
    """An epoch in one short line: the loss, the mean of its parts on either stream, the learning rate, the time.

    All other numbers of the epoch stand in the table and in TensorBoard.

    Args:
        teaching: an epoch's numbers by name, as ``TrainingLog`` makes them. Of several learning rates the first is
            shown: the configs give the network's parameters to the optimizer first.
    """
    streams = []
    for stream in (LABELED, UNLABELED):
        parts = [
            value
            for name, value in teaching.items()
            if name.startswith(stream) and not name.endswith(("/mean", "/spread"))
        ]
        if parts:
            streams.append(f"{stream[:-1]} {sum(parts) / len(parts):.3f}")
    shown = []
    if "loss" in teaching:
        shown.append(f"loss {teaching['loss']:.3f}" + (f" ({', '.join(streams)})" if streams else ""))
    rates = [value for name, value in teaching.items() if name.startswith(LEARNING_RATE)]
    if rates:
        shown.append(f"learning rate {rates[0]:.2g}")
    return ", ".join([*shown, f"{teaching.get(SECONDS, 0.0):.1f} s"])


def start_again(writer: Any, epoch: int) -> None:
    """Let TensorBoard drop what an earlier run wrote of this epoch and later ones: they are done again."""
    file = getattr(writer, "file_writer", None)
    if file is not None:
        file.add_event(Event(session_log=SessionLog(status=SessionLog.START)), epoch)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a table that ``write_rows`` wrote, as text by column; cells without a value are left out.

    Raises:
        ValueError: where it has no column of epochs.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any(not str(row.get(EPOCH, "")).isdigit() for row in rows):
        raise ValueError(f"{path} is no record of a training: it lacks the column '{EPOCH}'. Move it elsewhere.")
    return [{name: value for name, value in row.items() if value} for row in rows]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table whole, so that a stopped run never leaves half of it and new columns may come at any time."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with whole(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
