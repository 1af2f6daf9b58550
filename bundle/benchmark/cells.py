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
            found = read_json(finished, CELL_FORMAT)
            self._check(found, finished)
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

    def begin(self) -> None:
        """Write the plan; that of a cell that goes on keeps its start, and the commits that worked on it."""
        plan = {"format": PLAN_FORMAT, **self.plan, "started": now(), "commits": [self.plan["commit"]]}
        if (self.folder / "plan.json").is_file():
            before = read_json(self.folder / "plan.json", PLAN_FORMAT)
            plan["started"] = before["started"]
            plan["commits"] = list(dict.fromkeys([*before["commits"], self.plan["commit"]]))
            plan["spent"] = before.get("spent", {})
        write_json(self.folder / "plan.json", plan)
        for partial in (self.folder / "models").rglob(".*.partial"):
            partial.unlink()

    def spend(self, stage: str, seconds: float, host_mib: float, done: bool) -> None:
        """Note what a process took, also one that was stopped, so that a restart does not forget it."""
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        spent = plan.setdefault("spent", {}).setdefault(stage, {"seconds": 0.0, "host_mib": 0.0})
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
        path = self.folder / "measure.json"
        try:
            return len(read_json(path, MEASURE_FORMAT)["epochs"]) / self.epochs if path.is_file() else 0.0
        except ValueError:  # the training or the end of the cell will say so
            return 0.0

    def finish(self) -> dict[str, Any]:
        """Write ``cell.json`` from what training and evaluation left, and take the resume file away.

        Returns:
            What was written.

        Raises:
            FileNotFoundError: where a file that they should have written is missing.
            ValueError: where one cannot be read.
        """
        plan = read_json(self.folder / "plan.json", PLAN_FORMAT)
        measure = read_json(self.folder / "measure.json", MEASURE_FORMAT)
        spent = plan.pop("spent")
        plan.pop("resolved")
        content = plan | {
            "format": CELL_FORMAT,
            "hardware": plan["hardware"] | {key: measure[key] for key in ("device", "threads")},
            "parameters": measure["parameters"],
            "selected": measure["selected"],
            "seconds": {
                "training": sum(measure["epochs"]),
                "evaluation": spent["evaluating"]["seconds"],
                "total": sum(stage["seconds"] for stage in spent.values()),
            },
            "peak_memory": {
                "host_mib": max(stage["host_mib"] for stage in spent.values()),
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
        """What a finished cell took, all its processes together."""
        return float(read_json(self.folder / "cell.json", CELL_FORMAT)["seconds"]["total"])

    def _check(self, found: Mapping[str, Any], path: Path) -> None:
        """Refuse a file of another configuration, and say what differs."""
        if found.get("config", {}).get("digest") == self.plan["config"]["digest"]:
            return
        told = "its configuration is not known in detail"
        plan = self.folder / "plan.json"
        before = found if "resolved" in found else read_json(plan, PLAN_FORMAT) if plan.is_file() else {}
        if "resolved" in before and before["config"]["digest"] == found["config"]["digest"]:
            told = differences(before["resolved"], self.plan["resolved"])
        raise ValueError(f"{path} was made by another configuration: {told}")
