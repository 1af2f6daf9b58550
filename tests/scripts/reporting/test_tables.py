"""The tables of a report: rows, columns and comparisons."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from scripts.reporting.cells import Cell, load_cells
from scripts.reporting.differences import comparisons
from scripts.reporting.tables import (
    Best,
    cost_table,
    counts_table,
    markdown,
    metrics_of,
    rank_methods,
    score_table,
    score_tables,
    table_of,
)


def rows_of(table: pd.DataFrame) -> list[list[str]]:
    """Return the rows of a table."""
    return table.to_numpy().tolist()


@pytest.fixture
def with_watershed(make_cells: Callable[..., Path], edit_cell: Callable[..., None]) -> Path:
    """Return cells where only semi_moe has a second postprocessing, better than its first by 0.1."""
    folder = make_cells()
    for cell in load_cells(folder):
        level = 0.6 if cell.method == "semi_moe" else 0.55
        names = cell.content["per_image"]["image"]
        metrics = {"pooled_dice": cell.metrics["pooled_dice"], "object_dice": level, "object_f1": level - 0.1}
        images: dict[str, Any] = {"image": names, "object_dice": [level, level, level + 0.01]}
        if cell.method == "semi_moe":
            metrics |= {"watershed_object_dice": level + 0.1, "watershed_object_f1": level}
            images["watershed_object_dice"] = [level + 0.1] * len(names)
        edit_cell(folder, cell.name, metrics=metrics, per_image=images)
    return folder


def test_the_score_table_has_means_and_deviations(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    table = score_table(cells, ["pooled_dice", "mean_jaccard"])
    assert list(table.columns) == ["labels, %", "method", "seeds", "pooled Dice", "mean Jaccard"]
    assert rows_of(table) == [
        ["10", "supervised", "2", "0.710 ± 0.000", "-"],
        ["10", "semi_moe", "2", "0.760 ± 0.000", "-"],
        ["100", "supervised", "2", "0.800 ± 0.000", "-"],
        ["100", "semi_moe", "2", "0.850 ± 0.000", "-"],
    ]
    assert [isinstance(text, Best) for text in table["pooled Dice"]] == [False, True, False, True]
    assert list(score_table(cells, ["object_hausdorff"])["object Hausdorff, px"]) == ["12.3 ± 0.0"] * 4
    assert markdown(table_of([["1", "x|y"]], ["a", "b"])) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_rows_can_be_sorted_by_a_score(make_cells: Callable[..., Path], edit_cell: Callable[..., None]) -> None:
    folder = make_cells()
    edit_cell(folder, "semi_moe-10-seed0", metrics={"pooled_dice": 0.2, "object_hausdorff": 5.0})
    cells = load_cells(folder)
    assert rank_methods(cells, "10", "pooled_dice") == ["supervised", "semi_moe"]
    assert rank_methods(cells, "100", "pooled_dice") == ["semi_moe", "supervised"]
    assert rank_methods(cells, "10", "object_hausdorff") == ["semi_moe", "supervised"], "smaller distances are better"
    rows = rows_of(score_table(cells, ["pooled_dice"], "pooled_dice"))
    assert [row[:2] for row in rows] == [
        ["10", "supervised"],
        ["10", "semi_moe"],
        ["100", "semi_moe"],
        ["100", "supervised"],
    ]


def test_the_score_of_the_protocol_comes_first(make_cells: Callable[..., Path]) -> None:
    scores = {"pooled_dice": 0.8, "swept_jaccard": 0.7, "swept_dice": 0.9, "class_mean_dice": 0.85, "own": 1.0}

    def first(protocol: str) -> list[str]:
        return metrics_of(load_cells(make_cells(protocol, protocol=protocol, metrics=scores)))

    assert first("heldout")[0] == "pooled_dice"
    assert first("authors")[:3] == ["swept_dice", "swept_jaccard", "pooled_dice"]
    assert first("class_mean")[0] == "class_mean_dice"
    assert first("shift")[-1] == "own", "a score without definition is last"


def test_pixels_and_objects_have_separate_tables(with_watershed: Path) -> None:
    cells = load_cells(with_watershed)
    (pixels, pixel_table), (objects, object_table) = score_tables(cells, metrics_of(cells))
    rows = rows_of(object_table)
    assert (pixels, objects) == ("Scores of pixels", "Scores of objects")
    assert list(pixel_table.columns) == ["labels, %", "method", "seeds", "pooled Dice"]
    assert list(object_table.columns) == ["labels, %", "method", "seeds", "object F1", "object Dice"]
    assert rows[:3] == [
        ["10", "supervised", "2", "0.450 ± 0.000", "0.550 ± 0.000"],
        ["10", "semi_moe", "2", "0.500 ± 0.000", "0.600 ± 0.000"],
        ["10", "semi_moe, watershed", "2", "0.600 ± 0.000", "0.700 ± 0.000"],
    ]
    assert [type(row[-1]) for row in rows[:3]] == [str, str, Best]
    assert [title for title, _ in score_tables(cells, ["object_f1"])] == ["Scores of objects"]
    ((_, watershed),) = score_tables(cells, ["watershed_object_f1"])
    assert list(watershed["method"]) == ["semi_moe, watershed"] * 2, "no row of another postprocessing"


def test_a_comparison_uses_shared_seeds(make_cells: Callable[..., Path], edit_cell: Callable[..., None]) -> None:
    folder = make_cells()
    names = load_cells(folder)[0].content["per_image"]["image"]
    for method, values in (("semi_moe", [0.9, 0.8, 0.7]), ("supervised", [0.5, 0.6, 0.7])):
        edit_cell(folder, f"{method}-10-seed0", per_image={"image": names, "mean_dice": values})
    edit_cell(folder, "semi_moe-10-seed1", per_image=None)
    actual = {labels: result for labels, _, result in comparisons(load_cells(folder), "mean_dice", "supervised")}
    assert abs(actual["10"].difference - 0.2) < 1e-9
    assert (actual["10"].better, actual["10"].worse, actual["10"].images) == (2, 0, 3)
    assert comparisons(load_cells(folder), "mean_jaccard", "supervised") == []


def test_each_postprocessing_is_compared_with_components(with_watershed: Path) -> None:
    cells = load_cells(with_watershed)
    actual = {entry: result.difference for labels, entry, result in comparisons(cells, "object_dice", "supervised")}
    assert actual.keys() == {"semi_moe", "semi_moe, watershed"}
    assert actual["semi_moe"] == pytest.approx(0.05)
    assert actual["semi_moe, watershed"] == pytest.approx(0.15 - 0.01 / 3)
    own = comparisons(cells, "object_dice", "semi_moe")
    assert {entry for _, entry, _ in own} == {"supervised", "semi_moe, watershed"}, "compared with its own components"


def test_counts_are_ranges_if_lists_differ(make_cells: Callable[..., Path], edit_cell: Callable[..., None]) -> None:
    folder = make_cells()
    edit_cell(folder, "semi_moe-10-seed1", counts={"training": 6, "unlabeled": 4, "test": 3})
    table = counts_table(load_cells(folder))
    assert list(table.columns) == ["labels, %", "labeled", "unlabeled", "validation", "test"]
    assert rows_of(table) == [["10", "4 to 6", "4", "2", "3"], ["100", "4", "4", "2", "3"]]


def test_costs_are_means_over_the_runs_of_a_method(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    edit_cell(folder, "supervised-10-seed0", seconds={"training": 180.0}, peak_memory=None)
    rows = {row[0]: row[1:] for row in rows_of(cost_table(load_cells(folder)))}
    assert rows["supervised"] == ["1,000", "1,006", "100", "1.5", "0.1", "900", "-"]


def test_tables_of_a_cell_with_missing_values() -> None:
    content = {"method": "own", "labels": "10", "metrics": {}, "counts": {}, "steps": 5, "protocol": "own", "seed": 0}
    cell = Cell(Path("own"), json.loads(json.dumps(content)))
    assert rows_of(score_table([cell], ["pooled_dice"])) == [["10", "own", "1", "-"]]
    assert rows_of(counts_table([cell])) == [["10", "-", "-", "-", "-"]]
    assert rows_of(cost_table([cell])) == [["own", "-", "-", "5", "-", "-", "-", "-"]]
