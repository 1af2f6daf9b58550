"""The report of a benchmark: cells read and compared, tables, charts and one HTML page."""

from bundle.report.cells import Cell, check_comparable, chosen, load_cells, read_anchors, warnings_of
from bundle.report.page import build
from bundle.report.statistics import Comparison, Spread, compare, spread
from bundle.report.tables import (
    comparison_table,
    comparisons,
    cost_table,
    labels_of,
    markdown,
    methods_of,
    metrics_of,
    score_table,
)

__all__ = [
    "Cell",
    "Comparison",
    "Spread",
    "build",
    "check_comparable",
    "chosen",
    "compare",
    "comparison_table",
    "comparisons",
    "cost_table",
    "labels_of",
    "load_cells",
    "markdown",
    "methods_of",
    "metrics_of",
    "read_anchors",
    "score_table",
    "spread",
    "warnings_of",
]
