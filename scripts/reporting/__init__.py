"""Report of a benchmark: reads and compares cells, and writes tables, charts and an HTML page."""

from scripts.reporting.cells import Cell, chosen, load_cells, read_anchors, unfinished
from scripts.reporting.comparability import check_comparable, facts_of, missing_note, warnings_of
from scripts.reporting.consistency import consistency_table
from scripts.reporting.definitions import is_optimistic, key_metric, protocol_note
from scripts.reporting.differences import comparison_table, comparisons
from scripts.reporting.page import build
from scripts.reporting.results_json import record_of_cells, record_of_demo
from scripts.reporting.statistics import Comparison, Spread, compare, spread
from scripts.reporting.tables import (
    cost_table,
    labels_of,
    markdown,
    methods_of,
    metrics_of,
    score_table,
    score_tables,
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
    "consistency_table",
    "cost_table",
    "facts_of",
    "is_optimistic",
    "key_metric",
    "labels_of",
    "load_cells",
    "markdown",
    "methods_of",
    "metrics_of",
    "missing_note",
    "protocol_note",
    "read_anchors",
    "record_of_cells",
    "record_of_demo",
    "score_table",
    "score_tables",
    "spread",
    "unfinished",
    "warnings_of",
]
