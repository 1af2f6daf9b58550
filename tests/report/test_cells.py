"""Cells are read whole or refused, and only like is compared with like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from bundle.report import check_comparable, chosen, load_cells, read_anchors, warnings_of


def test_cells_come_sorted_by_method_labels_and_seed(make_cells: Callable[..., Path]) -> None:
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


def test_a_folder_without_cells_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere; give the output folder of scripts/benchmark\.py"):
        load_cells(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no finished cell in .*cells; run scripts/benchmark\.py first"):
        load_cells(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"format": "semi_moe.cell/1", ', r"cell\.json is damaged \(.*; remove that cell's folder"),
        ('{"format": "semi_moe.cell/0"}', r"cell\.json is no cell of the format semi_moe\.cell/1"),
        ("[]", r"cell\.json is no cell of the format"),
        ('{"format": "semi_moe.cell/1", "name": "a"}', r"lacks method, labels, seed, protocol"),
    ],
)
def test_a_damaged_cell_is_named(make_cells: Callable[..., Path], text: str, words: str) -> None:
    folder = make_cells()
    (folder / "cells" / "semi_moe-10-seed0" / "cell.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_cells(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"steps": 200}, r"supervised-10-seed1 differ in steps \(100 and 200\)"),
        ({"protocol": "authors"}, r'differ in protocol \("heldout" and "authors"\)'),
        ({"counts": {"test": 99}}, r"differ in data part \(3 and 99\)"),
        (
            {"config": {"files": ["configs/train.json"], "overrides": {"max_epochs": 4}}},
            r"differ in configs .*keep two output folders",
        ),
    ],
)
def test_cells_that_do_not_compare_are_refused(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None], changes: dict, words: str
) -> None:
    folder = make_cells()
    edit_cell(folder, "supervised-10-seed1", **changes)
    with pytest.raises(ValueError, match=words):
        check_comparable(load_cells(folder))


def test_another_setting_is_refused_and_another_seed_is_not(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    config = json.loads((folder / "cells" / "semi_moe-10-seed0" / "cell.json").read_text())["config"]
    edit_cell(folder, "semi_moe-10-seed0", config=config | {"overrides": config["overrides"] | {"crop_size": [64, 64]}})
    with pytest.raises(ValueError, match=r'differ in settings .*"crop_size": \[64, 64\]'):
        check_comparable(load_cells(folder))


def test_configs_that_changed_beneath_their_names_are_refused(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    config = json.loads((folder / "cells" / "semi_moe-10-seed0" / "cell.json").read_text())["config"]
    edit_cell(folder, "semi_moe-10-seed0", config=config | {"setting": "7e20f661"})
    with pytest.raises(ValueError, match=r'differ in configuration \("7e20f661" and null\)'):
        check_comparable(load_cells(folder))


def test_some_cells_can_be_chosen_and_unknown_ones_are_named(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    assert {cell.name for cell in chosen(cells, ["semi_moe"], ["10"])} == {"semi_moe-10-seed0", "semi_moe-10-seed1"}
    with pytest.raises(ValueError, match="method 'semimoe'; there are semi_moe, supervised"):
        chosen(cells, ["semimoe"])
    with pytest.raises(ValueError, match="share of labels '20'; there are 10, 100"):
        chosen(cells, labels=["20"])


def test_warnings_tell_of_other_code_and_uneven_seeds(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    edit_cell(folder, "supervised-10-seed1", commit="fedcba9876543210", dirty=True, seed=7)
    first, second, third = warnings_of(load_cells(folder))
    assert first == "The cells were made by 2 commits of the code: 0123456789, fedcba9876."
    assert second.startswith("1 of 8 cells were made by code with uncommitted changes")
    assert third.startswith("Not every method has the same seeds")


def test_anchors_are_of_one_data_set(tmp_path: Path) -> None:
    anchor = {"paper": "A", "data": "GlaS", "protocol": "authors", "metric": "pooled_dice", "value": 89, "source": "B"}
    file = tmp_path / "anchors.json"
    file.write_text(json.dumps([anchor, anchor | {"data": "CRAG"}]))
    assert read_anchors(file, "glas") == [anchor]
    file.write_text(json.dumps([{"paper": "A"}]))
    with pytest.raises(ValueError, match=r"anchors\.json is no list of figures with data, metric"):
        read_anchors(file, "glas")
    with pytest.raises(ValueError, match="holds no published figures that can be read"):
        read_anchors(tmp_path / "missing.json", "glas")
