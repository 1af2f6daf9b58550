"""Tables of a report: what they hold, and how Markdown shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.report.cells import Cell, labels_key
from bundle.report.definitions import DEFINITIONS, definition
from bundle.report.statistics import Comparison, Spread, compare, mean_per_image, spread

Table = tuple[list[str], list[list[str]]]
"""Titles of the columns, and rows of texts."""


def methods_of(cells: Sequence[Cell], baseline: str = "supervised") -> list[str]:
    """Methods by name, the baseline first where it is there."""
    names = sorted({cell.method for cell in cells})
    return sorted(names, key=lambda name: (name != baseline, name))


def labels_of(cells: Sequence[Cell]) -> list[str]:
    """Shares of labels, the smallest first."""
    return sorted({cell.labels for cell in cells}, key=labels_key)


def metrics_of(cells: Sequence[Cell]) -> list[str]:
    """Scores that any cell has, in the order of their definitions, others after them by name."""
    found = {name for cell in cells for name in cell.metrics}
    known = [name for name in DEFINITIONS if name in found]
    return known + sorted(found - set(known))


def group(cells: Sequence[Cell], method: str, labels: str) -> list[Cell]:
    """Cells of one method at one share of labels, one a seed."""
    return [cell for cell in cells if cell.method == method and cell.labels == labels]


def score(cells: Sequence[Cell], metric: str) -> Spread | None:
    """Mean and spread of a score over cells; ``None`` where none has it."""
    values = [cell.metrics[metric] for cell in cells if cell.metrics.get(metric) is not None]
    try:
        return spread(values)
    except ValueError:
        return None


def shown(value: Spread | None, digits: int) -> str:
    """A mean with its deviation."""
    if value is None:
        return "-"
    deviation = "" if value.deviation is None else f" ± {value.deviation:.{digits}f}"
    return f"{value.mean:.{digits}f}{deviation}"


def score_table(cells: Sequence[Cell], metrics: Sequence[str]) -> Table:
    """A row a share of labels and method: seeds, then mean and deviation of each score."""
    head = ["labels, %", "method", "seeds", *(definition(name).title for name in metrics)]
    rows = []
    for labels in labels_of(cells):
        for method in methods_of(cells):
            found = group(cells, method, labels)
            if found:
                values = [shown(score(found, name), definition(name).digits) for name in metrics]
                rows.append([labels, method, str(len(found)), *values])
    return head, rows


def comparisons(cells: Sequence[Cell], metric: str, against: str) -> list[tuple[str, str, Comparison]]:
    """(labels, method, comparison with ``against``) for every other method; each image's score is the mean over seeds.

    Only seeds that both methods have count, so that both saw the same labels.
    """
    found = []
    for labels in labels_of(cells):
        base = {cell.seed: cell.per_image(metric) for cell in group(cells, against, labels)}
        for method in methods_of(cells):
            other = {cell.seed: cell.per_image(metric) for cell in group(cells, method, labels)}
            seeds = [seed for seed in sorted(set(base) & set(other)) if base[seed] and other[seed]]
            if method == against or not seeds:
                continue
            first = mean_per_image([other[seed] for seed in seeds])
            second = mean_per_image([base[seed] for seed in seeds])
            if set(first) & set(second):
                found.append((labels, method, compare(first, second)))
    return found


def comparison_table(found: Sequence[tuple[str, str, Comparison]], against: str, digits: int = 3) -> Table:
    """A row a comparison."""
    head = ["labels, %", f"method minus {against}", "mean difference", "95 % interval", "Wilcoxon p", "images + / -"]
    rows = []
    for labels, method, result in found:
        interval = "-" if result.low is None else f"{result.low:+.{digits}f} to {result.high:+.{digits}f}"
        p = "< 0.001" if result.p < 0.001 else f"{result.p:.3f}"
        counts = f"{result.better} / {result.worse} of {result.images}"
        rows.append([labels, method, f"{result.difference:+.{digits}f}", interval, p, counts])
    return head, rows


def cost_table(cells: Sequence[Cell]) -> Table:
    """A row a method: parameters, steps, time and memory, means over its cells."""
    head = [
        "method",
        "parameters",
        "training only",
        "steps",
        "training, min",
        "evaluation, min",
        "host, MiB",
        "GPU, MiB",
    ]
    rows = []
    for method in methods_of(cells):
        found = [cell.content for cell in cells if cell.method == method]
        rows.append(
            [
                method,
                *(_whole(_mean(found, "parameters", key)) for key in ("network", "training")),
                _whole(_mean(found, "steps")),
                *(_minutes(_mean(found, "seconds", key)) for key in ("training", "evaluation")),
                *(_whole(_mean(found, "peak_memory", key)) for key in ("host_mib", "device_mib")),
            ]
        )
    return head, rows


def anchor_table(anchors: Sequence[Mapping[str, Any]]) -> Table:
    """A row a published figure."""
    keys = ("paper", "method", "labels", "protocol", "metric", "value", "source", "note")
    shown = [{**anchor, "value": f"{anchor['value']} {anchor.get('unit', '')}".strip()} for anchor in anchors]
    return [*keys], [[str(anchor.get(key) or "-") for key in keys] for anchor in shown]


def markdown(table: Table) -> str:
    """A table as Markdown."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _mean(contents: Sequence[Mapping[str, Any]], *keys: str) -> float | None:
    values = []
    for content in contents:
        value: Any = content
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            values.append(float(value))
    return sum(values) / len(values) if values else None


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _minutes(value: float | None) -> str:
    return "-" if value is None else f"{value / 60:.1f}"
