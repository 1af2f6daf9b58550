"""The page of a report: valid, self-contained and clear about optimistic scores."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from scripts.reporting.cells import Cell, load_cells
from scripts.reporting.page import build, empty_images
from scripts.reporting.scores import leading, reliability, score_charts
from scripts.reporting.tables import metrics_of
from scripts.reporting.training import gates_of, learning_curves, loss_charts, mean_curve

VOID = ("meta", "img", "wbr", "path", "use", "i")
PICTURE = {"caption": "t1: Dice 0.9", "source": "data:image/webp;base64,AAAA"}
TILES = {"run": {"worst": [PICTURE]}}


class Reader(HTMLParser):
    """Parser for headings and tags of a page, which checks that every tag is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)

    def all(self, attribute: str) -> list[str]:
        """Return the values of an attribute of all tags."""
        return [str(attributes[attribute]) for _, attributes in self.tags if attribute in attributes]


def page_of(cells: Path, **changes: Any) -> str:
    """Return the page of a folder of cells."""
    result = load_cells(cells)
    metrics = changes.pop("metrics", metrics_of(result))
    arguments: dict[str, Any] = {"tiles": {}, "published_scores": [], "warnings": [], "made": "Made now."} | changes
    return build(result, metrics, "supervised", **arguments)


def section(page: str, name: str) -> str:
    """Return a section of a page; empty if it has none."""
    return page.partition(f'<section id="{name}"')[2].partition("</section>")[0]


def test_the_page_is_valid_and_self_contained(make_cells: Callable[..., Path]) -> None:
    entry = {"paper": "Paper <A>", "protocol": "authors", "metric": "swept_dice", "value": 89.2, "source": "table 1"}
    entry["note"] = "another <split>"
    page = page_of(make_cells(), tiles=TILES, published_scores=[entry], warnings=["Mind <this>."])
    read = Reader(page)
    assert read.open == []
    assert read.headings == [
        "supervised and semi_moe on phantom: semi_moe leads at 10\u00a0% and 100\u00a0% labels",
        "Scores on the test images",
        "Differences to supervised, image by image",
        "Learning curves on validation images",
        "Training loss",
        "Gate weights during training",
        "Calibration",
        "Worst and best test images",
        "Cost",
        "Published results",
        "Definitions of the scores",
        "Runs",
    ]
    addresses = [*read.all("src"), *read.all("href"), *read.all("xlink:href")]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert {address[1:] for address in addresses if address.startswith("#")} <= set(read.all("id"))
    assert page.count("url(") == page.count("url(#")
    assert "@import" not in page
    assert "Paper &lt;A&gt;" in page
    assert "Mind &lt;this&gt;." in page
    assert "0.760 ±\u00a00.000" in page
    assert "89.2" not in page.split('<section id="published"')[0], "published results have a separate section"
    assert '<td class="words" data-title="note">another &lt;split&gt;</td>' in section(page, "published")
    assert "<li>table 1</li>" in section(page, "published")


def test_the_summary_comes_first_and_methods_are_described(make_cells: Callable[..., Path]) -> None:
    page = page_of(make_cells(), warnings=["Mind."], about={"semi_moe": "Semi-MoE: <three> experts."})
    lead = page.split("<nav")[0]
    parts = [
        "<h1>",
        "This page compares 2 methods",
        "semi_moe is better",
        "Higher is better",
        "The checkpoint",
        "Mind.",
    ]
    positions = [lead.index(part) for part in parts]
    assert positions == sorted(positions)
    assert "<dt>semi_moe</dt><dd>Semi-MoE: &lt;three&gt; experts.</dd>" in lead
    assert "<dt>supervised</dt>" not in lead, "it has no description"


def test_wide_tables_have_column_titles_in_each_row_for_a_phone(make_cells: Callable[..., Path]) -> None:
    page = page_of(make_cells(), metrics=["mean_dice"])
    rows = [row for row in section(page, "cost").split("<tr>") if "<td" in row]
    assert re.findall('data-title="(.*?)"', rows[0]) == [
        *("parameters", "training only", "steps", "training, min", "evaluation, min", "host, MiB", "GPU, MiB")
    ]
    narrow = section(page, "definitions")
    assert 'class="wide"' in narrow
    assert "data-title" not in narrow


def test_the_page_is_accessible(make_cells: Callable[..., Path]) -> None:
    read = Reader(page_of(make_cells(), tiles=TILES))
    assert read.all("lang") == ["en"]
    assert len(read.all("id")) == len(set(read.all("id")))
    charts = [attributes for tag, attributes in read.tags if tag == "svg"]
    assert charts
    assert all(chart.get("role") == "img" and chart.get("aria-label") for chart in charts)
    assert read.all("alt") == ["Test image with outlines of annotation and prediction; worst, t1: Dice 0.9"]
    assert all("scope" in attributes for tag, attributes in read.tags if tag == "th")
    regions = [attributes for _, attributes in read.tags if str(attributes.get("class")).startswith("wide")]
    assert regions
    assert all(region.get("tabindex") == "0" and region.get("aria-label") for region in regions)
    assert len([tag for tag, _ in read.tags if tag == "caption"]) == len(regions)


def test_the_main_score_of_the_protocol_has_the_first_chart(make_cells: Callable[..., Path]) -> None:
    scores = {"pooled_dice": 0.8, "swept_dice": 0.9, "swept_jaccard": 0.8, "class_mean_dice": 0.85, "object_dice": 0.5}
    for protocol, title in (("heldout", "pooled Dice"), ("authors", "swept Dice"), ("class_mean", "class-mean Dice")):
        cells = load_cells(make_cells(protocol, protocol=protocol, metrics=scores))
        assert [name for name, _ in score_charts(cells, sorted(scores), "supervised")] == [title, "object Dice"]
    assert leading(load_cells(make_cells("bare", metrics={"own": 1.0})), ["own"]) == "own"


def test_the_authors_protocol_is_marked_as_optimistic(make_cells: Callable[..., Path]) -> None:
    curve = {"epoch": [1.0, 2.0], "loss": [1.0, 0.5], "validation/swept_dice": [0.5, 0.6]}
    chosen = {"epoch": 2, "metric": "swept_jaccard", "value": 0.5}
    read = Reader(page := page_of(make_cells(protocol="authors", curves=curve, selected=chosen)))
    assert read.headings[:2] == [
        "supervised and semi_moe on phantom: semi_moe leads at 10\u00a0% and 100\u00a0% labels (optimistic)",
        "Scores on the test images, which also selected the checkpoints",
    ]
    assert "Learning curves on test images" in read.headings
    assert '<p class="warning">Optimistic: checkpoint and threshold' in page.split("<nav")[0]
    assert "best on test images" in page
    assert "swept Jaccard 0.500" in page
    assert "validation images" not in page
    assert "Optimistic" not in page_of(make_cells("heldout"))


def test_a_second_postprocessing_is_shown_with_the_first(
    make_cells: Callable[..., Path], edit_cell: Callable[..., None]
) -> None:
    folder = make_cells()
    for cell in load_cells(folder):
        images = {"image": cell.content["per_image"]["image"], "object_dice": [0.5, 0.6, 0.7]}
        scores = {"object_dice": 0.6}
        if cell.method == "semi_moe":
            scores["watershed_object_dice"] = 0.7
            images["watershed_object_dice"] = [0.6, 0.7, 0.9]
        edit_cell(folder, cell.name, metrics=scores, per_image=images)
    page = page_of(folder)
    for name in ("scores", "differences"):
        charts, table = section(page, name).split("<table", 1)
        assert charts.count('class="hollow"') == 1, "in the legend"
        assert len(re.findall("<title>semi_moe[^<]*watershed[^<]*</title>", charts)) == 2, "a mark per share of labels"
        assert "watershed" in table
    assert ">+0.133</td>" in section(page, "differences")


def test_each_method_has_a_loss_chart(make_cells: Callable[..., Path]) -> None:
    charts = dict(loss_charts(load_cells(make_cells())))
    assert list(charts) == ["supervised", "semi_moe"]
    assert [svg.count("<title>") for svg in charts.values()] == [4, 4], "a line per share of labels and seed"


def test_learning_curves_are_shown_with_the_baseline(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    (_, baseline), (_, other) = learning_curves(cells, "supervised", "validation images")
    assert (baseline.count("<title>supervised"), other.count("<title>supervised")) == (0, 2)
    group = [cell for cell in cells if cell.method == "supervised" and cell.labels == "10"]
    assert mean_curve(group, "validation/pooled_dice") == [(50.0, 0.61), (100.0, 0.71)]
    assert learning_curves(load_cells(make_cells("bare", curves=None)), "supervised", "") == []


def test_gates_and_calibration_are_read_from_the_columns(make_cells: Callable[..., Path]) -> None:
    cells = load_cells(make_cells())
    assert gates_of(cells[0]) == {
        "seg": {name: f"unlabeled/gate_seg/{name}/mean" for name in ("seg", "sdf", "boundary")}
    }
    assert gates_of(next(cell for cell in cells if cell.method == "supervised")) == {}
    assert reliability(cells[0]) == [(0.1, 0.05), (0.9, 0.95)], "empty bins are skipped"


def test_many_runs_with_pictures_are_collapsed(make_cells: Callable[..., Path]) -> None:
    tiles = {f"run {number}": {"worst": [PICTURE], "best": [PICTURE]} for number in range(9)}
    picture = section(page_of(make_cells(), tiles=tiles), "test-images")
    assert picture.count("<details") == 9
    assert picture.count("<details open>") == 4
    assert picture.count("<h3>Worst</h3>") == picture.count("<h3>Best</h3>") == 9
    assert picture.count('<div class="tiles">') == 18, "worst and best in separate rows"


def test_scores_of_empty_images_are_defined(make_cells: Callable[..., Path]) -> None:
    table = empty_images(["pooled_dice", "watershed_object_hausdorff"])
    assert list(table["score"]) == ["Dice and Jaccard of pixels", "object Hausdorff"], "only scores of the report"
    assert list(table["only one empty"]) == ["0", "diagonal of the image"]
    page = page_of(make_cells(metrics={"pooled_dice": 0.8}))
    assert "Objects</h3>" not in section(page, "definitions")
    assert "at least half" in section(page_of(make_cells("objects")), "definitions")


def test_a_page_of_many_methods_stays_small(make_cells: Callable[..., Path]) -> None:
    first, *_ = load_cells(make_cells())
    cells = [
        Cell(first.folder, {**first.content, "name": f"m{number}-{seed}", "method": f"m{number}", "seed": seed})
        for number in range(12)
        for seed in range(3)
    ]
    page = build(cells, metrics_of(cells), "m0", {}, [], [], "")
    assert Reader(page).open == []
    assert page.count("<figure>") > 36
    assert len(page) < 1e6
    assert page.count("<li><i class=") < 12, "legends contain shares and experts, not methods"
