"""Cells are checked when they are read, and only comparable cells are compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.reporting.cells import chosen, load_cells, read_published_scores
from scripts.reporting.comparability import check_comparable, facts_of, warnings_of


def test_cells_are_sorted_by_method_labels_and_seed(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    assert [cell.name for cell in cells] == [
        f"{method}-{labels}-seed{seed}"
        for method in ("semi_moe", "supervised")
        for labels in ("10", "100")
        for seed in (0, 1)
    ]
    check_comparable(cells)
    assert warnings_of(cells) == []


def test_a_curve_is_over_steps_and_skips_epochs_without_a_value(make_cells: Callable[..., Path]) -> None:
    cell = load_cells(make_cells())[0]
    assert cell.curve("validation/pooled_dice") == [(50.0, pytest.approx(0.66)), (100.0, pytest.approx(0.76))]
    assert cell.curve("no such column") == []
    assert set(cell.per_image("mean_dice")) == set(cell.content["per_image"]["image"])
    assert cell.per_image("object_f1") == {}


def test_a_folder_without_cells_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere; give the output folder of scripts/benchmark\.py"):
        load_cells(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no finished cell in .*cells; run scripts/benchmark\.py first"):
        load_cells(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "semi_moe.cell/1", ', r"cell\.json is damaged \(.*; remove the folder of this cell"),
        ('{"format": "semi_moe.cell/0"}', r"cell\.json does not have the format semi_moe\.cell/1"),
        ("[]", r"cell\.json does not have the format"),
        ('{"format": "semi_moe.cell/1", "name": "a"}', r"has no method, labels, seed, protocol"),
        ('{"format": "semi_moe.cell/1", "seed": NaN}', r"is damaged \(it contains NaN, which is not valid JSON"),
        ("[" * 100_000, r"cell\.json is damaged"),
    ],
)
def test_a_damaged_cell_is_an_error_with_its_name(make_cells: Callable[..., Path], text: str, message: str) -> None:
    folder = make_cells()
    (folder / "cells" / "semi_moe-10-seed0" / "cell.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_cells(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": [0.5]}, "'metrics': it should be an object with at least one value"),
        ({"metrics": {}}, "'metrics': it should be an object with at least one value"),
        (
            {"metrics": {"pooled_dice": "NaN"}},
            "'metrics': it should be an object whose 'pooled_dice' is a number or null",
        ),
        ({"metrics": {"pooled_dice": True}}, "'pooled_dice' is a number or null"),
        ({"config": "semi_moe"}, "'config': it should be an object"),
        ({"config": {"files": "train.json"}}, "'config': it should be an object whose 'files' is a list"),
        ({"config": {"overrides": []}}, "'config': it should be an object whose 'overrides' is an object"),
        ({"counts": None}, "'counts': it should be an object"),
        ({"counts": {"test": -1}}, "'counts': it should be an object whose 'test' is an integer of at least 0"),
        ({"seed": "zero"}, "'seed': it should be an integer of at least 0"),
        ({"steps": 0}, "'steps': it should be an integer above 0"),
        ({"epochs": 2.5}, "'epochs': it should be an integer above 0"),
        ({"labels": 10}, "'labels': it should be a percentage, as text"),
        ({"labels": "ten"}, "'labels': it should be a percentage, as text"),
        ({"data": ""}, "'data': it should be a text"),
        ({"dirty": "no"}, "'dirty': it should be true or false"),
        ({"per_image": [0.5]}, "'per_image': it should be an object of columns with image"),
        ({"per_image": {"mean_dice": [0.5]}}, "'per_image': it should be an object of columns with image"),
        ({"per_image": {"image": ["a"], "mean_dice": [0.5, 0.6]}}, "'per_image': .* columns of the same length"),
        ({"per_image": {"image": [1]}}, "'per_image': .* 'image' is a list, each value a text"),
        ({"per_image": {"image": ["a", "a"]}}, "'per_image': .* unique names, but 'a' is repeated"),
        ({"per_image": {"image": ["a"], "mean_dice": ["high"]}}, "'mean_dice' is a list, each value a number or null"),
        (
            {"calibration": {"count": [1]}},
            "'calibration': it should be an object of columns with confidence, share, count",
        ),
        ({"curves": {"epoch": [1], "loss": 0.5}}, "'curves': it should be an object whose 'loss' is a list"),
        ({"selected": {"value": "best"}}, "'selected': it should be an object whose 'value' is a number or null"),
        ({"seconds": 7}, "'seconds': it should be an object"),
        ({"peak_memory": {"host_mib": "large"}}, "'peak_memory': it should be an object whose 'host_mib' is a number"),
        ({"versions": "2.13"}, "'versions': it should be an object"),
        ({"commits": "0123"}, "'commits': it should be a list"),
        ({"masks": 1}, "'masks': it should be a text"),
    ],
)
def test_a_wrong_value_is_an_error_with_its_file(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None], changes: dict, message: str
) -> None:
    folder = make_cells()
    edit_cell(folder, "semi_moe-10-seed0", **changes)
    with pytest.raises(
        ValueError, match=rf"semi_moe-10-seed0/cell\.json has a wrong .*{message}.*; remove the folder of this cell"
    ):
        load_cells(folder)


def test_optional_keys_may_be_null(make_cells: Callable[..., Path], edit_cell: Callable[..., None]) -> None:
    folder = make_cells()
    free = (
        "per_image",
        "calibration",
        "curves",
        "selected",
        "hardware",
        "masks",
        "versions",
        "commit",
        "dirty",
        "epochs",
    )
    edit_cell(folder, "semi_moe-10-seed0", **dict.fromkeys(free))
    edit_cell(folder, "semi_moe-10-seed1", metrics={"pooled_dice": None})
    check_comparable(load_cells(folder))


def test_wrong_folder_names_and_copies_are_refused(make_cells: Callable[..., Path]) -> None:
    folder = make_cells()
    shutil.copytree(folder / "cells" / "semi_moe-10-seed0", folder / "cells" / "copy")
    with pytest.raises(
        ValueError, match=r"copy/cell\.json belongs to the cell 'semi_moe-10-seed0', but its folder is 'copy'"
    ):
        load_cells(folder)
    file = folder / "cells" / "copy" / "cell.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"name": "copy"}))
    with pytest.raises(ValueError, match="are both semi_moe at 10 % labels with seed 0; move one"):
        load_cells(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 200}, r"supervised-10-seed1 differ in steps \(100 and 200\)"),
        ({"protocol": "authors"}, r'differ in protocol \("heldout" and "authors"\)'),
        ({"counts": {"test": 99}}, r"differ in data part \(3 and 99\)"),
        (
            {"config": {"files": ["configs/train.json"], "overrides": {"max_epochs": 4}}},
            r"differ in configs .*use two output folders",
        ),
    ],
)
def test_cells_that_cannot_be_compared_are_refused(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None], changes: dict, message: str
) -> None:
    folder = make_cells()
    edit_cell(folder, "supervised-10-seed1", **changes)
    with pytest.raises(ValueError, match=message):
        check_comparable(load_cells(folder))


def test_another_setting_is_refused_and_another_seed_is_not(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    config = json.loads((folder / "cells" / "semi_moe-10-seed0" / "cell.json").read_text())["config"]
    edit_cell(folder, "semi_moe-10-seed0", config=config | {"overrides": config["overrides"] | {"crop_size": [64, 64]}})
    with pytest.raises(ValueError, match=r'differ in settings .*"crop_size": \[64, 64\]'):
        check_comparable(load_cells(folder))


def test_other_test_images_are_refused(make_cells: Callable[..., Path], edit_cell: Callable[..., None]) -> None:
    folder = make_cells()
    table = load_cells(folder)[0].content["per_image"]
    edit_cell(folder, "supervised-10-seed1", per_image=table | {"image": ["other", *table["image"][1:]]})
    arguments = (
        rf"supervised-10-seed1 differ in test images \(only semi_moe-10-seed0 has {table['image'][0]}; .* has other\)"
    )
    with pytest.raises(ValueError, match=arguments):
        check_comparable(load_cells(folder))
    order = [2, 0, 1]
    edit_cell(
        folder,
        "supervised-10-seed1",
        per_image={key: [column[path] for path in order] for key, column in table.items()},
    )
    check_comparable(load_cells(folder))


def test_a_method_that_changed_between_two_seeds_is_refused(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    for seed, recipe in enumerate(("aa", "bb")):
        name = f"semi_moe-10-seed{seed}"
        config = json.loads((folder / "cells" / name / "cell.json").read_text())["config"]
        edit_cell(folder, name, config=config | {"recipe": recipe})
    with pytest.raises(
        ValueError, match="semi_moe-10-seed0 and semi_moe-10-seed1 differ in the configuration of semi_moe"
    ):
        check_comparable(load_cells(folder))
    check_comparable(chosen(load_cells(folder), ["supervised"]))


def test_changed_configs_with_the_same_name_are_refused(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    config = json.loads((folder / "cells" / "semi_moe-10-seed0" / "cell.json").read_text())["config"]
    edit_cell(folder, "semi_moe-10-seed0", config=config | {"setting": "7e20f661"})
    with pytest.raises(ValueError, match=r'differ in configuration \("7e20f661" and null\)'):
        check_comparable(load_cells(folder))


def test_cells_can_be_chosen_by_method_and_labels(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    assert {cell.name for cell in chosen(cells, ["semi_moe"], ["10"])} == {"semi_moe-10-seed0", "semi_moe-10-seed1"}
    with pytest.raises(ValueError, match="method 'semimoe'; choose from semi_moe, supervised"):
        chosen(cells, ["semimoe"])
    with pytest.raises(ValueError, match="share of labels '20'; choose from 10, 100"):
        chosen(cells, labels=["20"])
    only = [cell for cell in cells if (cell.method, cell.labels) != ("semi_moe", "100")]
    with pytest.raises(ValueError, match="no finished cell of semi_moe has 100 % labels"):
        chosen(only, ["semi_moe"], ["100"])


def test_warnings_about_code_and_seeds(make_cells: Callable[..., Path], edit_cell: Callable[..., None]) -> None:
    folder = make_cells()
    edit_cell(folder, "supervised-10-seed1", commit="fedcba9876543210", dirty=True, seed=7)
    first, second, third = warnings_of(load_cells(folder))
    assert first == "The runs used 2 commits of the code: 0123456789, fedcba9876."
    assert second.startswith("1 of 8 runs used code with uncommitted changes")
    assert third.startswith("Not all methods have the same seeds")


def test_warnings_about_versions_and_resumed_runs(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    edit_cell(
        folder, "supervised-10-seed1", versions={"torch": "2.12.0", "monai": "1.6.1"}, commits=["0123456789abcdef"]
    )
    edit_cell(folder, "supervised-10-seed0", attempts={"training": 2, "evaluation": 1})
    edit_cell(folder, "semi_moe-10-seed0", attempts={"training": 1, "evaluation": 1})
    assert warnings_of(load_cells(folder)) == [
        "The runs used different versions: monai 1.6.1, unknown; torch 2.12.0, 2.13.0.",
        "1 of 8 runs were resumed after a stop (supervised-10-seed0): their times may be incomplete or include "
        "repeated steps.",
    ]
    edit_cell(folder, "supervised-10-seed0", commits=["0123456789abcdef", "fedcba9876543210"])
    assert warnings_of(load_cells(folder))[0].startswith("The runs used 2 commits of the code")


def test_facts_include_the_note_of_the_protocol(make_cells: Callable[..., Path]) -> None:
    facts = facts_of(load_cells(make_cells()))
    assert facts.startswith(
        "Data phantom, protocol heldout: 8 runs of 100 steps at size demo, scored on 3 test images. The"
    )
    optimistic = facts_of(load_cells(make_cells("other", protocol="authors")))
    assert "protocol authors" in optimistic
    assert "Optimistic: checkpoint and threshold were chosen on the test images themselves" in optimistic


@pytest.mark.parametrize(
    ("budget", "steps"),
    [("90steps", "100 steps (--budget 90steps) at size demo"), ("100steps", "100 steps at size demo")],
)
def test_facts_include_a_rounded_budget(budget: str, steps: str, make_cells: Callable[..., Path]) -> None:
    assert f"8 runs of {steps}" in facts_of(load_cells(make_cells(budget=budget)))


def test_published_results_of_one_data_set(tmp_path: Path) -> None:
    entry = {"paper": "A", "data": "GlaS", "protocol": "authors", "metric": "pooled_dice", "value": 89, "source": "B"}
    file = tmp_path / "published_scores.json"
    file.write_text(json.dumps([entry, entry | {"data": "CRAG"}]))
    assert read_published_scores(file, "glas") == [entry]
    file.write_text(json.dumps([{"paper": "A"}]))
    with pytest.raises(ValueError, match=r"published_scores\.json is not a list of results with data, metric"):
        read_published_scores(file, "glas")
    with pytest.raises(ValueError, match="cannot be read as published results"):
        read_published_scores(tmp_path / "missing.json", "glas")
