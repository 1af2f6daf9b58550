"""Speed of each method on this machine, from a few steps and one validation, to convert minutes to steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.benchmarking.budget import Budget, Length, Pace, length_of, steps_within
from scripts.benchmarking.cells import Cell
from scripts.benchmarking.files import OutputLock, read_json, write_json
from scripts.benchmarking.measure import FORMAT as MEASURE_FORMAT
from scripts.benchmarking.planning import Experiment
from scripts.benchmarking.processes import Children
from scripts.benchmarking.results import last_line, read_curves
from scripts.benchmarking.runner import TRAINING, Slot, bundle_command, ending, write_overlay

if TYPE_CHECKING:
    from scripts.benchmarking.cluster import RayTasks

LENGTHS_FORMAT = "semi_moe.lengths/1"
STEPS = 5
"""Steps per epoch of a probe; the first of its three epochs is the warm-up."""


def known_length(experiment: Experiment, budget: Budget) -> Length | None:
    """Return the length that an earlier run of this benchmark measured for a budget in minutes, or ``None``.

    Raises:
        ValueError: if the file of lengths is damaged.
    """
    path = _path(experiment)
    if not path.is_file():
        return None
    content = read_json(path, LENGTHS_FORMAT)
    try:
        length = content["lengths"].get(_key(experiment, budget))
        return None if length is None else Length(int(length["epochs"]), int(length["epoch_length"]))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: it holds no lengths; remove it to measure them again") from error


def measured_length(
    experiment: Experiment,
    budget: Budget,
    slot: Slot,
    python: str,
    lock: OutputLock,
    children: Children | RayTasks,
    say: Callable[[str], None],
) -> Length:
    """Measure all methods of an experiment, one after the other, and save the resulting length.

    Each method is measured with the first seed and the smallest share of labels, where most images are unlabeled.

    Args:
        experiment: the experiment; the length is saved in ``OUTPUT/lengths.json`` for its setting.
        budget: budget in minutes.
        slot: slot in which to measure.
        python: path of the interpreter.
        lock: acquired lock of the output folder.
        children: engine that runs the processes.
        say: function that prints one line per method.

    Raises:
        ValueError: if a probe fails, or the budget is too short.
    """
    labels = min(experiment.labels, key=float)
    paces = {}
    for method in experiment.methods:
        settings = {"val_interval": 3}
        probed = replace(experiment, overrides={**experiment.overrides, **settings})
        cell = probed.cell(method, labels, experiment.seeds[0], Length(3, STEPS))
        folder = experiment.output / "probes" / method
        shutil.rmtree(folder, ignore_errors=True)
        probe = Cell(folder, {**cell.plan, "commit": None})
        paces[method] = _pace(probe, experiment.root, slot, python, lock, children)
        say(f"{method}: {paces[method].step:.2f} s per step, {paces[method].validation:.1f} s per validation")
    epochs = experiment.number("max_epochs")
    steps = steps_within(budget.amount, paces, epochs, experiment.number("val_interval"))
    length = length_of(steps, epochs)
    _save_length(experiment, budget, length, paces)
    shutil.rmtree(experiment.output / "probes", ignore_errors=True)
    return length


def _pace(cell: Cell, root: Path, slot: Slot, python: str, lock: OutputLock, children: Children | RayTasks) -> Pace:
    """Run one probe and return its measured seconds."""
    cell.begin()
    files = [str(root / file) for file in cell.plan["config"]["files"]] + [str(write_overlay(root, cell, TRAINING))]
    log = cell.folder / "log.txt"
    try:
        children.start(cell.method, bundle_command(python, root, TRAINING, files), log, root, slot.environment)
        lock.note(children.processes())
        while not (ended := children.wait(60.0)):
            continue
    finally:
        children.stop()
    if ended[0].exit_code != 0:
        status = ending(ended[0].exit_code)
        raise ValueError(f"measuring {cell.method} {status}: {last_line(log)} ({log})")
    epochs = read_json(cell.folder / "measure.json", MEASURE_FORMAT)["epochs"]
    training = read_curves(cell.folder / "training" / "training.csv")["seconds"]
    return Pace(sum(training[1:]) / (STEPS * len(training[1:])), max(0.0, epochs[-1] - training[-1]))


def _save_length(experiment: Experiment, budget: Budget, length: Length, paces: dict[str, Pace]) -> None:
    path = _path(experiment)
    lengths = read_json(path, LENGTHS_FORMAT)["lengths"] if path.is_file() else {}
    lengths[_key(experiment, budget)] = {
        "epochs": length.epochs,
        "epoch_length": length.epoch_length,
        "paces": {method: {"step": pace.step, "validation": pace.validation} for method, pace in paces.items()},
    }
    write_json(path, {"format": LENGTHS_FORMAT, "lengths": lengths})


def _path(experiment: Experiment) -> Path:
    return experiment.output / "lengths.json"


def _key(experiment: Experiment, budget: Budget) -> str:
    return f"{budget}-{experiment.setting()[:12]}"
