from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ignite.engine import Engine

from bundle.handlers import ProgressFile, TimeLimit


def run(path: Path, losses: list[float], evaluator: Any = None, interval: float = 0.0) -> list[dict[str, Any]]:
    """Return the content of the file after each step of one epoch, in a run of two epochs."""
    recorded = []

    def step(engine: Engine, batch: int) -> None:
        if path.exists():
            recorded.append(json.loads(path.read_text(encoding="utf-8")))
        engine.state.step = {"loss": torch.tensor(losses[batch])}

    engine = Engine(step)
    ProgressFile(path, evaluator, interval).attach(engine)
    engine.run(range(len(losses)), max_epochs=2)
    return [*recorded, json.loads(path.read_text(encoding="utf-8"))]


def test_steps_epochs_and_loss_stand_in_the_file_from_start_to_end(tmp_path: Path) -> None:
    recorded = run(tmp_path / "new" / "progress.json", [3.0, 2.0])
    assert [item["step"] for item in recorded] == [0, 1, 2, 3, 4]
    assert [item["epoch"] for item in recorded] == [0, 1, 1, 2, 2]
    assert {item["steps"] for item in recorded} == {4}
    assert {item["epochs"] for item in recorded} == {2}
    assert [item["loss"] for item in recorded] == [None, 3.0, 2.0, 3.0, 2.0]
    assert recorded[0]["seconds_left"] is None
    assert recorded[-1]["seconds_left"] == 0.0


def test_it_writes_at_most_once_an_interval_and_at_the_end(tmp_path: Path) -> None:
    recorded = run(tmp_path / "progress.json", [3.0, 2.0], interval=3600.0)
    assert [item["step"] for item in recorded] == [0, 0, 0, 0, 4]


def test_the_remaining_time_follows_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of 10 s, 100 of them, and 25 s in all: the training ends with the third step, and nothing is left."""
    now, recorded = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def step(engine: Engine, batch: int) -> None:
        recorded.append(json.loads((tmp_path / "progress.json").read_text(encoding="utf-8")))
        now[0] += 10

    engine = Engine(step)
    TimeLimit(25).attach(engine)
    ProgressFile(tmp_path / "progress.json", interval=0, limit=25).attach(engine)
    engine.run(range(10), max_epochs=10)
    last = json.loads((tmp_path / "progress.json").read_text(encoding="utf-8"))
    assert [(item["seconds_left"], item["share"]) for item in [*recorded, last]] == [
        (25, 0),
        (15, 0.4),
        (5, 0.8),
        (0, 1),
    ]
    assert (last["step"], last["steps"], last["epoch"]) == (3, 3, 1)


@pytest.mark.parametrize(("best", "expected"), [(-1, None), (0.25, 0.25), (float("nan"), None)])
def test_the_best_score_comes_from_the_evaluator(tmp_path: Path, best: float, expected: float | None) -> None:
    evaluator = SimpleNamespace(state=SimpleNamespace(best_metric=best))
    assert run(tmp_path / "progress.json", [1.0], evaluator)[-1]["best_score"] == expected


def test_what_is_not_finite_is_valid_json(tmp_path: Path) -> None:
    recorded = run(tmp_path / "progress.json", [float("inf")])
    assert recorded[-1]["loss"] is None
