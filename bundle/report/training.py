"""Sections of the page about training: a small chart for each method, so that many methods stay readable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bundle.report import charts, markup
from bundle.report.cells import Cell
from bundle.report.definitions import definition, is_optimistic, key_metric
from bundle.report.tables import group, labels_of, methods_of

CHOSEN = "validation/"
"""What stands before the names of scores in the training's table; these images choose the checkpoint."""

STEPS = "optimizer steps"
"""Title of the axis of training time."""

OPEN = 2
"""Methods whose gates are shown unfolded; those of further ones are folded."""


def judging(cells: Sequence[Cell]) -> str:
    """What the images are that chose the checkpoint: under an optimistic protocol those of the test part."""
    return "test images" if is_optimistic(str(cells[0].content["protocol"])) else "validation images"


def curves(cells: Sequence[Cell], against: str) -> str:
    """The score that is watched while training, a chart a method."""
    labels = labels_of(cells)
    asked = key_metric(str(cells[0].content["protocol"]))
    metric = next((name for name in (asked, "pooled_dice") if any(cell.curve(CHOSEN + name) for cell in cells)), None)
    if metric is None:
        return ""
    column = CHOSEN + metric
    points = [point for cell in cells for point in cell.curve(column)]
    x, y = _extent(points)
    means = [
        charts.Line(
            f"{against}, {share} % labels", mean_curve(group(cells, against, share), column), color, "reference"
        )
        for color, share in enumerate(labels)
    ]
    found = []
    for method in methods_of(cells):
        lines = _runs(cells, method, column) + ([] if method == against else means)
        label = f"{method}: {definition(metric).title} of the {judging(cells)} over steps"
        found.append((method, charts.line_chart(lines, STEPS, definition(metric).label, label, charts.widened(y), x)))
    optimistic = is_optimistic(str(cells[0].content["protocol"]))
    words = (
        f"The {definition(metric).title} of the {judging(cells)} while training, a line a seed, the same axes "
        f"everywhere; dashed: mean of {against}."
    )
    warning = "Optimistic: these are the test images, and the best point of each line chose its checkpoint."
    key = charts.legend([f"{share} % labels" for share in labels])
    parts = [markup.paragraph(warning if optimistic else "", "warning"), markup.paragraph(words), key]
    return "\n".join([*parts, markup.figures(found, "small")])


def losses(cells: Sequence[Cell]) -> str:
    """The training loss, a chart a method with an axis of its own."""
    found = []
    for method in methods_of(cells):
        label = f"{method}: training loss over steps"
        found.append((method, charts.line_chart(_runs(cells, method, "loss", False), STEPS, "loss", label)))
    words = (
        "The objective of each method, a line a seed, each chart with its own axis: the losses of different methods "
        "hold different parts, so their heights do not compare. Where the weight of "
        "unlabeled images rises over training, the objective may rise with it."
    )
    grid = markup.figures(found, "small")
    key = charts.legend([f"{share} % labels" for share in labels_of(cells)])
    return "\n".join([markup.paragraph(words), key, grid]) if grid else ""


def gates(cells: Sequence[Cell]) -> str:
    """Mean weight of each expert, a fold a method, a chart a share of labels and gate, a line a seed."""
    columns = {cell.name: gates_of(cell) for cell in cells}
    experts = list(dict.fromkeys(expert for table in columns.values() for gate in table.values() for expert in gate))
    blocks: list[str] = []
    for method in methods_of(cells):
        found = []
        for labels in labels_of(cells):
            kept = group(cells, method, labels)
            for gate in dict.fromkeys(gate for cell in kept for gate in columns[cell.name]):
                shown = [(cell, columns[cell.name].get(gate, {})) for cell in kept]
                lines = [line for expert in experts for line in _weights(shown, expert, experts.index(expert))]
                title = f"{labels} % labels, gate of {gate}"
                label = f"{method}, {title}: mean weight of each expert over steps"
                found.append((title, charts.line_chart(lines, STEPS, "mean weight", label, (0.0, 1.0))))
        grid = markup.figures(found, "small")
        blocks += [markup.folded(method, grid, len(blocks) < OPEN)] if grid else []
    words = (
        "Weight of each expert in the mixture that a gate makes, mean over images, unlabeled ones where the method "
        "sees any. Strong lines are means over seeds, pale ones single seeds; a line at 1 is a gate that closed on "
        "one expert."
    )
    return "\n".join([markup.paragraph(words), charts.legend(experts), *blocks]) if blocks else ""


def gates_of(cell: Cell) -> dict[str, dict[str, str]]:
    """Columns of the gate weights in a cell's table: gate -> expert -> column; of the unlabeled stream if there."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for column in cell.content.get("curves") or {}:
        stream, _, rest = column.partition("/gate_")
        parts = rest.split("/")
        if len(parts) == 3 and parts[2] == "mean":
            found.setdefault(stream, {}).setdefault(parts[0], {})[parts[1]] = column
    return found.get("unlabeled") or found.get("labeled") or {}


def mean_curve(cells: Sequence[Cell], column: str) -> list[tuple[float, float]]:
    """Mean over cells of a column, at the steps that all of them have."""
    tables = [dict(cell.curve(column)) for cell in cells]
    shared = set.intersection(*map(set, tables)) if tables else set()
    return [(step, sum(table[step] for table in tables) / len(tables)) for step in sorted(shared)]


def _weights(shown: Sequence[tuple[Cell, Mapping[str, str]]], expert: str, color: int) -> list[charts.Line]:
    """Lines of an expert's weight: pale ones for the runs, given with the columns of a gate, and their mean."""
    found = [(cell, columns[expert]) for cell, columns in shown if expert in columns]
    if not found:
        return []
    runs = [charts.Line(f"{expert}, seed {cell.seed}", cell.curve(column), color, "pale") for cell, column in found]
    mean = mean_curve([cell for cell, _ in found], found[0][1])
    return [*runs, charts.Line(f"{expert}, mean over seeds", mean, color)]


def _runs(cells: Sequence[Cell], method: str, column: str, dots: bool = True) -> list[charts.Line]:
    """A line a run of a method, colored by the share of labels."""
    return [
        charts.Line(f"{labels} % labels, seed {cell.seed}", cell.curve(column), color, dots=dots)
        for color, labels in enumerate(labels_of(cells))
        for cell in group(cells, method, labels)
    ]


def _extent(points: charts.Points) -> tuple[tuple[float, float], tuple[float, float]]:
    """Smallest and largest x and y."""
    x, y = zip(*points, strict=True)
    return (min(x), max(x)), (min(y), max(y))
