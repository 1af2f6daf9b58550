"""Cells of a benchmark: one method, one share of labels, one seed; their plan, their folder and what lies there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bundle.benchmark.configs import differences
from bundle.benchmark.files import now, read_json, write_json
from bundle.benchmark.measure import FORMAT as MEASURE_FORMAT
from bundle.benchmark.results import read_curves, read_evaluation

CELL_FORMAT = "semi_moe.cell/1"
PLAN_FORMAT = "semi_moe.plan/1"
Standing = Literal["new", "started", "finished"]


@dataclass(frozen=True)
class Cell:
    """One run of one method, in ``OUTPUT/cells/NAME/``.

    ``plan.json`` is written before it starts, ``cell.json`` last and whole when it is finished; between the two it can
    be continued.

    Attributes:
        folder: of the cell; its name is the cell's.
        plan: what it runs with: what ``cell.json`` says of it, and ``resolved``, the flat configuration.
    """

    folder: Path
    plan: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For instance ``semi_moe-10-seed0``."""
        return self.folder.name

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.plan["method"]

    @property
    def epochs(self) -> int:
        """Epochs of its training."""
        return self.plan["epochs"]

    def standing(self) -> Standing:
        """How far it is.

        Raises:
            ValueError: where the folder holds a cell of another configuration, a damaged file, or no cell at all.
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
            raise ValueError(f"{self.folder} holds something that is no cell")
        return "new"

    def commit(self) -> str | None:
        """The commit of the code that made what is there; ``None`` where nothing is there, or it is not known."""
        for name, form in (("cell.json", CELL_FORMAT), ("plan.json", PLAN_FORMAT)):
            if (self.folder / name).is_file():
                return read_json(self.folder / name, form).get("commit")
        return None

    def other_commit(self) -> str | None:
        """The commit of the code that made what is there, where it is not that of the plan."""
        found = self.commit()
        return None if found == self.plan["commit"] else found

    def begin(self) -> None:
        """Write the plan; that of a cell that goes on keeps its start, and the commits that worked on it."""
        plan = {"format": PLAN_FORMAT, **self.plan, "started": now(), "commits": [self.plan["commit"]]}
        if (self.folder / "plan.json").is_file():
            before = read_json(self.folder / "plan.json", PLAN_FORMAT)
            plan["started"] = before.get("started", plan["started"])
            plan["commits"] = list(dict.fromkeys([*before.get("commits", []), self.plan["commit"]]))
            plan["spent"] = self._spent(before)
        write_json(self.folder / "plan.json", plan)
        for partial in (self.folder / "models").rglob(".*.partial"):
            partial.unlink()

    def start(self, stage: str) -> None:
        """Note that a process starts, so that one that is killed together with the benchmark leaves a trace."""
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        stages = plan.setdefault("spent", {})
        spent = {"seconds": 0.0, "host_mib": 0.0, "attempts": 0} | stages.get(stage, {})
        stages[stage] = spent | {"attempts": spent["attempts"] + 1, "done": False}
        plan["at_work"] = {"stage": stage, "epoch_seconds": self._epoch_seconds()}
        write_json(self.folder / "plan.json", plan)

    def spend(self, stage: str, seconds: float, host_mib: float, done: bool) -> None:
        """Note what a process took, also one that was stopped, so that a restart does not forget it."""
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        plan.pop("at_work")
        spent = plan["spent"][stage]
        spent["seconds"] += seconds
        spent["host_mib"] = max(spent["host_mib"], host_mib)
        spent["done"] = done
        write_json(self.folder / "plan.json", plan)

    def has_trained(self) -> bool:
        """Whether the training of this cell is over."""
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        return (
            bool(plan.get("spent", {}).get("training", {}).get("done"))
            and (self.folder / "models" / "model.pt").is_file()
        )

    def share_done(self) -> float:
        """Share of the training's epochs that are done, in [0, 1]; 0 where the file that counts them is damaged."""
        return len(self._measured()) / self.epochs

    def finish(self) -> dict[str, Any]:
        """Write ``cell.json`` from what training and evaluation left, and take the resume file away.

        Returns:
            What was written.

        Raises:
            FileNotFoundError: where a file that they should have written is missing.
            ValueError, KeyError, TypeError: where one cannot be read, or lacks something.
        """
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        measure = read_json(self.folder / "measure.json", MEASURE_FORMAT)
        spent = plan.pop("spent")
        plan.pop("resolved")
        training, evaluation = sum(measure["epochs"]), spent["evaluating"]["seconds"]
        content = plan | {
            "format": CELL_FORMAT,
            "hardware": plan["hardware"] | {key: measure[key] for key in ("device", "threads")},
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
        """What a finished cell took, all its processes together.

        Raises:
            ValueError: where its file does not say.
        """
        path = self.folder / "cell.json"
        try:
            return float(read_json(path, CELL_FORMAT)["seconds"]["total"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: it holds no total of seconds") from error

    def _measured(self) -> list[float]:
        """Seconds of each epoch that the training has done; empty without its file, or where that is damaged."""
        path = self.folder / "measure.json"
        try:
            epochs = read_json(path, MEASURE_FORMAT)["epochs"] if path.is_file() else []
        except (ValueError, KeyError):  # the training or the end of the cell will say so
            return []
        return epochs if isinstance(epochs, list) else []

    def _epoch_seconds(self) -> float:
        """What the epochs took that the training has done."""
        return sum(float(seconds) for seconds in self._measured())

    def _spent(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """What earlier processes took: of one that was killed with the benchmark, the epochs that it had done."""
        spent, at_work = dict(before.get("spent", {})), before.get("at_work")
        if at_work and at_work["stage"] == "training":
            stage = spent["training"]
            gained = max(0.0, self._epoch_seconds() - at_work["epoch_seconds"])
            spent["training"] = stage | {"seconds": stage["seconds"] + gained}
        return spent

    def _check(self, found: Mapping[str, Any], path: Path) -> None:
        """Refuse a file of another configuration, and say what differs."""
        config = found.get("config")
        if not isinstance(config, Mapping) or not isinstance(config.get("digest"), str):
            raise ValueError(f"{path} is damaged: it does not say of which configuration it is")
        if config["digest"] == self.plan["config"]["digest"]:
            return
        told = "its configuration is not known in detail"
        plan = self.folder / "plan.json"
        before = found if "resolved" in found else read_json(plan, PLAN_FORMAT) if plan.is_file() else {}
        if "resolved" in before and before["config"]["digest"] == config["digest"]:
            told = differences(before["resolved"], self.plan["resolved"])
        raise ValueError(f"{path} was made by another configuration: {told}")
