"""Runner of cells: separate processes, in parallel over devices, with progress messages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bundle.engines.ray_cluster import RESTARTS
from scripts.benchmarking.cells import Cell
from scripts.benchmarking.files import OutputLock, write_json
from scripts.benchmarking.processes import Children, Ended
from scripts.benchmarking.progress import Progress, Running
from scripts.benchmarking.results import last_line

if TYPE_CHECKING:
    from scripts.benchmarking.cluster import RayTasks

TRAINING, EVALUATING = "training", "evaluating"


@dataclass(frozen=True)
class Slot:
    """Slot for one process: name of the device, and all environment variables of the process."""

    device: str
    environment: Mapping[str, str]


@dataclass
class Busy:
    """A running cell, its slot, the share of training that was done when its process started, and lost workers."""

    cell: Cell
    slot: Slot
    before: float
    losses: int = 0


class Runner:
    """Runner with one process per slot: training, then evaluation, each ``python -m monai.bundle run``.

    Args:
        root: root folder of the bundle.
        python: path of the interpreter.
        slots: slots of the processes.
        lock: acquired lock of the output folder.
        children: engine that runs the processes.
        say: function that prints a line of progress.
        interval: seconds between two messages about running cells.
    """

    def __init__(
        self,
        root: Path,
        python: str,
        slots: Sequence[Slot],
        lock: OutputLock,
        children: Children | RayTasks,
        say: Callable[[str], None],
        interval: float = 60.0,
    ) -> None:
        self.root = root
        self.python = python
        self.slots = slots
        self.lock = lock
        self.say = say
        self.interval = interval
        self._children = children
        self._progress = Progress(0, len(slots))
        self._waiting: list[Cell] = []
        self._busy: dict[str, Busy] = {}
        self._failures: dict[str, str] = {}

    def run(self, cells: Sequence[Cell]) -> dict[str, str]:
        """Run or continue all cells that are not finished; if one fails, the others continue.

        On Ctrl-C the running processes are stopped first.

        Returns:
            Name of a failed cell -> reason.
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
                free += [busy.slot for child in ended if (busy := self._next_stage(child)) is not None]
                if not ended:
                    self.say(f"running: {self._progress.at_work(self._running())}; {self._time_left()}")
        except BaseException:
            for child in self._children.stop():
                self._spend(child)
            raise
        return self._failures

    def _begin(self, cell: Cell, slot: Slot) -> None:
        """Start or continue a cell."""
        verb = "starts" if cell.standing() == "new" else "continues"
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

    def _next_stage(self, ended: Ended) -> Busy | None:
        """Start the next stage after a process; return the cell if it has finished or failed."""
        busy = self._busy[ended.name]
        if ended.lost and busy.losses < RESTARTS:
            self.say(f"{ended.name} lost its worker and continues")
            busy.cell.begin()
            self._busy[ended.name] = Busy(busy.cell, busy.slot, busy.cell.share_done(), busy.losses + 1)
            self._start(busy.cell, busy.slot)
            return None
        cell, stage = busy.cell, self._spend(ended)
        log = cell.folder / "log.txt"
        if ended.exit_code != 0:
            self._fail(cell, f"{stage} {ending(ended.exit_code)}: {last_line(log)}")
        elif stage == TRAINING and cell.has_trained():
            self._start(cell, busy.slot)
            return None
        elif stage == TRAINING:
            self._fail(cell, f"training ended without error but wrote no {cell.folder / 'models' / 'model.pt'}")
        else:
            self._finish(cell)
        return busy

    def _spend(self, ended: Ended) -> str:
        """Record time and memory of a process; return its stage."""
        cell = self._busy[ended.name].cell
        stage = _stage(cell)
        cell.spend(stage, ended.seconds, ended.host_mib, done=ended.exit_code == 0)
        return stage

    def _finish(self, cell: Cell) -> None:
        """Write the file of the cell and print its results."""
        try:
            content = cell.finish()
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            self._fail(cell, f"its results cannot be read: {reason}")
            return
        self._end(cell)
        self._progress.add(cell.method, content["seconds"]["total"])
        self.say(f"{self._progress.finished(content)}; {self._time_left()}")

    def _fail(self, cell: Cell, reason: str) -> None:
        self._end(cell)
        self._failures[cell.name] = reason
        self.say(f"[{self._progress.ended}/{self._progress.total}] {cell.name} FAILED: {reason}; {self._time_left()}")

    def _end(self, cell: Cell) -> None:
        del self._busy[cell.name]
        self._progress.ended += 1

    def _running(self) -> list[Running]:
        seconds = self._children.running()
        return [
            Running(name, busy.cell.method, seconds.get(name, 0.0), busy.before, busy.cell.share_done())
            for name, busy in self._busy.items()
        ]

    def _time_left(self) -> str:
        if not self._waiting and not self._busy:
            return "all done"
        return self._progress.left([cell.method for cell in self._waiting], self._running())


def write_overlay(root: Path, cell: Cell, stage: str) -> Path:
    """Write the settings of one process of a cell, in addition to the named overlays, as a config file."""
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
                "_target_": "scripts.benchmarking.RunMeasure",
                "path": str(folder / "measure.json"),
                "network": "@network",
                "optimizer": "@train#optimizer",
                "best_model": "@validate#best_model",
                "evaluator": "@validate#evaluator",
            }
        ]
    path = folder / f"{stage}.json"
    write_json(path, content)
    return path


def bundle_command(python: str, root: Path, run_id: str, files: Sequence[str]) -> list[str]:
    """Return the command line of one ``monai.bundle run``."""
    metadata, logging = root / "configs" / "metadata.json", root / "configs" / "logging.conf"
    command = ["run", run_id, "--config_file", str(list(files))]
    command += ["--meta_file", str(metadata), "--logging_file", str(logging)]
    return [python, "-W", "ignore", "-m", "monai.bundle", *command]


def ending(exit_code: int) -> str:
    """Describe how a process ended."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    reason = ", possibly out of memory" if exit_code == -9 else ""
    return f"was ended by signal {-exit_code}{reason}"


def _stage(cell: Cell) -> str:
    """Return the next stage of a started cell."""
    return EVALUATING if cell.has_trained() else TRAINING
