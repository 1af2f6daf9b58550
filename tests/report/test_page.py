"""The tables and the page of a report."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

from bundle.report import build, charts, comparisons, load_cells, markdown, metrics_of, score_table
from bundle.report.page import gates_of

VOID = ("meta", "img", "line", "circle", "polyline")


class Reader(HTMLParser):
    """Takes a page apart: headings, addresses, and whether every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [str(value) for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


def test_the_score_table_holds_means_and_deviations(make_cells: Callable[..., Path]) -> None:
    head, rows = score_table(load_cells(make_cells()), ["pooled_dice", "object_hausdorff"])
    assert head == ["labels, %", "method", "seeds", "pooled Dice", "object Hausdorff"]
    assert rows == [
        ["10", "supervised", "2", "0.710 ± 0.000", "12.3 ± 0.0"],
        ["10", "semi_moe", "2", "0.760 ± 0.000", "12.3 ± 0.0"],
        ["100", "supervised", "2", "0.800 ± 0.000", "12.3 ± 0.0"],
        ["100", "semi_moe", "2", "0.850 ± 0.000", "12.3 ± 0.0"],
    ]
    assert markdown((["a", "b"], [["1", "x|y"]])) == "| a | b |\n| --- | --- |\n| 1 | x\\|y |"


def test_a_comparison_uses_the_seeds_that_both_have(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    names = load_cells(folder)[0].content["per_image"]["image"]
    for method, values in (("semi_moe", [0.9, 0.8, 0.7]), ("supervised", [0.5, 0.6, 0.7])):
        edit_cell(folder, f"{method}-10-seed0", per_image={"image": names, "mean_dice": values})
    edit_cell(folder, "semi_moe-10-seed1", per_image=None)
    found = {labels: result for labels, _, result in comparisons(load_cells(folder), "mean_dice", "supervised")}
    assert abs(found["10"].difference - 0.2) < 1e-9
    assert (found["10"].better, found["10"].worse, found["10"].images) == (2, 0, 3)
    assert comparisons(load_cells(folder), "mean_jaccard", "supervised") == []


def test_the_page_is_whole_and_needs_nothing_else(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    tile = {"title": "t1", "caption": "t1: Dice 0.9", "source": "data:image/webp;base64,AAAA"}
    anchor = {"paper": "Paper <A>", "protocol": "authors", "metric": "pooled_dice", "value": 89.2, "source": "table 1"}
    page = build(cells, metrics_of(cells), "supervised", {"worst": [tile]}, [anchor], ["Mind <this>."], "Made now.")
    read = Reader(page)
    assert read.open == []
    assert read.headings == [
        "phantom, protocol heldout",
        "Scores on the test part",
        "Image by image, against supervised",
        "Learning",
        "Gate weights over training",
        "Calibration",
        "Worst and best test images",
        "Cost",
        "Published elsewhere",
        "What the scores mean",
        "Cells",
    ]
    assert all(address.startswith("data:") for address in read.addresses)
    assert "Paper &lt;A&gt;" in page
    assert "Mind &lt;this&gt;." in page
    assert "0.760 ± 0.000" in page
    scores = page.split("<h2>Published elsewhere")[0]
    assert "89.2" not in scores, "published figures stand apart from ours"


def test_the_authors_protocol_is_called_optimistic(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells(protocol="authors"))
    assert '<p class="warning">Optimistic: checkpoint and threshold' in build(cells, [], "supervised", {}, [], [], "")


def test_gates_are_read_off_the_columns(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    assert gates_of(cells[0]) == {
        "seg": {name: f"unlabeled/gate_seg/{name}/mean" for name in ("seg", "sdf", "boundary")}
    }
    assert gates_of(next(cell for cell in cells if cell.method == "supervised")) == {}


def test_ticks_are_round_and_inside() -> None:
    assert charts.ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts.ticks(0.71, 0.86) == [0.75, 0.8, 0.85]
    assert charts.ticks(3.0, 3.0) == [3.0]


def test_a_line_stands_where_its_values_are() -> None:
    svg = charts.line_chart([charts.Line("a", [(0, 0.0), (10, 1.0)], 0)], "x", "y", (0.0, 1.0))
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    (left, bottom), (right, top) = (map(float, point.split(",")) for point in points[1].split())
    assert left < right
    assert bottom > top, "larger values stand higher"
    broken = charts.line_chart([charts.Line("a", [(0, 0.0), (1, float("nan")), (2, 1.0)], 0)], "x", "y")
    assert broken.count("<polyline") == 2
    assert charts.line_chart([charts.Line("a", [], 0)], "x", "y") == ""
