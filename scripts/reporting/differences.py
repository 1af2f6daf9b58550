"""Paired differences between two methods over the test images, and their table."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from scripts.reporting.cells import Cell
from scripts.reporting.statistics import Comparison, compare, mean_per_image
from scripts.reporting.tables import OBJECTS, POSTPROCESSING, entry, group, labels_of, methods_of, table_of


def comparisons(cells: Sequence[Cell], metric: str, against: str) -> list[tuple[str, str, Comparison]]:
    """Compare every other method with ``against``; the score of each image is the mean over seeds.

    Only seeds of both methods are used, so that both had the same labels. Object scores are compared for each
    postprocessing of a method with the connected components of ``against``, and named ``semi_moe, watershed``.

    Returns:
        Entries (share of labels, method, comparison).
    """
    variants = list(POSTPROCESSING) if metric.startswith(OBJECTS) else [""]
    results = []
    for labels in labels_of(cells):
        base = {cell.seed: cell.per_image(metric) for cell in group(cells, against, labels)}
        for method in methods_of(cells):
            for postprocessing in variants:
                other = {cell.seed: cell.per_image(postprocessing + metric) for cell in group(cells, method, labels)}
                seeds = [seed for seed in sorted(set(base) & set(other)) if base[seed] and other[seed]]
                if not seeds or (method == against and not postprocessing):
                    continue
                first = mean_per_image([other[seed] for seed in seeds])
                second = mean_per_image([base[seed] for seed in seeds])
                if set(first) & set(second):
                    results.append((labels, entry(method, postprocessing), compare(first, second)))
    return results


def comparison_table(results: Sequence[tuple[str, str, Comparison]], against: str, digits: int = 3) -> pd.DataFrame:
    """Return a table with one row per comparison."""
    head = ["labels, %", f"method minus {against}", "mean difference", "95 % interval", "Wilcoxon p", "images + / -"]
    rows = []
    for labels, method, result in results:
        interval = "-" if result.low is None else f"{result.low:+.{digits}f} to {result.high:+.{digits}f}"
        p = "< 0.001" if result.p < 0.001 else f"{result.p:.3f}"
        counts = f"{result.better} / {result.worse} of {result.images}"
        rows.append([labels, method, f"{result.difference:+.{digits}f}", interval, p, counts])
    return table_of(rows, head)
