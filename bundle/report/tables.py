"""Tables of a report: what they hold, and how Markdown shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.report.cells import Cell, labels_key
from bundle.report.definitions import DEFINITIONS, definition, key_metric
from bundle.report.statistics import Spread, spread

Table = tuple[list[str], list[list[str]]]
"""Titles of the columns, and rows of texts."""

POSTPROCESSING = {"": "components", "watershed_": "watershed"}
"""Ways to read objects from an answer, by what stands before the names of their scores; the first is the plain one."""
OBJECTS = "object_"
"""How the name of every score of objects starts, after that of its postprocessing."""


class Best(str):
    """A cell that is the best of its column and group."""

    __slots__ = ()


def methods_of(cells: Sequence[Cell], baseline: str = "supervised") -> list[str]:
    """Methods by name, the baseline first where it is there."""
    names = sorted({cell.method for cell in cells})
    return sorted(names, key=lambda name: (name != baseline, name))


def labels_of(cells: Sequence[Cell]) -> list[str]:
    """Shares of labels, the smallest first."""
    return sorted({cell.labels for cell in cells}, key=labels_key)


def metrics_of(cells: Sequence[Cell]) -> list[str]:
    """Scores that any cell has: the kind that leads under the protocol, then as defined, then others by name."""
    found = {name for cell in cells for name in cell.metrics}
    known = [name for name in DEFINITIONS if name in found]
    lead = key_metric(str(cells[0].content["protocol"])) if cells else ""
    kind = lead.rpartition("_")[0] + "_"
    return sorted(known, key=lambda name: not name.startswith(kind)) + sorted(found - set(known))


def is_of_objects(metric: str) -> bool:
    """Whether a score is of objects and not of pixels."""
    return any(metric.startswith(postprocessing + OBJECTS) for postprocessing in POSTPROCESSING)


def plain_reading(metric: str) -> str:
    """Name that a score of objects has under the plain postprocessing."""
    postprocessing = next(name for name in reversed(POSTPROCESSING) if metric.startswith(name))
    return metric.removeprefix(postprocessing)


def entry(method: str, postprocessing: str) -> str:
    """How a method is called under a postprocessing: by its name under the plain one, else ``semi_moe, watershed``."""
    return f"{method}, {POSTPROCESSING[postprocessing]}" if postprocessing else method


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


def ranked(cells: Sequence[Cell], labels: str, metric: str) -> list[str]:
    """Methods of a share of labels, the best mean of a score first; those without it stand at the end, by name."""
    found = [name for name in methods_of(cells) if group(cells, name, labels)]
    means = {name: score(group(cells, name, labels), metric) for name in found}
    sign = 1.0 if definition(metric).larger_is_better is False else -1.0
    return sorted(found, key=lambda name: float("inf") if (value := means[name]) is None else sign * value.mean)


def score_table(cells: Sequence[Cell], metrics: Sequence[str], ranking: str | None = None) -> Table:
    """A row a share of labels and method: seeds, then mean and deviation of each score.

    Args:
        cells: comparable cells.
        metrics: scores, a column each.
        ranking: score that puts the methods of a share in order, the best first; by name where not given.
    """
    head = ["labels, %", "method", "seeds", *(definition(name).label for name in metrics)]
    rows = []
    for labels in labels_of(cells):
        names = methods_of(cells) if ranking is None else ranked(cells, labels, ranking)
        found = [(name, kept) for name in names if (kept := group(cells, name, labels))]
        columns = [_column(name, [score(kept, name) for _, kept in found]) for name in metrics]
        for place, (method, kept) in enumerate(found):
            rows.append([labels, method, str(len(kept)), *(column[place] for column in columns)])
    return head, rows


def object_table(cells: Sequence[Cell], metrics: Sequence[str], ranking: str | None = None) -> Table:
    """As ``score_table`` for scores of objects, with a row for each postprocessing of a method, see ``entry``."""
    names = list(dict.fromkeys(plain_reading(name) for name in metrics))
    head = ["labels, %", "method", "seeds", *(definition(name).label for name in names)]
    rows = []
    for labels in labels_of(cells):
        found = []
        for method in methods_of(cells) if ranking is None else ranked(cells, labels, ranking):
            kept = group(cells, method, labels)
            for postprocessing in POSTPROCESSING:
                values = [
                    score(kept, postprocessing + name) if postprocessing + name in metrics else None for name in names
                ]
                if any(value is not None for value in values):
                    found.append((entry(method, postprocessing), str(len(kept)), values))
        columns = [_column(name, [values[place] for _, _, values in found]) for place, name in enumerate(names)]
        for place, (method, seeds, _) in enumerate(found):
            rows.append([labels, method, seeds, *(column[place] for column in columns)])
    return head, rows


def score_tables(cells: Sequence[Cell], metrics: Sequence[str], ranking: str | None = None) -> list[tuple[str, Table]]:
    """The scores, those of pixels and those of objects apart, each with its title; without those that have no score."""
    pixels = [name for name in metrics if not is_of_objects(name)]
    objects = [name for name in metrics if is_of_objects(name)]
    found = [("Scores of pixels", score_table(cells, pixels, ranking))] if pixels else []
    return found + ([("Scores of objects", object_table(cells, objects, ranking))] if objects else [])


def counts_table(cells: Sequence[Cell]) -> Table:
    """A row a share of labels: how many images its cells learned from, chose with and were scored on."""
    parts = {"training": "labeled", **{part: part for part in ("unlabeled", "validation", "test")}}
    rows = []
    for labels in labels_of(cells):
        found = [cell.content["counts"] for cell in cells if cell.labels == labels]
        rows.append([labels, *(_extent([counts[part] for counts in found if part in counts]) for part in parts)])
    return ["labels, %", *parts.values()], rows


def cost_table(cells: Sequence[Cell]) -> Table:
    """A row a method: parameters, steps, time and memory, means over its cells."""
    head = [
        *("method", "parameters", "training only", "steps", "training, min", "evaluation, min"),
        *("host, MiB", "GPU, MiB"),
    ]
    rows = []
    for method in methods_of(cells):
        found = [cell for cell in cells if cell.method == method]
        rows.append(
            [
                method,
                *(_whole(mean_of(found, "parameters", key)) for key in ("network", "training")),
                _whole(mean_of(found, "steps")),
                *(_minutes(mean_of(found, "seconds", key)) for key in ("training", "evaluation")),
                *(_whole(mean_of(found, "peak_memory", key)) for key in ("host_mib", "device_mib")),
            ]
        )
    return head, rows


def markdown(table: Table) -> str:
    """A table as Markdown."""
    head, rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def mean_of(cells: Sequence[Cell], *keys: str) -> float | None:
    """Mean over cells of a number of their files, by its keys; ``None`` where none has it."""
    values = []
    for cell in cells:
        value: Any = cell.content
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None:
            values.append(float(value))
    return sum(values) / len(values) if values else None


def _column(metric: str, values: Sequence[Spread | None]) -> list[str]:
    """Cells of a column, the best of several marked."""
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


def _extent(counts: Sequence[int]) -> str:
    """A count, or the smallest and the largest of several."""
    if not counts:
        return "-"
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _minutes(value: float | None) -> str:
    return "-" if value is None else f"{value / 60:.1f}"
