"""Tables of a report, and their Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scripts.reporting.cells import Cell, labels_key
from scripts.reporting.definitions import DEFINITIONS, definition, key_metric
from scripts.reporting.statistics import Spread, spread

POSTPROCESSING = {"": "components", "watershed_": "watershed"}
"""Postprocessing of predicted objects by the prefix of its scores; the first is the default."""
OBJECTS = "object_"
"""Prefix of all object scores, after that of the postprocessing."""

COSTS: dict[str, tuple[tuple[str, ...], float]] = {
    "parameters": (("parameters", "network"), 1),
    "training only": (("parameters", "training"), 1),
    "steps": (("steps",), 1),
    "training, min": (("seconds", "training"), 1 / 60),
    "evaluation, min": (("seconds", "evaluation"), 1 / 60),
    "host, MiB": (("peak_memory", "host_mib"), 1),
    "GPU, MiB": (("peak_memory", "device_mib"), 1),
}
"""Columns of the table of costs: keys in the file of a cell, and conversion factor."""


class Best(str):
    """Text of a table cell that is the best of its column and group, in bold on the page."""

    is_best = True


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


def table_of(rows: Sequence[Sequence[str]], columns: Sequence[str]) -> pd.DataFrame:
    """Return a table of texts."""
    return pd.DataFrame(rows, columns=columns, dtype=object)


def score_table(cells: Sequence[Cell], metrics: Sequence[str], ranking: str | None = None) -> pd.DataFrame:
    """Return a table of scores: number of seeds, mean and deviation of each score.

    It has a row per share of labels and method. A table of object scores also has a row per postprocessing, named by
    ``entry``, and no rows without a score.

    Args:
        cells: comparable cells.
        metrics: scores, either of pixels or of objects; those that differ only in postprocessing share a column.
        ranking: score by which the methods are sorted, the best first; by default they are sorted by name.
    """
    names = list(dict.fromkeys(without_postprocessing(name) for name in metrics))
    objects = any(is_object_score(name) for name in metrics)
    rows = []
    for labels in labels_of(cells):
        entries = []
        for method in methods_of(cells) if ranking is None else rank_methods(cells, labels, ranking):
            runs = group(cells, method, labels)
            for prefix in POSTPROCESSING if objects else ("",):
                values = [score(runs, prefix + name) if prefix + name in metrics else None for name in names]
                if runs and (not objects or any(values)):
                    entries.append((entry(method, prefix), str(len(runs)), values))
        columns = [_texts(name, [values[index] for _, _, values in entries]) for index, name in enumerate(names)]
        rows += [[labels, *head, *texts] for (*head, _), *texts in zip(entries, *columns, strict=True)]
    return table_of(rows, ["labels, %", "method", "seeds", *(definition(name).label for name in names)])


def score_tables(
    cells: Sequence[Cell], metrics: Sequence[str], ranking: str | None = None
) -> list[tuple[str, pd.DataFrame]]:
    """Return the tables of pixel scores and of object scores with their titles, without empty tables."""
    pixels = [name for name in metrics if not is_object_score(name)]
    objects = [name for name in metrics if is_object_score(name)]
    tables = [("Scores of pixels", score_table(cells, pixels, ranking))] if pixels else []
    return tables + ([("Scores of objects", score_table(cells, objects, ranking))] if objects else [])


def counts_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return the number of training, validation and test images, one row per share of labels; ranges if they differ."""
    parts = {"training": "labeled", **{part: part for part in ("unlabeled", "validation", "test")}}
    counts = pd.DataFrame([cell.content["counts"] for cell in cells]).reindex(columns=list(parts)).astype(float)
    groups = counts.groupby([cell.labels for cell in cells])
    low, high = (part.map(_whole) for part in (groups.min(), groups.max()))
    table = low.where(low == high, low + " to " + high).loc[labels_of(cells)]
    return table.rename(columns=parts).rename_axis("labels, %").reset_index()


def costs(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return the values of ``COSTS``, one row per method, mean over its cells."""
    values = [{name: value_at(cell, keys) for name, (keys, _) in COSTS.items()} for cell in cells]
    means = pd.DataFrame(values, dtype=float).groupby([cell.method for cell in cells]).mean()
    return means.loc[methods_of(cells)] * {name: factor for name, (_, factor) in COSTS.items()}


def cost_table(cells: Sequence[Cell]) -> pd.DataFrame:
    """Return parameters, steps, time and memory, one row per method, mean over its cells."""
    values = costs(cells)
    texts = {name: column.map(_minutes if name.endswith("min") else _whole) for name, column in values.items()}
    return pd.DataFrame(texts).rename_axis("method").reset_index()


def value_at(cell: Cell, keys: Sequence[str]) -> float | None:
    """Return a number in the file of a cell by its keys; ``None`` if there is none."""
    value: Any = cell.content
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def markdown(table: pd.DataFrame) -> str:
    """Return a table as Markdown."""
    lines = [list(table.columns), ["---"] * table.shape[1], *table.to_numpy().tolist()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _texts(metric: str, values: Sequence[Spread | None]) -> list[str]:
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


def _whole(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:,.0f}"


def _minutes(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.1f}"
