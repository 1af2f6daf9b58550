"""Sections of the page about training, with one small chart per method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripts.reporting import charts, markup
from scripts.reporting.cells import Cell
from scripts.reporting.definitions import definition, is_optimistic, key_metric
from scripts.reporting.tables import group, labels_of, methods_of

CHOSEN = "validation/"
"""Prefix of the scores in the training log; they are used to choose the checkpoint."""

STEPS = "optimizer steps"
"""Title of the x axis."""

OPEN = 2
"""Number of methods whose gates are expanded; those of the other methods are collapsed."""


def judging(cells: Sequence[Cell]) -> str:
    """Return the images on which the checkpoint is chosen; test images in an optimistic protocol."""
    return "test images" if is_optimistic(str(cells[0].content["protocol"])) else "validation images"


def curves(cells: Sequence[Cell], against: str) -> str:
    """Return the learning curves, one chart per method."""
    labels = labels_of(cells)
    main = key_metric(str(cells[0].content["protocol"]))
    metric = next((name for name in (main, "pooled_dice") if any(cell.curve(CHOSEN + name) for cell in cells)), None)
    if metric is None:
        return ""
    column = CHOSEN + metric
    points = [point for cell in cells for point in cell.curve(column)]
    x, y = _ranges(points)
    means = [
        charts.Line(
            f"{against}, {share} % labels", mean_curve(group(cells, against, share), column), color, "reference"
        )
        for color, share in enumerate(labels)
    ]
    figures = []
    for method in methods_of(cells):
        lines = _runs(cells, method, column) + ([] if method == against else means)
        label = f"{method}: {definition(metric).title} on the {judging(cells)} over steps"
        figures.append((method, charts.line_chart(lines, STEPS, definition(metric).label, label, charts.widened(y), x)))
    optimistic = is_optimistic(str(cells[0].content["protocol"]))
    text = (
        f"The {definition(metric).title} on the {judging(cells)} during training, one line per run. All charts have "
        f"the same axes. Dashed lines are the means of {against}."
    )
    warning = "Optimistic: these are the test images, and the checkpoint is the best point of each line."
    key = charts.legend([f"{share} % labels" for share in labels])
    parts = [markup.paragraph(warning if optimistic else "", "warning"), markup.paragraph(text), key]
    return "\n".join([*parts, markup.figures(figures, "small")])


def losses(cells: Sequence[Cell]) -> str:
    """Return the training loss, one chart per method with its own axis."""
    figures = []
    for method in methods_of(cells):
        label = f"{method}: training loss over steps"
        figures.append((method, charts.line_chart(_runs(cells, method, "loss", False), STEPS, "loss", label)))
    text = (
        "Training loss of each method, one line per run. Each chart has its own axis, because the losses of different "
        "methods have different terms and cannot be compared. If the weight of unlabeled images increases during "
        "training, the loss may increase too."
    )
    grid = markup.figures(figures, "small")
    key = charts.legend([f"{share} % labels" for share in labels_of(cells)])
    return "\n".join([markup.paragraph(text), key, grid]) if grid else ""


def gates(cells: Sequence[Cell]) -> str:
    """Return the mean weight of each expert: a block per method, a chart per share of labels and gate."""
    columns = {cell.name: gates_of(cell) for cell in cells}
    experts = list(dict.fromkeys(expert for table in columns.values() for gate in table.values() for expert in gate))
    blocks: list[str] = []
    for method in methods_of(cells):
        figures = []
        for labels in labels_of(cells):
            runs = group(cells, method, labels)
            for gate in dict.fromkeys(gate for cell in runs for gate in columns[cell.name]):
                gate_columns = [(cell, columns[cell.name].get(gate, {})) for cell in runs]
                lines = [line for expert in experts for line in _weights(gate_columns, expert, experts.index(expert))]
                title = f"{labels} % labels, gate of {gate}"
                label = f"{method}, {title}: mean weight of each expert over steps"
                figures.append((title, charts.line_chart(lines, STEPS, "mean weight", label, (0.0, 1.0))))
        grid = markup.figures(figures, "small")
        blocks += [markup.collapsible(method, grid, len(blocks) < OPEN)] if grid else []
    text = (
        "Weight of each expert in the mixture of a gate, mean over images; over unlabeled images if the method uses "
        "them. Strong lines are means over seeds, pale lines are single seeds. At a weight of 1, the gate uses "
        "only one expert."
    )
    return "\n".join([markup.paragraph(text), charts.legend(experts), *blocks]) if blocks else ""


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
    tables = [dict(cell.curve(column)) for cell in cells]
    shared = set.intersection(*map(set, tables)) if tables else set()
    return [(step, sum(table[step] for table in tables) / len(tables)) for step in sorted(shared)]


def _weights(gate_columns: Sequence[tuple[Cell, Mapping[str, str]]], expert: str, color: int) -> list[charts.Line]:
    """Return the lines of the weight of an expert: pale lines of the runs, and their mean."""
    known = [(cell, columns[expert]) for cell, columns in gate_columns if expert in columns]
    if not known:
        return []
    runs = [charts.Line(f"{expert}, seed {cell.seed}", cell.curve(column), color, "pale") for cell, column in known]
    mean = mean_curve([cell for cell, _ in known], known[0][1])
    return [*runs, charts.Line(f"{expert}, mean over seeds", mean, color)]


def _runs(cells: Sequence[Cell], method: str, column: str, dots: bool = True) -> list[charts.Line]:
    """Return one line per run of a method, colored by the share of labels."""
    return [
        charts.Line(f"{labels} % labels, seed {cell.seed}", cell.curve(column), color, dots=dots)
        for color, labels in enumerate(labels_of(cells))
        for cell in group(cells, method, labels)
    ]


def _ranges(points: charts.Points) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the ranges of x and y."""
    x, y = zip(*points, strict=True)
    return (min(x), max(x)), (min(y), max(y))
