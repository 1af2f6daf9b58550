"""Training log: one log line and one row of ``training.csv`` per epoch, and warnings about useless pseudo-labels."""

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

from bundle.handlers.epoch_averages import EpochAverages
from bundle.types import EXPERTS
from bundle.utils import atomic_path

logger = logging.getLogger(__name__)

EPOCH = "epoch"
FOREGROUND = "foreground/"
COUNTED = "counted/"
LABELED = "labeled/"
UNLABELED = "unlabeled/"
LEARNING_RATE = "learning_rate"
SECONDS = "seconds"


class TrainingLog:
    """Handler of the trainer that writes the averages of ``engine.state.step`` as one row per epoch.

    After each epoch ``engine.state.training_log`` (``dict[str, float]``) holds the means of all scalars; mean and
    standard deviation over images of all gate weights (``unlabeled/gate_seg/sdf/mean``, ``.../spread``);
    ``learning_rate`` of the last step (``learning_rate/NAME`` for several parameter groups, where NAME is the ``name``
    or number of the group); and ``seconds`` of the training steps without validation. All ranks get the same numbers;
    rank 0 logs and writes them.

    A resumed training keeps the rows of earlier epochs in the table and in TensorBoard. A new training in the same
    folder replaces them.

    Args:
        output_dir: folder of the table, created if missing.
        experts: names of the experts, in the order of the columns of the gate weights (B, K).
        name: file name of the CSV table, which has one column per number.
        writer: TensorBoard's ``SummaryWriter``; it is not closed here.
        evaluator: evaluator of the validation; metrics of a validation in the epoch are added as ``validation/NAME``.
            Its ``ValidationHandler`` must come before this handler.
        margin: a warning is logged if the share of foreground in pseudo-labels of an epoch is below ``margin`` (empty)
            or above 1 - ``margin`` (full); in [0, 1].
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
        self._sums = EpochAverages(experts)
        self._rows: list[dict[str, Any]] | None = None
        self._rates: dict[str, float] = {}
        self._faults: dict[str, str] = {}
        self._started = self._ended = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer that sets ``engine.state.step`` in each iteration."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_STARTED, self._record_learning_rates)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        """Start an epoch; drop rows of this and later epochs from a stopped run."""
        self._sums.reset()
        self._started = self._ended = time.perf_counter()
        if idist.get_rank() == 0:
            # not at the start of the run, because a checkpoint may be loaded after this handler is called
            if self._rows is None:
                self._rows = read_rows(self.path) if engine.state.epoch > 1 and self.path.exists() else []
                purge_from(self.writer, engine.state.epoch)
            self._rows = [row for row in self._rows if int(row[EPOCH]) < engine.state.epoch]

    def _record_learning_rates(self, engine: Engine) -> None:
        """Record the learning rates of this step; a scheduler may change them before the epoch ends."""
        groups = getattr(getattr(engine, "optimizer", None), "param_groups", [])
        if len(groups) == 1:
            self._rates = {LEARNING_RATE: float(groups[0]["lr"])}
        else:
            self._rates = {
                f"{LEARNING_RATE}/{group.get('name', number)}": float(group["lr"])
                for number, group in enumerate(groups)
            }

    def _add(self, engine: Engine) -> None:
        """Add one step."""
        state: Any = engine.state
        self._sums.add(state.step)
        self._ended = time.perf_counter()

    def _finish(self, engine: Engine) -> None:
        """Compute the averages of the epoch, then log, warn and write."""
        averages = self._sums.means()
        averages.update(self._rates)
        averages[SECONDS] = self._ended - self._started
        state: Any = engine.state
        state.training_log = averages
        if idist.get_rank() != 0 or self._rows is None:
            return
        epoch = state.epoch
        logger.info("epoch %d/%s: %s", epoch, state.max_epochs, summary(averages))
        self._warn(averages, epoch)
        row = averages | self._validation(epoch)
        self._rows.append({EPOCH: epoch} | {name: f"{value:.6g}" for name, value in row.items()})
        write_rows(self.path, self._rows)
        if self.writer is not None:
            for name, value in averages.items():
                self.writer.add_scalar(name, value, epoch)

    def _validation(self, epoch: int) -> dict[str, float]:
        """Return the metrics of this epoch's validation, if any; MONAI's handler writes them to TensorBoard."""
        if self.evaluator is None or self.evaluator.state.epoch != epoch:
            return {}
        return {f"validation/{name}": float(value) for name, value in self.evaluator.state.metrics.items()}

    def _warn(self, averages: Mapping[str, float], epoch: int) -> None:
        """Log a warning when pseudo-labels become empty, full, unweighted or NaN."""
        faults = {}
        for name, share in averages.items():
            if name.startswith(FOREGROUND) and not self.margin <= share <= 1.0 - self.margin:
                part = name.removeprefix(FOREGROUND)
                faults[part] = self._fault(share, averages.get(COUNTED + part, 1.0))
        for part, fault in faults.items():
            if self._faults.get(part) != fault:
                term, _, head = part.rpartition("/")
                logger.warning(
                    "epoch %d: the pseudo-labels of consistency term '%s' for head '%s' were %s See the columns '%s%s' "
                    "and '...%s' of %s and the validation montages.",
                    *(epoch, term, head, fault, FOREGROUND, part, part, self.path),
                )
        self._faults = faults

    def _fault(self, share: float, counted: float) -> str:
        """Describe a share of foreground near 0 or 1, or NaN, and what to check."""
        if counted < self.margin:
            return (
                "without weight: no pixel has a weight, so the head learns nothing from them. Check the threshold of "
                "the pseudo-labeler, unless weights are expected only later."
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


def summary(averages: Mapping[str, float]) -> str:
    """Return one line for an epoch: loss, mean of the losses of each stream, learning rate, time.

    All other numbers of the epoch are in the table and in TensorBoard.

    Args:
        averages: numbers of an epoch by name, from ``TrainingLog``. Of several learning rates the first is shown,
            which in the configs is that of the network.
    """
    streams = []
    for stream in (LABELED, UNLABELED):
        parts = [
            value
            for name, value in averages.items()
            if name.startswith(stream) and not name.endswith(("/mean", "/spread"))
        ]
        if parts:
            streams.append(f"{stream[:-1]} {sum(parts) / len(parts):.3f}")
    numbers = []
    if "loss" in averages:
        numbers.append(f"loss {averages['loss']:.3f}" + (f" ({', '.join(streams)})" if streams else ""))
    rates = [value for name, value in averages.items() if name.startswith(LEARNING_RATE)]
    if rates:
        numbers.append(f"learning rate {rates[0]:.2g}")
    return ", ".join([*numbers, f"{averages.get(SECONDS, 0.0):.1f} s"])


def purge_from(writer: Any, epoch: int) -> None:
    """Let TensorBoard drop the values of this and later epochs from an earlier run, because they are computed again."""
    file = getattr(writer, "file_writer", None)
    if file is not None:
        file.add_event(Event(session_log=SessionLog(status=SessionLog.START)), epoch)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a table of ``write_rows``; rows are column -> string, without empty cells.

    Raises:
        ValueError: if it has no column of epochs.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if any(not str(row.get(EPOCH, "")).isdigit() for row in rows):
        raise ValueError(f"{path} is not a training log: it lacks the column '{EPOCH}'; move it to another folder")
    return [{name: value for name, value in row.items() if value} for row in rows]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write a table atomically as a whole, so that new columns can be added in any epoch."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with atomic_path(path, clean=True) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
