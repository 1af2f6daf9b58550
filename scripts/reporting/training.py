"""Charts of the page about training, with one small chart per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from scripts.reporting.cells import Cell
from scripts.reporting.charts import Line, line_chart
from scripts.reporting.definitions import definition, key_metric
from scripts.reporting.scores import Chart
from scripts.reporting.tables import group, labels_of, methods_of

CHOSEN = "validation/"
"""Prefix of the scores in the training log; they are used to choose the checkpoint."""
STEPS = "optimizer steps"
"""Title of the x axis."""


def curve_metric(cells: Sequence[Cell]) -> str | None:
    """Return the score of the learning curves: the main score of the protocol, or pooled Dice; ``None`` without it."""
    names = (key_metric(str(cells[0].content["protocol"])), "pooled_dice")
    return next((name for name in names if any(cell.curve(CHOSEN + name) for cell in cells)), None)


def learning_curves(cells: Sequence[Cell], against: str, judged: str) -> list[Chart]:
    """Return the learning curves, one chart per method with the same axes; the means of ``against`` are dashed.

    Args:
        cells: comparable cells.
        against: method that the others are compared with.
        judged: images on which the checkpoint is chosen, for the description.
    """
    metric = curve_metric(cells)
    if metric is None:
        return []
    column, meaning = CHOSEN + metric, definition(metric)
    steps, values = zip(*(point for cell in cells for point in cell.curve(column)), strict=True)
    margin = 0.08 * (max(values) - min(values)) or 0.01
    ranges: dict[str, Any] = {"y": (min(values) - margin, max(values) + margin), "x": (min(steps), max(steps) or 1.0)}
    means = [
        Line(f"{against}, {share} % labels", mean_curve(group(cells, against, share), column), color, "reference")
        for color, share in enumerate(labels_of(cells))
    ]
    charts = []
    for method in methods_of(cells):
        lines = _runs(cells, method, column) + ([] if method == against else means)
        label = f"{method}: {meaning.title} on the {judged} over steps"
        charts.append((method, line_chart(lines, STEPS, meaning.label, label, **ranges)))
    return [chart for chart in charts if chart[1]]


def loss_charts(cells: Sequence[Cell]) -> list[Chart]:
    """Return the training loss, one chart per method with its own axis."""
    charts = [
        (method, line_chart(_runs(cells, method, "loss", False), STEPS, "loss", f"{method}: training loss over steps"))
        for method in methods_of(cells)
    ]
    return [chart for chart in charts if chart[1]]


def gate_charts(cells: Sequence[Cell], experts: Sequence[str]) -> dict[str, list[Chart]]:
    """Return the mean weight of each expert over steps: for each method, a chart per share of labels and gate."""
    blocks: dict[str, list[Chart]] = {}
    for method in methods_of(cells):
        for labels in labels_of(cells):
            runs = [(cell, gates_of(cell)) for cell in group(cells, method, labels)]
            for gate in dict.fromkeys(gate for _, gates in runs for gate in gates):
                columns = [(cell, gates.get(gate, {})) for cell, gates in runs]
                lines = [line for color, name in enumerate(experts) for line in _weights(columns, name, color)]
                title = f"{labels} % labels, gate of {gate}"
                label = f"{method}, {title}: mean weight of each expert over steps"
                chart = line_chart(lines, STEPS, "mean weight", label, (0.0, 1.0))
                blocks.setdefault(method, []).append((title, chart))
    return blocks


def experts_of(cells: Sequence[Cell]) -> list[str]:
    """Return the names of all experts that a gate weights."""
    return list(dict.fromkeys(name for cell in cells for gate in gates_of(cell).values() for name in gate))


def gates_of(cell: Cell) -> dict[str, dict[str, str]]:
    """Return the columns of the gate weights, gate -> expert -> column; those of unlabeled images if there are any."""
    streams: dict[str, dict[str, dict[str, str]]] = {}
    for column in cell.content.get("curves") or {}:
        stream, _, rest = column.partition("/gate_")
        parts = rest.split("/")
        if len(parts) == 3 and parts[2] == "mean":
            streams.setdefault(stream, {}).setdefault(parts[0], {})[parts[1]] = column
    return streams.get("unlabeled") or streams.get("labeled") or {}


def mean_curve(cells: Sequence[Cell], column: str) -> list[tuple[float, float]]:
    """Return the mean of a column over cells, at the steps that all cells have."""
    curves = [pd.Series(dict(cell.curve(column)), dtype=float) for cell in cells]
    return list(pd.concat(curves, axis=1, join="inner").mean(axis=1).sort_index().items()) if curves else []


def _weights(gate_columns: Sequence[tuple[Cell, Mapping[str, str]]], expert: str, color: int) -> list[Line]:
    """Return the lines of the weight of an expert: pale lines of the runs, and their mean."""
    known = [(cell, columns[expert]) for cell, columns in gate_columns if expert in columns]
    if not known:
        return []
    runs = [Line(f"{expert}, seed {cell.seed}", cell.curve(column), color, "pale") for cell, column in known]
    mean = mean_curve([cell for cell, _ in known], known[0][1])
    return [*runs, Line(f"{expert}, mean over seeds", mean, color)]


def _runs(cells: Sequence[Cell], method: str, column: str, dots: bool = True) -> list[Line]:
    """Return one line per run of a method, colored by the share of labels."""
    return [
        Line(f"{labels} % labels, seed {cell.seed}", cell.curve(column), color, dots=dots)
        for color, labels in enumerate(labels_of(cells))
        for cell in group(cells, method, labels)
    ]
