"""Runs cells: each in processes of its own, several at once over devices, and says how far it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.benchmark.cells import Cell
from bundle.benchmark.files import OutputLock, write_json
from bundle.benchmark.processes import Children, Ended
from bundle.benchmark.progress import Progress, Running
from bundle.benchmark.results import last_line

TRAINING, EVALUATING = "training", "evaluating"


@dataclass(frozen=True)
class Slot:
    """A place where one process runs: its name, and the whole environment of the process."""

    device: str
    environment: Mapping[str, str]


@dataclass
class Busy:
    """A cell at work: where, and which share of its training was done when its process started."""

    cell: Cell
    slot: Slot
    before: float


class Runner:
    """Runs cells one process at a time a slot: training, then evaluation, each ``python -m monai.bundle run``.

    Args:
        root: the bundle's root.
        python: the interpreter.
        slots: where processes run.
        lock: of the output folder, held.
        say: takes each line of progress.
        interval: seconds between two lines about what is running.
    """

    def __init__(
        self,
        root: Path,
        python: str,
        slots: Sequence[Slot],
        lock: OutputLock,
        say: Callable[[str], None],
        interval: float = 60.0,
    ) -> None:
        self.root = root
        self.python = python
        self.slots = slots
        self.lock = lock
        self.say = say
        self.interval = interval
        self._children = Children(lock.inherited)
        self._progress = Progress(0, len(slots))
        self._waiting: list[Cell] = []
        self._busy: dict[str, Busy] = {}
        self._failures: dict[str, str] = {}

    def run(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Run or continue cells, but for those that are finished; one that fails does not hold up the others.

        Returns:
            Name of each cell that failed -> why. On Ctrl-C the running processes are ended first.
        """
        self._waiting = [cell for cell in cells if cell.standing() != "finished"]
        finished = [cell for cell in cells if cell not in self._waiting]
        self._progress = Progress(len(cells), len(self.slots), len(finished))
        for cell in finished:
            self._progress.add(cell.method, cell.seconds())
        free = list(self.slots)
        try:
            while self._waiting or self._busy:
                while self._waiting and free:
                    self._begin(self._waiting.pop(0), free.pop(0))
                ended = self._children.wait(self.interval)
                free += [busy.slot for one in ended if (busy := self._go_on(one)) is not None]
                if not ended:
                    self.say(f"at work: {self._progress.at_work(self._running())}; {self._left()}")
        except BaseException:
            for one in self._children.stop():
                self._spend(one)
            raise
        return self._failures

    def _begin(self, cell: Cell, slot: Slot) -> None:
        """Start a cell, or go on with it."""
        verb = "starts" if cell.standing() == "new" else "is continued"
        cell.begin()
        self.say(f"{cell.name} {verb} on {slot.device}; log: {cell.folder / 'log.txt'}")
        self._busy[cell.name] = Busy(cell, slot, cell.share_done())
        self._start(cell, slot)

    def _start(self, cell: Cell, slot: Slot) -> None:
        """Start the next process of a cell."""
        stage = _stage(cell)
        if stage == EVALUATING:
            shutil.rmtree(cell.folder / "evaluation", ignore_errors=True)
        config = cell.plan["config"]
        configs = [*config["files"], *(config["evaluation"] if stage == EVALUATING else [])]
        files = [str(self.root / file) for file in configs] + [str(write_overlay(self.root, cell, stage))]
        command = bundle_command(self.python, self.root, stage, files)
        cell.start(stage)
        self._children.start(cell.name, command, cell.folder / "log.txt", self.root, slot.environment)
        self.lock.note(self._children.processes())

    def _go_on(self, ended: Ended) -> Busy | None:
        """Take the next step after a process; gives the cell back when it is over."""
        busy = self._busy[ended.name]
        cell, stage = busy.cell, self._spend(ended)
        log = cell.folder / "log.txt"
        if ended.exit_code != 0:
            self._fail(cell, f"{stage} {ending(ended.exit_code)}: {last_line(log)}")
        elif stage == TRAINING and cell.has_trained():
            self._start(cell, busy.slot)
            return None
        elif stage == TRAINING:
            self._fail(cell, f"training ended well and left no {cell.folder / 'models' / 'model.pt'}")
        else:
            self._finish(cell)
        return busy

    def _spend(self, ended: Ended) -> str:
        """Note what a process took; gives the stage that it was."""
        cell = self._busy[ended.name].cell
        stage = _stage(cell)
        cell.spend(stage, ended.seconds, ended.host_mib, done=ended.exit_code == 0)
        return stage

    def _finish(self, cell: Cell) -> None:
        """Write the cell's file and say what came out."""
        try:
            content = cell.finish()
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else str(error)
            self._fail(cell, f"its results cannot be read: {what}")
            return
        self._end(cell)
        self._progress.add(cell.method, content["seconds"]["total"])
        self.say(f"{self._progress.finished(content)}; {self._left()}")

    def _fail(self, cell: Cell, reason: str) -> None:
        self._end(cell)
        self._failures[cell.name] = reason
        self.say(f"[{self._progress.ended}/{self._progress.total}] {cell.name} FAILED: {reason}; {self._left()}")

    def _end(self, cell: Cell) -> None:
        del self._busy[cell.name]
        self._progress.ended += 1

    def _running(self) -> list[Running]:
        seconds = self._children.running()
        return [
            Running(name, busy.cell.method, seconds.get(name, 0.0), busy.before, busy.cell.share_done())
            for name, busy in self._busy.items()
        ]

    def _left(self) -> str:
        if not self._waiting and not self._busy:
            return "all done"
        return self._progress.left([cell.method for cell in self._waiting], self._running())


def write_overlay(root: Path, cell: Cell, stage: str) -> Path:
    """Write what one process of a cell has beside the named overlays, as a config of its own: to be read and rerun."""
    folder = cell.folder
    content: dict[str, Any] = {
        "bundle_root": str(root),
        "dataset_dir": cell.plan["dataset_dir"],
        "ckpt_dir": str(folder / "models"),
        "output_dir": str(folder / ("training" if stage == TRAINING else "evaluation")),
        **cell.plan["config"]["overrides"],
    }
    if stage == TRAINING:
        content["resume"] = True
        content["+train#handlers"] = [
            {
                "_target_": "bundle.benchmark.RunMeasure",
                "path": str(folder / "measure.json"),
                "network": "@network",
                "optimizer": "@optimizer",
                "best_model": "@validate#best_model",
                "evaluator": "@validate#evaluator",
            }
        ]
    path = folder / f"{stage}.json"
    write_json(path, content)
    return path


def bundle_command(python: str, root: Path, run_id: str, files: Sequence[str]) -> list[str]:
    """The command line of one ``monai.bundle run``."""
    metadata, logging = root / "configs" / "metadata.json", root / "configs" / "logging.conf"
    words = ["run", run_id, "--config_file", str(list(files))]
    words += ["--meta_file", str(metadata), "--logging_file", str(logging)]
    return [python, "-W", "ignore", "-m", "monai.bundle", *words]


def ending(exit_code: int) -> str:
    """How a process ended, in words."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    more = ", perhaps for want of memory" if exit_code == -9 else ""
    return f"was ended by signal {-exit_code}{more}"


def _stage(cell: Cell) -> str:
    """What comes next in a cell that has begun."""
    return EVALUATING if cell.has_trained() else TRAINING
