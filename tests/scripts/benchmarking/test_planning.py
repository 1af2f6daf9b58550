"""Plan of a benchmark: cells, their lengths and configurations."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.benchmarking.budget import Budget, Length
from scripts.benchmarking.planning import CONTENT, Experiment

METHODS = ["supervised", "semi_moe"]
AXES = {"data": "phantom", "size": "demo", "schedule": None, "protocol": "heldout"}


@pytest.fixture
def experiment(repository_root, phantom_dir, tmp_path) -> Callable[..., Experiment]:
    """Return a function that makes an experiment on the small phantom."""

    def make(**changes) -> Experiment:
        given = {
            "dataset_dir": phantom_dir,
            "axes": AXES,
            "lists": "heldout",
            "overrides": {},
            "methods": METHODS,
            "labels": ["10", "100"],
            "seeds": [0, 1],
        }
        return Experiment(repository_root, tmp_path, **(given | changes))

    return make


def test_all_cells_make_the_same_steps_and_none_stops_early(experiment):
    planned = experiment()
    length = planned.length(None)
    assert length == Length(25, 2)  # 8 images to learn from, in batches of 4, whatever the share of labels
    cells = planned.cells(length)
    assert [cell.name for cell in cells[:4]] == [
        "supervised-10-seed0",
        "semi_moe-10-seed0",
        "supervised-100-seed0",
        "semi_moe-100-seed0",
    ]
    assert len({cell.name for cell in cells}) == 8
    assert {cell.plan["steps"] for cell in cells} == {50}
    for cell in cells:
        overrides = cell.plan["config"]["overrides"]
        assert overrides["max_epochs"] * overrides["train#trainer#epoch_length"] == 50
        assert overrides["train#early_stop#patience"] > overrides["max_epochs"]
        assert overrides["seed"] == cell.plan["seed"]
    assert cells[0].plan["counts"] == {"training": 1, "unlabeled": 7, "validation": 2, "test": 3}
    assert cells[2].plan["counts"] == {"training": 8, "unlabeled": 0, "validation": 2, "test": 3}


def test_a_budget_keeps_the_epochs_of_the_configuration(experiment):
    assert experiment().length(Budget(100, "steps")) == Length(25, 4)
    assert experiment(overrides={"max_epochs": 10}).length(Budget(100, "steps")) == Length(10, 10)


def test_cells_of_one_table_share_a_setting_and_no_digest(experiment):
    cells = experiment().cells(Length(5, 2))
    assert len({cell.plan["config"]["setting"] for cell in cells}) == 1
    assert len({cell.plan["config"]["digest"] for cell in cells}) == len(cells)
    for other in (
        experiment(overrides={"learning_rate": 0.5}).cells(Length(5, 2)),
        experiment(axes=AXES | {"size": None}).cells(Length(5, 2)),
        experiment().cells(Length(2, 5)),
    ):
        assert other[0].plan["config"]["setting"] != cells[0].plan["config"]["setting"]
        assert other[0].plan["config"]["digest"] != cells[0].plan["config"]["digest"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("batch_size", 0), ("max_epochs", "abc"), ("val_interval", 2.5), ("batch_size", True), ("max_epochs", None)],
)
def test_a_number_that_no_length_can_be_made_of_is_named(key, value, experiment):
    experiment().check_numbers()
    with pytest.raises(ValueError, match=rf"{key} is {value!r}, but must be an integer above 0"):
        experiment(overrides={key: value}).check_numbers()


def test_a_method_has_one_recipe_whatever_the_draw(experiment):
    cells = experiment().cells(Length(5, 2))
    recipes = {method: {cell.plan["config"]["recipe"] for cell in cells if cell.method == method} for method in METHODS}
    assert [len(result) for result in recipes.values()] == [1, 1]
    assert recipes["supervised"] != recipes["semi_moe"]
    (other,) = experiment(methods=["supervised"], labels=["10"], seeds=[0], overrides={"amp": True}).cells(Length(5, 2))
    assert other.plan["config"]["recipe"] not in recipes["supervised"]


def test_a_digest_follows_the_data_list_and_not_its_place(experiment, phantom_dir, tmp_path):
    def first(folder: Path):
        return experiment(dataset_dir=folder).cell("supervised", "10", 0, Length(1, 1)).plan

    moved = tmp_path / "moved"
    shutil.copytree(phantom_dir, moved)
    assert first(moved)["config"]["digest"] == first(phantom_dir)["config"]["digest"]
    path = moved / "heldout_10_seed0.json"
    content = json.loads(path.read_text())
    content["test"].pop()
    path.write_text(json.dumps(content))
    assert first(moved)["config"]["digest"] != first(phantom_dir)["config"]["digest"]
    assert first(moved)["resolved"][CONTENT] != first(phantom_dir)["resolved"][CONTENT]


def test_a_setting_that_a_method_lacks_is_refused_and_named(experiment):
    planned = experiment(overrides={"objective#ramp#maximum": 0.5}, methods=["semi_moe", "supervised"])
    assert planned.cell("semi_moe", "10", 0, Length(1, 1)).plan["resolved"]["objective#ramp#maximum"] == 0.5
    with pytest.raises(ValueError, match=r"no setting 'objective#ramp#maximum' in .*supervised\.yaml"):
        planned.cells(Length(1, 1))


def test_a_list_that_cannot_serve_is_refused_with_its_name(experiment):
    with pytest.raises(ValueError, match=r"heldout_10_seed7\.json under protocol heldout: no data list"):
        experiment(seeds=[7]).cells(Length(1, 1))
