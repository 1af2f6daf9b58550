"""Entries of docs/results.json from finished benchmarks: scores, command and commit."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from scripts.reporting.cells import load_cells
from scripts.reporting.results_json import record_of_cells


def test_scores_and_differences_equal_those_of_the_cells(make_cells: Callable[..., Path]) -> None:
    folder = make_cells()
    record = record_of_cells(folder, "first", None)
    scores = record["tables"]["scores"]
    assert list(scores["columns"]) == ["labels", "method", "pooled_dice", "mean_dice", "object_hausdorff"]
    assert list(scores["rows"]) == ["supervised 10", "semi_moe 10", "supervised 100", "semi_moe 100"]
    means = [
        cell.metrics["mean_dice"] for cell in load_cells(folder) if (cell.method, cell.labels) == ("semi_moe", "10")
    ]
    mean, deviation = scores["rows"]["semi_moe 10"]["mean_dice"]
    assert mean == pytest.approx(sum(means) / 2, abs=1e-5)
    assert deviation == pytest.approx(abs(means[0] - means[1]) / 2**0.5, abs=1e-5)
    images = record["tables"]["images"]["rows"]
    assert set(images) == {"semi_moe 10", "semi_moe 100"}
    assert images["semi_moe 10"]["low"] <= images["semi_moe 10"]["difference"] <= images["semi_moe 10"]["high"]
    assert images["semi_moe 10"]["difference"] == pytest.approx(
        mean - scores["rows"]["supervised 10"]["mean_dice"][0], abs=1e-4
    )


def test_single_draws_are_those_of_the_cells(
    make_cells: Callable[..., Path], repository_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_cells()
    assert "draws" not in record_of_cells(folder, "first", None)["tables"]
    monkeypatch.setattr("scripts.reporting.results_json.SINGLE", ("mean_dice", "object_dice"))
    draws = record_of_cells(folder, "first", None)["tables"]["draws"]
    assert list(draws["columns"]) == ["labels", "method", "mean_dice_0", "mean_dice_1"]
    assert draws["columns"]["mean_dice_1"]["title"] == "mean Dice, draw 1"
    for cell in load_cells(folder):
        value = draws["rows"][f"{cell.method} {cell.labels}"][f"mean_dice_{cell.seed}"]
        assert value == pytest.approx(cell.metrics["mean_dice"], abs=1e-5)


def test_the_entry_has_its_origin(make_cells: Callable[..., Path]) -> None:
    record = record_of_cells(make_cells(), "first", None)
    assert (record["commit"], record["date"], record["seeds"], record["steps"]) == (
        "0123456",
        "2026-01-01",
        [0, 1],
        100,
    )
    assert record["versions"] == {"torch": "2.13.0"}
    assert record["machine"] == "unknown CPU, cpu, 1 thread a training"


def test_columns_of_the_entry_are_kept(make_cells: Callable[..., Path]) -> None:
    columns = {"method": {"title": "who"}, "mean_dice": {"title": "mean Dice", "digits": 2}}
    before = {"what": "Mine", "tables": {"scores": {"columns": columns, "rows": {}}}}
    record = record_of_cells(make_cells(), "first", before)
    assert record["what"] == "Mine"
    assert record["tables"]["scores"]["columns"] == columns


def test_its_command_makes_the_same_cells(
    make_cells: Callable[..., Path], load_program: Callable[[str], ModuleType]
) -> None:
    changes = {"postprocessing": "watershed", "config": config({"objective#ramp#maximum": 0.5, "a": [1, "b c"]})}
    lines = record_of_cells(make_cells(**changes), "first", None)["commands"]
    assert lines[-1] == "python scripts/report.py --cells runs/first --output runs/first/report"
    arguments = shlex.split("\n".join(lines[:-1]).replace("\\\n", " "))
    assert arguments[:2] == ["python", "scripts/benchmark.py"]
    benchmark = load_program("benchmark")
    given = benchmark._parser().parse_args(arguments[2:])
    assert (given.methods, given.labels, given.seeds) == (["supervised", "semi_moe"], ["10", "100"], [0, 1])
    assert (given.data, given.protocol, given.size, given.postprocessing) == ("phantom", "heldout", "demo", "watershed")
    assert (given.budget, given.threads) == ("100steps", 1)
    settings = dict(benchmark._setting(word) for word in given.settings)
    assert settings == {"objective#ramp#maximum": 0.5, "a": [1, "b c"], "max_epochs": 4}


def config(overrides: dict[str, object]) -> dict[str, object]:
    files = ["configs/train.json", "configs/sizes/demo.yaml"]
    return {"files": files, "overrides": {"seed": 0, "max_epochs": 4, **overrides}, "digest": "x"}


def test_uncommitted_code_mixed_versions_and_other_entries_are_refused(make_cells: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match="was made with uncommitted changes"):
        record_of_cells(make_cells("dirty", dirty=True), "first", None)
    folder = make_cells("mixed")
    path = next(folder.glob("cells/*/cell.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(content | {"versions": {"torch": "1.0"}}), encoding="utf-8")
    with pytest.raises(ValueError, match="were made with different versions"):
        record_of_cells(folder, "first", None)
    with pytest.raises(ValueError, match="has no table of scores"):
        record_of_cells(make_cells(), "first", {"what": "", "tables": {"speed": {}}})
