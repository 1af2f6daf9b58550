"""Charts: marks, texts and colors of the SVG."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from scripts.reporting.charts import Line, Row, Series, line_chart, row_chart

ROWS = [
    Row("best", [Series(0.9, 0, [0.8, 1.0]), Series(0.7, 0, [0.7], hollow=True, name="second")]),
    Row("a_method_with_a_long_name", [Series(0.5, 1, ends=(0.4, 0.6))], strong=True),
    Row("empty", []),
]
CURVE = Line("own", [(0, 0.0), (12000, 1.0)], 1, dots=True)


def texts(svg: str) -> list[str]:
    """Return the texts of a chart, in their order."""
    return re.findall("<text[^>]*>([^<]*)</text>", svg)


def test_a_line_chart_has_titles_ticks_and_names() -> None:
    reference = Line("other", [(0, 0.5), (12000, 0.5)], 0, "reference")
    svg = line_chart([CURVE, reference, Line("none", [])], "optimizer steps", "loss", "a over x")
    assert {"optimizer steps", "loss", "5,000", "0.5"} <= set(texts(svg))
    assert re.findall("<title>(.*?)</title>", svg) == ["other", "own"], "references are behind the lines"
    assert "stroke-dasharray" in svg
    assert line_chart([Line("none", [])], "x", "y", "a") == ""


def test_a_row_chart_has_a_row_per_method_and_its_unit() -> None:
    svg = row_chart(ROWS, "difference, px; lower is better", "two rows", [(0.5, None)], signs=True)
    result = texts(svg)
    assert [name for name in result if name in ("best", "a_method_with_a_long_name", "empty")] == [
        "best",
        "a_method_with_a_long_name",
    ]
    assert {"method", "difference, px; lower is better", "+0.6"} <= set(result)
    assert "<title>second</title>" in svg
    assert row_chart([Row("empty", [])], "score", "") == ""


def test_charts_follow_the_colors_of_the_page() -> None:
    svg = row_chart(ROWS, "score", "") + line_chart([CURVE], "x", "y", "", diagonal=True)
    colors = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", svg))
    assert all(color == "none" or color.startswith(("var(--", "url(#")) for color in colors), colors
    assert "#ffffff" not in svg


def test_a_chart_is_reproducible_and_its_identifiers_are_its_own() -> None:
    first, repeated, other = (row_chart(ROWS, "score", label) for label in ("one", "one", "two"))
    assert first == repeated
    names = [set(re.findall(' id="(.*?)"', svg)) for svg in (first, other)]
    assert names[0]
    assert not names[0] & names[1]
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', first)) <= names[0]


def test_texts_are_escaped() -> None:
    svg = row_chart([Row("a<b", [Series(1.0, name='<&"> is $5')])], "<score>", '"quoted" & <told>')
    tree = ElementTree.fromstring(str(svg).replace("<svg ", '<svg xmlns:xlink="x" ', 1))
    assert tree.attrib["aria-label"] == '"quoted" & <told>'
    assert [element.text for element in tree.iter("title")] == ["<&'> is $5"]
    assert {"a<b", "<score>"} <= {element.text for element in tree.iter("text")}
