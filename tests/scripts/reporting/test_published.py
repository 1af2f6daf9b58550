"""Published results: the file in docs, and their section of the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.reporting.cells import load_cells, read_published_scores
from scripts.reporting.definitions import DEFINITIONS, PROTOCOLS
from scripts.reporting.published import ours, published_table

SCORE = {
    **{"paper": "A 2025", "method": "semi_moe", "data": "phantom", "labels": "10", "protocol": "heldout"},
    **{"metric": "pooled_dice", "value": 89.0, "unit": "%", "source": "A: Title, Venue 2025"},
}


@pytest.fixture
def shipped(repository_root: Path) -> list[dict[str, Any]]:
    """Return the results of docs/published_scores.json for both public data sets."""
    return [
        entry
        for data in ("glas", "crag")
        for entry in read_published_scores(repository_root / "docs" / "published_scores.json", data)
    ]


def test_every_result_has_a_source_and_a_defined_score(shipped: list[dict[str, Any]]) -> None:
    assert len(shipped) > 20
    for entry in shipped:
        assert re.search(r"arXiv \d{4}\.\d{5}", entry["source"]), entry
        assert entry["protocol"] in PROTOCOLS
        assert entry["metric"] in DEFINITIONS
        assert entry["unit"] == ("px" if entry["metric"].endswith("hausdorff") else "%")
    paths = [tuple(str(entry.get(key)) for key in ("paper", "data", "labels", "metric", "part")) for entry in shipped]
    assert len(set(paths)) == len(paths), "a result is repeated"


def test_results_with_a_swept_threshold_have_swept_scores(shipped: list[dict[str, Any]]) -> None:
    metrics = {entry["metric"] for entry in shipped if entry["protocol"] == "authors"}
    assert metrics == {"swept_dice", "swept_jaccard"}
    assert not any(entry["metric"].startswith("swept") for entry in shipped if entry["protocol"] != "authors")


def test_results_with_the_same_protocol_come_first(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    others = [SCORE | {"protocol": "authors", "metric": "swept_dice"}, SCORE | {"labels": "5", "paper": "B 2024"}]
    table, sources = published_table([*others, SCORE], cells)
    assert list(table.columns[:4]) == ["protocol", "paper", "published", "ours"]
    assert table.iloc[:, :3].to_numpy().tolist() == [
        ["heldout", "B 2024 [1]", "pooled Dice 89.0 %"],
        ["heldout", "A 2025 [1]", "pooled Dice 89.0 %"],
        ["authors (optimistic)", "A 2025 [1]", "swept Dice 89.0 %"],
    ]
    assert sources == ["A: Title, Venue 2025"]


def test_scores_of_a_paper_share_a_row_per_part_of_the_test_images(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    objects = {"metric": "object_hausdorff", "value": 32, "unit": "px"}
    figures = [SCORE | {"part": "testA"}, SCORE | {"part": "testA"} | objects, SCORE | {"part": "testB"}]
    table, _ = published_table(figures, cells)
    assert table[["published", "test images"]].to_numpy().tolist() == [
        ["pooled Dice 89.0 %, object Hausdorff 32 px", "testA"],
        ["pooled Dice 89.0 %", "testB"],
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "pooled Dice 76.00 %"),
        ({"metric": "object_hausdorff", "unit": "px"}, "object Hausdorff 12.3 px"),
        ({"protocol": "authors"}, ""),
        ({"labels": "5"}, ""),
        ({"method": None}, ""),
        ({"metric": "swept_dice"}, ""),
        ({"part": "testA"}, ""),
    ],
)
def test_our_result_is_shown_for_the_same_score(
    make_cells: Callable[..., Path], changes: dict[str, Any], expected: str
) -> None:
    assert ours(SCORE | changes, load_cells(make_cells())) == expected
