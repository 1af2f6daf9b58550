"""Tests of the program that draws the published splits."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(python: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Run the program in the temporary folder."""
    return partial(python, ROOT / "scripts" / "dev" / "make_splits.py", cwd=tmp_path)


def test_draws_from_grades(run: Callable[..., Any], tmp_path: Path) -> None:
    rows = ["name,patient ID, grade (GlaS)"]
    for part, count in (("train", 85), ("testA", 60), ("testB", 20)):
        for number in range(1, count + 1):
            rows.append(f"{part}_{number},{number % 15}, {'benign' if number <= 37 else 'malignant'}")
    (tmp_path / "Grade.csv").write_text("\n".join(rows), encoding="utf-8")
    completed = run("--grades", "Grade.csv", "--output", "splits.json")
    assert completed.returncode == 0, completed.stderr
    splits = json.loads((tmp_path / "splits.json").read_text(encoding="utf-8"))
    assert list(splits) == ["heldout", "authors", "fold0", "fold1", "fold2"]
    assert [len(names) for names in splits["authors"]["labeled"]["2"].values()] == [4, 9, 17, 43, 85]


def test_missing_grades_are_one_sentence(run: Callable[..., Any], tmp_path: Path) -> None:
    completed = run("--grades", "Grade.csv", "--output", "splits.json")
    assert completed.returncode == 1
    assert (
        completed.stderr.splitlines()[-1] == "make_splits: no file Grade.csv; give the Grade.csv of the GlaS download"
    )
    assert not list(tmp_path.iterdir())
