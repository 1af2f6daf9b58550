"""Cell of a benchmark: one method, share of labels and seed, with its plan, its folder and the files in it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scripts.benchmarking.configs import differences
from scripts.benchmarking.files import now, read_json, write_json
from scripts.benchmarking.measure import FORMAT as MEASURE_FORMAT
from scripts.benchmarking.results import read_curves, read_evaluation

CELL_FORMAT = "semi_moe.cell/1"
PLAN_FORMAT = "semi_moe.plan/1"
Standing = Literal["new", "started", "finished"]


@dataclass(frozen=True)
class Cell:
    """One run of one method in ``OUTPUT/cells/NAME/``.

    ``plan.json`` is written at the start and ``cell.json`` at the end, atomically; in between the run can be continued.

    Attributes:
        folder: folder of the cell, with the name of the cell.
        plan: settings of the run: those stored in ``cell.json``, and ``resolved``, the flat configuration.
    """

    folder: Path
    plan: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name of the cell, such as ``semi_moe-10-seed0``."""
        return self.folder.name

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.plan["method"]

    @property
    def epochs(self) -> int:
        """Epochs of the training."""
        return self.plan["epochs"]

    def standing(self) -> Standing:
        """Return whether the cell is new, started or finished.

        Raises:
            ValueError: if the folder holds a cell of another configuration, a damaged file, or other files.
        """
        finished, started = self.folder / "cell.json", self.folder / "plan.json"
        if finished.is_file():
            self._check(read_json(finished, CELL_FORMAT), finished)
            self.seconds()
            return "finished"
        if started.is_file():
            self._check(read_json(started, PLAN_FORMAT), started)
            return "started"
        if self.folder.exists() and any(self.folder.iterdir()):
            raise ValueError(f"{self.folder} holds files that are not a cell")
        return "new"

    def commit(self) -> str | None:
        """Return the commit that the files of the cell were made with; ``None`` without files, or if unknown."""
        for name, form in (("cell.json", CELL_FORMAT), ("plan.json", PLAN_FORMAT)):
            if (self.folder / name).is_file():
                return read_json(self.folder / name, form).get("commit")
        return None

    def other_commit(self) -> str | None:
        """Return the commit that the files of the cell were made with, if it differs from that of the plan."""
        commit = self.commit()
        return None if commit == self.plan["commit"] else commit

    def begin(self) -> None:
        """Write the plan; a continued cell keeps its start time and earlier commits."""
        plan = {"format": PLAN_FORMAT, **self.plan, "started": now(), "commits": [self.plan["commit"]]}
        if (self.folder / "plan.json").is_file():
            previous = read_json(self.folder / "plan.json", PLAN_FORMAT)
            plan["started"] = previous.get("started", plan["started"])
            plan["commits"] = list(dict.fromkeys([*previous.get("commits", []), self.plan["commit"]]))
            plan["spent"] = self._spent(previous)
        write_json(self.folder / "plan.json", plan)
        for partial in (self.folder / "models").rglob(".*.partial"):
            partial.unlink()

    def start(self, stage: str) -> None:
        """Record that a process starts, so that it is known even if it is killed together with the benchmark."""
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        stages = plan.setdefault("spent", {})
        spent = {"seconds": 0.0, "host_mib": 0.0, "attempts": 0} | stages.get(stage, {})
        stages[stage] = spent | {"attempts": spent["attempts"] + 1, "done": False}
        plan["at_work"] = {"stage": stage, "epoch_seconds": self._epoch_seconds()}
        write_json(self.folder / "plan.json", plan)

    def spend(self, stage: str, seconds: float, host_mib: float, done: bool) -> None:
        """Add the time and memory of a process, also of a stopped one, so that they are known after a restart."""
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        plan.pop("at_work")
        spent = plan["spent"][stage]
        spent["seconds"] += seconds
        spent["host_mib"] = max(spent["host_mib"], host_mib)
        spent["done"] = done
        write_json(self.folder / "plan.json", plan)

    def has_trained(self) -> bool:
        """Return whether the training of this cell is finished."""
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        return (
            bool(plan.get("spent", {}).get("training", {}).get("done"))
            and (self.folder / "models" / "model.pt").is_file()
        )

    def share_done(self) -> float:
        """Return the share of finished epochs, in [0, 1]; 0 if the file of the measurement is damaged."""
        return len(self._measured()) / self.epochs

    def finish(self) -> dict[str, Any]:
        """Write ``cell.json`` from the files of training and evaluation, and remove the resume file.

        Returns:
            The content of the file.

        Raises:
            FileNotFoundError: if an expected file is missing.
            ValueError, KeyError, TypeError: if a file cannot be read, or lacks a value.
        """
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        measure = read_json(self.folder / "measure.json", MEASURE_FORMAT)
        spent = plan.pop("spent")
        plan.pop("resolved")
        training, evaluation = sum(measure["epochs"]), spent["evaluating"]["seconds"]
        content = plan | {
            "format": CELL_FORMAT,
            "hardware": plan["hardware"]
            | {key: measure[key] for key in ("cpu", "device", "threads") if key in measure},
            "parameters": measure["parameters"],
            "selected": measure["selected"],
            "seconds": {
                "training": training,
                "evaluation": evaluation,
                "total": max(sum(stage["seconds"] for stage in spent.values()), training + evaluation),
            },
            "attempts": {
                name: spent[stage].get("attempts", 1)
                for name, stage in (("training", "training"), ("evaluation", "evaluating"))
            },
            "peak_memory": {
                "host_mib": max(measure.get("host_mib") or 0.0, *(stage["host_mib"] for stage in spent.values())),
                "device_mib": measure["device_mib"],
            },
            **read_evaluation(self.folder / "evaluation"),
            "curves": read_curves(self.folder / "training" / "training.csv"),
            "finished": now(),
        }
        write_json(self.folder / "cell.json", content)
        shutil.rmtree(self.folder / "models" / "checkpoints", ignore_errors=True)
        return content

    def seconds(self) -> float:
        """Return the total seconds of all processes of a finished cell.

        Raises:
            ValueError: if its file lacks them.
        """
        path = self.folder / "cell.json"
        try:
            return float(read_json(path, CELL_FORMAT)["seconds"]["total"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: it lacks the total seconds") from error

    def _measured(self) -> list[float]:
        """Return the seconds of each finished epoch; empty if the file of the measurement is missing or damaged."""
        path = self.folder / "measure.json"
        try:
            epochs = read_json(path, MEASURE_FORMAT)["epochs"] if path.is_file() else []
        except (ValueError, KeyError):  # the training or `finish` raises the error
            return []
        return epochs if isinstance(epochs, list) else []

    def _epoch_seconds(self) -> float:
        """Return the total seconds of the finished epochs."""
        return sum(float(seconds) for seconds in self._measured())

    def _spent(self, previous: Mapping[str, Any]) -> dict[str, Any]:
        """Return time and memory of earlier processes, including finished epochs of one killed with the benchmark."""
        spent, at_work = dict(previous.get("spent", {})), previous.get("at_work")
        if at_work and at_work["stage"] == "training":
            stage = spent["training"]
            gained = max(0.0, self._epoch_seconds() - at_work["epoch_seconds"])
            spent["training"] = stage | {"seconds": stage["seconds"] + gained}
        return spent

    def _check(self, content: Mapping[str, Any], path: Path) -> None:
        """Raise an error that names the differences if a file belongs to another configuration."""
        config = content.get("config")
        if not isinstance(config, Mapping) or not isinstance(config.get("digest"), str):
            raise ValueError(f"{path} is damaged: it lacks the digest of its configuration")
        if config["digest"] == self.plan["config"]["digest"]:
            return
        details = "the differences are unknown"
        plan = self.folder / "plan.json"
        previous = content if "resolved" in content else read_json(plan, PLAN_FORMAT) if plan.is_file() else {}
        if "resolved" in previous and previous["config"]["digest"] == config["digest"]:
            details = differences(previous["resolved"], self.plan["resolved"])
        raise ValueError(f"{path} was made with another configuration: {details}")
