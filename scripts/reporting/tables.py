"""Tables of a report, and their Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.cells import Cell, labels_key
from scripts.reporting.definitions import DEFINITIONS, definition, key_metric
from scripts.reporting.statistics import Spread, spread

Table = tuple[list[str], list[list[str]]]
"""Column titles, and rows of texts."""

POSTPROCESSING = {"": "components", "watershed_": "watershed"}
"""Postprocessing of predicted objects by the prefix of its scores; the first is the default."""
OBJECTS = "object_"
"""Prefix of all object scores, after that of the postprocessing."""


class Best(str):
    """Text of a table cell that is the best of its column and group."""

    __slots__ = ()


def methods_of(cells: Sequence[Cell], baseline: str = "supervised") -> list[str]:
    """Return the methods by name; the baseline, if there is one, is first."""
    names = sorted({cell.method for cell in cells})
    return sorted(names, key=lambda name: (name != baseline, name))


def labels_of(cells: Sequence[Cell]) -> list[str]:
    """Return the shares of labels, the smallest first."""
    return sorted({cell.labels for cell in cells}, key=labels_key)


def metrics_of(cells: Sequence[Cell]) -> list[str]:
    """Return the scores of all cells: those of the protocol, then other defined scores, then the rest by name."""
    names = {name for cell in cells for name in cell.metrics}
    known = [name for name in DEFINITIONS if name in names]
    main = key_metric(str(cells[0].content["protocol"])) if cells else ""
    kind = main.rpartition("_")[0] + "_"
    return sorted(known, key=lambda name: not name.startswith(kind)) + sorted(names - set(known))


def is_object_score(metric: str) -> bool:
    """Return whether a score is an object score."""
    return any(metric.startswith(postprocessing + OBJECTS) for postprocessing in POSTPROCESSING)


def without_postprocessing(metric: str) -> str:
    """Return the name of a score without the prefix of its postprocessing."""
    postprocessing = next(name for name in reversed(POSTPROCESSING) if metric.startswith(name))
    return metric.removeprefix(postprocessing)


def entry(method: str, postprocessing: str) -> str:
    """Return the name of a method with a postprocessing: ``semi_moe``, or ``semi_moe, watershed``."""
    return f"{method}, {POSTPROCESSING[postprocessing]}" if postprocessing else method


def group(cells: Sequence[Cell], method: str, labels: str) -> list[Cell]:
    """Return the cells of a method at a share of labels, one per seed."""
    return [cell for cell in cells if cell.method == method and cell.labels == labels]


def score(cells: Sequence[Cell], metric: str) -> Spread | None:
    """Return the mean and spread of a score over cells; ``None`` if no cell has it."""
    values = [cell.metrics[metric] for cell in cells if cell.metrics.get(metric) is not None]
    try:
        return spread(values)
    except ValueError:
        return None


def shown(value: Spread | None, digits: int) -> str:
    """Format a mean with its standard deviation."""
    if value is None:
        return "-"
    deviation = "" if value.deviation is None else f" ± {value.deviation:.{digits}f}"
    return f"{value.mean:.{digits}f}{deviation}"


def rank_methods(cells: Sequence[Cell], labels: str, metric: str) -> list[str]:
    """Return the methods at a share of labels, sorted from the best mean; those without the score are last, by name."""
    names = [name for name in methods_of(cells) if group(cells, name, labels)]
    means = {name: score(group(cells, name, labels), metric) for name in names}
    sign = 1.0 if definition(metric).larger_is_better is False else -1.0
    return sorted(names, key=lambda name: float("inf") if (value := means[name]) is None else sign * value.mean)


def score_table(cells: Sequence[Cell], metrics: Sequence[str], ranking: str | None = None) -> Table:
    """Return a table with one row per share of labels and method: number of seeds, mean and deviation of each score.

    Args:
        cells: comparable cells.
        metrics: scores, one per column.
        ranking: score by which the methods are sorted, the best first; by default they are sorted by name.
    """
    head = ["labels, %", "method", "seeds", *(definition(name).label for name in metrics)]
    rows = []
    for labels in labels_of(cells):
        names = methods_of(cells) if ranking is None else rank_methods(cells, labels, ranking)
        groups = [(name, runs) for name in names if (runs := group(cells, name, labels))]
        columns = [_column(name, [score(runs, name) for _, runs in groups]) for name in metrics]
        for index, (method, runs) in enumerate(groups):
            rows.append([labels, method, str(len(runs)), *(column[index] for column in columns)])
    return head, rows


def object_table(cells: Sequence[Cell], metrics: Sequence[str], ranking: str | None = None) -> Table:
    """Return a ``score_table`` of object scores with one row per method and postprocessing, see ``entry``."""
    names = list(dict.fromkeys(without_postprocessing(name) for name in metrics))
    head = ["labels, %", "method", "seeds", *(definition(name).label for name in names)]
    rows = []
    for labels in labels_of(cells):
        entries = []
        for method in methods_of(cells) if ranking is None else rank_methods(cells, labels, ranking):
            runs = group(cells, method, labels)
            for postprocessing in POSTPROCESSING:
                values = [
                    score(runs, postprocessing + name) if postprocessing + name in metrics else None for name in names
                ]
                if any(value is not None for value in values):
                    entries.append((entry(method, postprocessing), str(len(runs)), values))
        columns = [_column(name, [values[index] for _, _, values in entries]) for index, name in enumerate(names)]
        for index, (method, seeds, _) in enumerate(entries):
            rows.append([labels, method, seeds, *(column[index] for column in columns)])
    return head, rows


def score_tables(cells: Sequence[Cell], metrics: Sequence[str], ranking: str | None = None) -> list[tuple[str, Table]]:
    """Return the tables of pixel scores and of object scores with their titles, without empty tables."""
    pixels = [name for name in metrics if not is_object_score(name)]
    objects = [name for name in metrics if is_object_score(name)]
    tables = [("Scores of pixels", score_table(cells, pixels, ranking))] if pixels else []
    return tables + ([("Scores of objects", object_table(cells, objects, ranking))] if objects else [])


def counts_table(cells: Sequence[Cell]) -> Table:
    """Return the number of training, validation and test images, one row per share of labels."""
    parts = {"training": "labeled", **{part: part for part in ("unlabeled", "validation", "test")}}
    rows = []
    for labels in labels_of(cells):
        counts = [cell.content["counts"] for cell in cells if cell.labels == labels]
        rows.append([labels, *(_range([numbers[part] for numbers in counts if part in numbers]) for part in parts)])
    return ["labels, %", *parts.values()], rows


def cost_table(cells: Sequence[Cell]) -> Table:
    """Return parameters, steps, time and memory, one row per method, mean over its cells."""
    head = [
        *("method", "parameters", "training only", "steps", "training, min", "evaluation, min"),
        *("host, MiB", "GPU, MiB"),
    ]
    rows = []
    for method in methods_of(cells):
        runs = [cell for cell in cells if cell.method == method]
        rows.append(
            [
                method,
                *(_whole(mean_of(runs, "parameters", key)) for key in ("network", "training")),
                _whole(mean_of(runs, "steps")),
                *(_minutes(mean_of(runs, "seconds", key)) for key in ("training", "evaluation")),
                *(_whole(mean_of(runs, "peak_memory", key)) for key in ("host_mib", "device_mib")),
            ]
        )
    return head, rows


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def mean_of(cells: Sequence[Cell], *keys: str) -> float | None:
    """Return the mean over cells of a number in their files, by its keys; ``None`` if no cell has it."""
    values = []
    for cell in cells:
        value: Any = cell.content
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            values.append(float(value))
    return sum(values) / len(values) if values else None


def _column(metric: str, values: Sequence[Spread | None]) -> list[str]:
    """Return the texts of a column, with the best of several marked."""
    meaning = definition(metric)
    means = [value.mean for value in values if value is not None]
    best = None
    if len(means) > 1 and meaning.larger_is_better is not None:
        best = max(means) if meaning.larger_is_better else min(means)
    texts = [shown(value, meaning.digits) for value in values]
    return [
        Best(text) if value is not None and value.mean == best else text
        for text, value in zip(texts, values, strict=True)
    ]


def _range(counts: Sequence[int]) -> str:
    """Return a count as text, or the range of several."""
    if not counts:
        return "-"
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _minutes(value: float | None) -> str:
    return "-" if value is None else f"{value / 60:.1f}"
