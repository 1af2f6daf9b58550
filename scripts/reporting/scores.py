"""Charts and tables of the page that compare methods: scores, differences image by image, calibration, cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from scripts.reporting.cells import Cell
from scripts.reporting.charts import Line, Row, Series, line_chart, row_chart
from scripts.reporting.definitions import definition, key_metric
from scripts.reporting.differences import comparison_table, comparisons
from scripts.reporting.statistics import Comparison
from scripts.reporting.tables import OBJECTS, POSTPROCESSING, costs, group, labels_of, methods_of, rank_methods, score

CHARTED = ("object_f1", "object_dice", "object_hausdorff")
"""Scores with a chart in addition to the main score, if the cells have them."""
COMPARED = ("mean_dice", *CHARTED)
"""Scores that are compared image by image."""
COST_CHARTS = (
    ("Parameters of the network", "parameters", "millions", 1e-6),
    ("Training time", "training, min", "minutes", 1.0),
    ("Peak GPU memory", "GPU, MiB", "MiB", 1.0),
    ("Peak CPU memory", "host, MiB", "MiB", 1.0),
)
"""Charts of cost: title, column of the table of costs, unit, conversion factor."""

Chart = tuple[str, str]
"""Title and SVG of a chart."""


class Difference(NamedTuple):
    """Differences in one score: title with unit, chart, table, and whether a larger score is better."""

    title: str
    chart: str
    table: pd.DataFrame
    larger_is_better: bool


def leading(cells: Sequence[Cell], metrics: Sequence[str]) -> str | None:
    """Return the main score: that of the protocol, or the first if no cell has it; ``None`` without scores."""
    main = key_metric(str(cells[0].content["protocol"]))
    available = [name for name in metrics if any(cell.metrics.get(name) is not None for cell in cells)]
    return main if main in available else next(iter(available), None)


def score_charts(cells: Sequence[Cell], metrics: Sequence[str], against: str) -> list[Chart]:
    """Return a chart of the main score, and one of each object score."""
    lead = leading(cells, metrics)
    names = dict.fromkeys([lead, *(name for name in CHARTED if name in metrics)] if lead else [])
    return [(definition(name).title, _score_chart(cells, name, against)) for name in names]


def differences(cells: Sequence[Cell], against: str) -> list[Difference]:
    """Return the differences of the other methods to ``against``, image by image, for each score that has some."""
    differences = []
    for name in COMPARED:
        results = comparisons(cells, name, against)
        if results:
            meaning = definition(name)
            title = meaning.label.replace(meaning.title, f"{meaning.title} per image")
            chart = _difference_chart(results, labels_of(cells), name, against)
            table = comparison_table(results, against, meaning.digits)
            differences.append(Difference(title, chart, table, meaning.larger_is_better is not False))
    return differences


def cost_charts(cells: Sequence[Cell]) -> list[Chart]:
    """Return a chart of each cost that the cells have, the lowest first."""
    charts = []
    for title, column, unit, factor in COST_CHARTS:
        values = (costs(cells)[column].dropna() * factor).sort_index().sort_values(kind="stable")
        rows = [Row(name, [Series(value, name=f"{name}: {value:.4g}")]) for name, value in values.items()]
        label = f"{title}, {unit}, sorted from the lowest: {_means_text(rows)}"
        charts.append((title, row_chart(rows, f"{unit}; lower is better", label, from_zero=True)))
    return [chart for chart in charts if chart[1]]


def calibration_charts(cells: Sequence[Cell]) -> list[Chart]:
    """Return the reliability diagrams: one chart per method, one line per run."""
    charts = []
    for method in methods_of(cells):
        lines = [
            Line(f"{labels} % labels, seed {cell.seed}", reliability(cell), color)
            for color, labels in enumerate(labels_of(cells))
            for cell in group(cells, method, labels)
        ]
        label = f"{method}: share of foreground pixels over the predicted probability"
        titles, ends = ("predicted probability", "share of foreground"), (0.0, 1.0)
        charts.append((method, line_chart(lines, *titles, label, ends, ends, diagonal=True)))
    return [chart for chart in charts if chart[1]]


def reliability(cell: Cell) -> list[tuple[float, float]]:
    """Return points (mean predicted probability, share of foreground) of the bins of a cell that are not empty."""
    bins = pd.DataFrame(cell.content.get("calibration") or {"confidence": [], "share": [], "count": []}, dtype=float)
    filled = bins[bins["count"] > 0].dropna()
    return list(zip(filled["confidence"], filled["share"], strict=True))


def _score_chart(cells: Sequence[Cell], name: str, against: str) -> str:
    """Return a chart of a score with one row per method, sorted by the score at the smallest share of labels."""
    labels, meaning = labels_of(cells), definition(name)
    marks: dict[str, list[Series]] = {}
    references = []
    for color, share in enumerate(labels):
        for method in rank_methods(cells, share, name):
            for postprocessing in POSTPROCESSING if name.startswith(OBJECTS) else ("",):
                spread = score(group(cells, method, share), postprocessing + name)
                if spread is None:
                    continue
                if method == against and not postprocessing:
                    references.append((spread.mean, color))
                suffix = f", {POSTPROCESSING[postprocessing]}" if name.startswith(OBJECTS) else ""
                title = f"{method}, {share} % labels{suffix}: {spread.mean:.{meaning.digits}f}"
                title += f", {len(spread.values)} run{'s' * (len(spread.values) > 1)}"
                series = Series(spread.mean, color, spread.values, hollow=bool(postprocessing), name=title)
                marks.setdefault(method, []).append(series)
    rows = [Row(method, series, method == against) for method, series in marks.items()]
    label = f"{meaning.title} by method at {labels[0]} % labels, sorted from the best: {_means_text(rows)}"
    return row_chart(rows, "; ".join(filter(None, (meaning.label, meaning.better))), label, references)


def _difference_chart(
    results: Sequence[tuple[str, str, Comparison]], labels: Sequence[str], name: str, against: str
) -> str:
    """Return a chart of the differences in a score with one row per method, sorted from the best."""
    meaning = definition(name)
    marks: dict[str, list[Series]] = {}
    for share, entry, result in results:
        method, _, postprocessing = entry.partition(", ")
        ends = None if result.low is None or result.high is None else (result.low, result.high)
        title = f"{entry}, {share} % labels: {result.difference:+.3f}, p {result.p:.3f}"
        series = Series(result.difference, labels.index(share), ends=ends, hollow=bool(postprocessing), name=title)
        marks.setdefault(method, []).append(series)
    sign = 1.0 if meaning.larger_is_better is False else -1.0
    order = sorted(marks, key=lambda method: sign * marks[method][0].mean)
    rows = [Row(method, sorted(marks[method], key=lambda mark: mark.color), method == against) for method in order]
    unit = f", {meaning.unit}" if meaning.unit else ""
    title = f"difference to {against}{unit}; {meaning.better}"
    label = f"{meaning.title}, mean {title}: {_means_text(rows)}"
    return row_chart(rows, title, label, [(0.0, None)], signs=True)


def _means_text(rows: Sequence[Row]) -> str:
    """Return the means of the first series of each row, as text."""
    return ", ".join(f"{row.name} {round(row.series[0].mean, 3):.4g}" for row in rows)
