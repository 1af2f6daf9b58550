"""Checks of the output folder of a benchmark and the cells in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.benchmarking.cells import CELL_FORMAT, PLAN_FORMAT, Cell
from scripts.benchmarking.preflight import check_company, check_output, faults_of


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder like that of the bundle, with data elsewhere and links to both."""
    root = tmp_path / "bundle"
    for folder in ("models", "configs", "bundle"):
        (root / folder).mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "to_models").symlink_to(root / "models")
    (tmp_path / "to_data").symlink_to(tmp_path / "data")
    return root


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("bundle", "is the folder of the bundle; give a separate folder, such as runs/NAME"),
        ("bundle/models", "models, a folder of the bundle"),
        ("bundle/configs/runs", "configs, a folder of the bundle"),
        ("bundle/runs/../bundle/runs", "bundle, a folder of the bundle"),
        ("to_models", "models, a folder of the bundle"),
        ("to_models/runs", "models, a folder of the bundle"),
        ("data", "data, a folder of the data"),
        ("to_data/runs/first", "data, a folder of the data"),
    ],
)
def test_a_folder_of_the_bundle_or_of_the_data_is_refused(output, message, bundle, tmp_path):
    for data in ("data", "to_data"):
        with pytest.raises(ValueError, match=message):
            check_output(bundle, tmp_path / output, tmp_path / data)


@pytest.mark.parametrize("output", ["bundle/runs/first", "runs", "bundle/modelsandmore"])
def test_a_folder_of_its_own_is_taken(output, bundle, tmp_path):
    check_output(bundle, tmp_path / output, tmp_path / "data")


@pytest.fixture
def cell(tmp_path: Path) -> Callable[..., Cell]:
    """Return a function that makes a requested cell."""

    def make(name: str = "a-10-seed0", setting: str = "s", recipe: str = "r", **plan: Any) -> Cell:
        config = {"digest": name + setting + recipe, "setting": setting, "recipe": recipe}
        return Cell(tmp_path / "cells" / name, {"method": name.split("-")[0], "config": config, "resolved": {}, **plan})

    return make


def leave(cell: Cell, finished: bool = True, **changes: Any) -> None:
    """Write the files of an earlier run of a cell."""
    cell.folder.mkdir(parents=True)
    content = {**cell.plan, "format": CELL_FORMAT if finished else PLAN_FORMAT, "seconds": {"total": 1.0}} | changes
    (cell.folder / ("cell.json" if finished else "plan.json")).write_text(json.dumps(content))


@pytest.mark.parametrize("finished", [True, False])
def test_cells_of_another_setting_are_no_company(finished, cell):
    check_company([cell()])
    leave(cell("b-10-seed0"), finished)
    (cell().folder.parent / "notes").mkdir()
    check_company([cell()])
    for number in range(4):
        leave(cell(f"c-10-seed{number}", setting="t"), finished)
    with pytest.raises(
        ValueError, match=r"holds 4 cells of other settings \(c-10-seed0, .*, c-10-seed2 and 1 more\), which"
    ):
        check_company([cell()])
    check_company([cell()], leaving=[f"c-10-seed{number}" for number in range(4)])


def test_another_recipe_of_the_same_method_is_no_company(cell):
    leave(cell("a-10-seed1", recipe="q"))
    with pytest.raises(ValueError, match=r"holds 1 cell of other settings \(a-10-seed1\)"):
        check_company([cell("a-10-seed0")])
    check_company([cell("b-10-seed0")])


def test_a_cell_without_a_recipe_is_company_and_one_without_a_setting_is_none(cell):
    old = cell("a-10-seed1")
    leave(old, config={"digest": "x", "setting": "s"})
    check_company([cell()])
    leave(cell("a-10-seed2"), config={"digest": "x"})
    with pytest.raises(ValueError, match="a-10-seed2"):
        check_company([cell()])


def test_a_begun_cell_that_is_asked_for_takes_the_plan_of_now(cell):
    leave(cell(setting="t"), finished=False)
    check_company([cell()])
    leave(cell("a-10-seed1", setting="t"))
    with pytest.raises(ValueError, match="a-10-seed1"):
        check_company([cell(), cell("a-10-seed1")])


def test_a_damaged_neighbor_is_told(cell):
    leave(cell("b-10-seed0"), config=[])
    with pytest.raises(ValueError, match=r"b-10-seed0/cell\.json is damaged: it has no config"):
        check_company([cell()])


def test_faults_are_told_by_name(cell):
    leave(cell(setting="t"))
    leave(cell("b-10-seed0"))
    faults = faults_of([cell(), cell("b-10-seed0"), cell("c-10-seed0")])
    assert list(faults) == ["a-10-seed0"]
    assert "was made with another configuration" in faults["a-10-seed0"]
