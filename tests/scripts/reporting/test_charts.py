"""Charts: positions of marks and texts."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from scripts.reporting import charts
from scripts.reporting.row_chart import Row, Series, row_chart


def numbers(svg: str, path: str, *names: str) -> list[tuple[float, ...]]:
    """Return attributes of all elements at a path of a chart, as numbers."""
    return [tuple(float(found.attrib[name]) for name in names) for found in ElementTree.fromstring(svg).findall(path)]


def test_ticks_are_round_and_inside() -> None:
    assert charts.ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert charts.ticks(0.71, 0.86) == [0.75, 0.8, 0.85]
    assert charts.ticks(3.0, 3.0) == [3.0]
    assert [charts.number(value) for value in (0.25, 575.0, 12000.0)] == ["0.25", "575", "12,000"]


def test_positions_of_a_line() -> None:
    svg = charts.line_chart([charts.Line("a", [(0, 0.0), (10, 1.0)])], "x", "y", "a over x", (0.0, 1.0))
    points = re.search(r'points="([^"]+)"', svg)
    assert points is not None
    (left, bottom), (right, top) = (map(float, point.split(",")) for point in points[1].split())
    assert left < right
    assert bottom > top, "larger values are higher"
    broken = charts.line_chart([charts.Line("a", [(0, 0.0), (1, float("nan")), (2, 1.0)])], "x", "y", "a")
    assert broken.count("<polyline") == 2
    assert charts.line_chart([charts.Line("a", [])], "x", "y", "a") == ""


def test_references_are_behind_the_lines() -> None:
    lines = [charts.Line("own", [(0, 0.0), (1, 1.0)], 1), charts.Line("other", [(0, 0.5), (1, 0.5)], 0, "reference")]
    svg = charts.line_chart(lines, "x", "y", "a")
    assert svg.index("<title>other</title>") < svg.index("<title>own</title>")
    assert 'class="c0 reference"' in svg


def test_a_row_chart_puts_values_right_of_names() -> None:
    rows = [
        Row("best", [Series(0.9, 0, [0.8, 1.0])]),
        Row("a_method_with_a_long_name", [Series(0.5, 1, ends=(0.4, 0.6))]),
    ]
    svg = row_chart(rows, "score", "two rows", references=[(0.5, None)])
    names = numbers(svg, "text[@text-anchor='end']", "x", "y")[1:]  # the first is the title
    assert len(names) == 2
    assert names[0][1] < names[1][1], "the first row is at the top"
    marks = [x for (x,) in numbers(svg, ".//circle", "cx")]
    (rule,) = numbers(svg, "line[@class='rule']", "x1")
    assert min(*marks, *rule) > max(x for x, _ in names), "no line may cross a name"
    assert numbers(svg, ".//circle[@class='mean']", "cx") == [rule], "the mark at 0.5 is on the reference at 0.5"
    ((low, high),) = numbers(svg, ".//line[@class='interval']", "x1", "x2")
    assert low < rule[0] < high


@pytest.mark.parametrize("high", [0.2 / 1.05, 100_000 / 1.05])
def test_ticks_of_a_row_chart_are_not_clipped(high: float) -> None:
    svg = row_chart([Row("method", [Series(0.0), Series(high)])], "difference", "", signs=high < 1)
    tree = ElementTree.fromstring(svg)
    width = float(tree.attrib["viewBox"].split()[2])
    for found in tree.findall("text[@class='tick']"):
        half = 3.3 * len(found.text or "")
        assert half <= float(found.attrib["x"]) <= width - half


def test_every_axis_has_its_title_and_none_is_clipped() -> None:
    long = "difference to a_method_with_a_long_name, px; lower is better"
    rows = [Row("another_method_with_a_long_name", [Series(0.0), Series(1.0)])]
    lines = [charts.Line("a", [(0, 0.0), (1, 1.0)])]
    for svg, titles in (
        (row_chart(rows, long, ""), ["method", long]),
        (charts.line_chart(lines, "optimizer steps", "loss", ""), ["loss", "optimizer steps"]),
    ):
        tree = ElementTree.fromstring(svg)
        found = tree.findall("text[@class='title']")
        assert [one.text for one in found] == titles
        below = found[-1]
        half, width = 3.3 * len(below.text or ""), float(tree.attrib["viewBox"].split()[2])
        assert half > width / 2 or half <= float(below.attrib["x"]) <= width - half
        assert float(found[0].attrib["y"]) < min(y for (y,) in numbers(svg, "text[@class='tick']", "y"))


def test_series_of_a_row_have_separate_lanes() -> None:
    series = [Series(0.5, 0, [0.5]), Series(0.5, 0, [0.5], hollow=True, name="second")]
    svg = row_chart([Row("method", series), Row("empty", [])], "score", "")
    first, second = numbers(svg, ".//circle", "cy")
    assert second[0] - first[0] >= 8
    assert svg.count('class="hollow"') == 1
    assert "empty" not in svg
    assert row_chart([Row("empty", [])], "score", "") == ""


def test_texts_are_escaped() -> None:
    svg = row_chart([Row("a<b", [Series(1.0, name="<&>")])], "<score>", '"quoted" & <told>')
    assert ElementTree.fromstring(svg).attrib["aria-label"] == '"quoted" & <told>'
    assert charts.legend(["<b>"]).count("<b>") == 0
