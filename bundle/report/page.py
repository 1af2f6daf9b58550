"""The report as one HTML page that needs no other file and no network: figures first, then what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from bundle.report import charts
from bundle.report.cells import Cell
from bundle.report.definitions import definition
from bundle.report.tables import (
    Table,
    anchor_table,
    comparison_table,
    comparisons,
    cost_table,
    group,
    labels_of,
    methods_of,
    score_table,
)

STYLE = Path(__file__).with_name("page.css")
OVERVIEW = ("pooled_dice", "object_dice", "object_f1")
"""Scores that get a chart, as far as the cells have them."""
PROTOCOLS = {
    "heldout": "The checkpoint was chosen on the validation part and scored once on the test part.",
    "authors": (
        "Optimistic: checkpoint and threshold were chosen on the test images themselves, as the paper's tables do. "
        "Use these figures only beside tables made in the same way."
    ),
    "class_mean": "Chosen on the validation part, scored once on the test part; scores average background and gland.",
    "transfer": "Trained on one domain and scored on another, without adaptation.",
    "shift": "Labels from one domain, unlabeled images from two, scored on the second.",
}

Tile = Mapping[str, Any]
"""A test image drawn for the page: ``title``, ``caption`` and ``source`` (a data: address)."""


def build(
    cells: Sequence[Cell],
    metrics: Sequence[str],
    against: str,
    tiles: Mapping[str, Sequence[Tile]],
    anchors: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
    made: str,
) -> str:
    """Write the page.

    Args:
        cells: comparable cells, at least one.
        metrics: scores of the table.
        against: the method that the others are compared with.
        tiles: by title of a group ("supervised, 10 % labels: worst"), pictures of test images.
        anchors: published figures, shown apart.
        warnings: sentences that stand on top.
        made: when and from what the page was made.

    Returns:
        The page, HTML.
    """
    first = cells[0].content
    title = f"{first['data']}, protocol {first['protocol']}"
    sections = [
        _lead(cells, title, warnings),
        _section("Scores on the test part", _overview(cells, metrics), _html(score_table(cells, metrics))),
        _section(f"Image by image, against {against}", _compared(cells, against)),
        _section("Learning", _curves(cells)),
        _section("Gate weights over training", _gates(cells)),
        _section("Calibration", _calibration(cells)),
        _section("Worst and best test images", _tiles(tiles)),
        _section("Cost", _html(cost_table(cells))),
        _section("Published elsewhere", _anchors(anchors)),
        _section("What the scores mean", _meanings(metrics)),
        _section("Cells", _cells(cells)),
        f"<footer>{escape(made)}</footer>",
    ]
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _lead(cells: Sequence[Cell], title: str, warnings: Sequence[str]) -> str:
    first = cells[0].content
    methods, labels = methods_of(cells), labels_of(cells)
    seeds = sorted({cell.seed for cell in cells})
    facts = (
        f"{len(cells)} runs: {len(methods)} methods, {', '.join(labels)} % of the training images labeled, "
        f"seeds {', '.join(map(str, seeds))}. Each made {first['steps']:,} steps at size {first['size']} and was "
        f"scored on {first['counts'].get('test', '?')} test images."
    )
    trust = PROTOCOLS.get(str(first["protocol"]), "")
    kind = "warning" if first["protocol"] == "authors" else "note"
    notes = "".join(f'<p class="warning">{escape(sentence)}</p>' for sentence in warnings)
    return (
        f'<header><h1>{escape(title)}</h1><p>{escape(facts)}</p><p class="{kind}">{escape(trust)}</p>{notes}</header>'
    )


def _section(title: str, *parts: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{body}\n</section>" if body else ""


def _html(table: Table) -> str:
    head, rows = table
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>' if rows else ""
    )


def _grid(figures: Sequence[tuple[str, str]]) -> str:
    """Charts side by side, each with its title; those without content are left out."""
    drawn = [f"<figure><figcaption>{escape(title)}</figcaption>{svg}</figure>" for title, svg in figures if svg]
    return f'<div class="grid">{"".join(drawn)}</div>' if drawn else ""


def _overview(cells: Sequence[Cell], metrics: Sequence[str]) -> str:
    methods, labels = methods_of(cells), labels_of(cells)
    figures = []
    for name in [name for name in OVERVIEW if name in metrics] or list(metrics[:1]):
        values = {
            method: {
                share: [
                    cell.metrics[name] for cell in group(cells, method, share) if cell.metrics.get(name) is not None
                ]
                for share in labels
            }
            for method in methods
        }
        meaning = definition(name)
        better = "up is better" if meaning.larger_is_better else "down is better"
        figures.append((meaning.title, charts.dot_chart(labels, values, meaning.title, better)))
    return charts.legend(methods) + "<p>A dot is one run, a bar the mean over seeds.</p>" + _grid(figures)


def _compared(cells: Sequence[Cell], against: str) -> str:
    figures, tables = [], []
    for name in ("mean_dice", "object_dice"):
        found = comparisons(cells, name, against)
        if not found:
            continue
        rows = [
            (f"{method}, {labels} %", result.difference, result.low, result.high) for labels, method, result in found
        ]
        title = f"{definition(name).title} of an image"
        figures.append((title, charts.forest_chart(rows, f"difference to {against}, right is better")))
        tables.append(f"<h3>{escape(title)}</h3>" + _html(comparison_table(found, against)))
    if not figures:
        return ""
    words = (
        "Each image's score is the mean over seeds; then the difference of both methods on the same image. Bars are "
        "95 % bootstrap intervals of the mean, p is of Wilcoxon's signed-rank test. Both take images as independent, "
        "which images of one patient are not, and neither knows of the spread over seeds."
    )
    return f"<p>{words}</p>" + _grid(figures) + "".join(tables)


def _curves(cells: Sequence[Cell]) -> str:
    methods, grids = methods_of(cells), []
    for column, title in (("validation/pooled_dice", "validation, pooled Dice"), ("loss", "training loss")):
        figures = []
        for labels in labels_of(cells):
            lines = [
                charts.Line(method, cell.curve(column), place, dots=column.startswith("validation"))
                for place, method in enumerate(methods)
                for cell in group(cells, method, labels)
            ]
            figures.append((f"{labels} % labels: {title}", charts.line_chart(lines, "steps", "")))
        grids.append(_grid(figures))
    note = "<p>One line a seed. The losses of different methods hold different parts and do not compare.</p>"
    return charts.legend(methods) + note + "".join(grids) if any(grids) else ""


def _gates(cells: Sequence[Cell]) -> str:
    """For the first seed of each method and share: mean weight of each expert, a chart a gate."""
    figures: list[tuple[str, str]] = []
    names: list[str] = []
    for labels in labels_of(cells):
        for method in methods_of(cells):
            for cell in group(cells, method, labels)[:1]:
                for gate, columns in gates_of(cell).items():
                    experts = list(columns)
                    names = experts if len(experts) > len(names) else names
                    lines = [charts.Line(name, cell.curve(columns[name]), place) for place, name in enumerate(experts)]
                    title = f"{method}, {labels} %, seed {cell.seed}: {gate}"
                    figures.append((title, charts.line_chart(lines, "steps", "mean weight", (0.0, 1.0))))
    grid = _grid(figures)
    note = "<p>Weight of each expert in the mixture that a gate makes; a line at 1 is a gate that closed on one.</p>"
    return charts.legend(names) + note + grid if grid else ""


def gates_of(cell: Cell) -> dict[str, dict[str, str]]:
    """Columns of the gate weights in a cell's table: gate -> expert -> column; of the unlabeled stream if there."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for column in cell.content.get("curves") or {}:
        stream, _, rest = column.partition("/gate_")
        parts = rest.split("/")
        if len(parts) == 3 and parts[2] == "mean":
            found.setdefault(stream, {}).setdefault(parts[0], {})[parts[1]] = column
    return found.get("unlabeled") or found.get("labeled") or {}


def _calibration(cells: Sequence[Cell]) -> str:
    methods, figures = methods_of(cells), []
    for labels in labels_of(cells):
        lines = []
        for place, method in enumerate(methods):
            for cell in group(cells, method, labels)[:1]:
                bins = cell.content.get("calibration")
                if bins:
                    known = zip(bins["confidence"], bins["share"], bins["count"], strict=True)
                    points = [(x, y) for x, y, count in known if count and x is not None and y is not None]
                    lines.append(charts.Line(method, points, place, dots=True))
        chart = charts.line_chart(lines, "stated probability", "share of true pixels", (0.0, 1.0), diagonal=True)
        figures.append((f"{labels} % labels, first seed", chart))
    grid = _grid(figures)
    note = "<p>Below the dashed line the network is surer of a gland than it may be, above it less sure.</p>"
    return charts.legend(methods) + note + grid if grid else ""


def _tiles(tiles: Mapping[str, Sequence[Tile]]) -> str:
    blocks = []
    for title, found in tiles.items():
        pictures = "".join(
            f'<figure><img src="{tile["source"]}" alt="{escape(str(tile["title"]), True)}" loading="lazy">'
            f"<figcaption>{escape(str(tile['caption']))}</figcaption></figure>"
            for tile in found
        )
        blocks.append(f'<h3>{escape(title)}</h3><div class="tiles">{pictures}</div>')
    swatches = (("#00ff50", "truth"), ("#ffee00", "answer"))
    items = "".join(f'<span><i style="background:{colour}"></i>{name}</span>' for colour, name in swatches)
    key = f'<p class="legend">{items}</p>'
    return key + "".join(blocks) if blocks else ""


def _anchors(anchors: Sequence[Mapping[str, Any]]) -> str:
    if not anchors:
        return ""
    words = (
        "Figures of other papers, for orientation. Other splits, networks and budgets: no row of these compares with a "
        "row above."
    )
    return f'<p class="warning">{words}</p>' + _html(anchor_table(anchors))


def _meanings(metrics: Sequence[str]) -> str:
    items = "".join(
        f"<dt>{escape(definition(name).title)}</dt><dd>{escape(definition(name).text)}.</dd>" for name in metrics
    )
    return f"<dl>{items}</dl>"


def _cells(cells: Sequence[Cell]) -> str:
    head = ["cell", "best validation (epoch)", "commit", "device", "config", "finished"]
    rows = []
    for cell in cells:
        content = cell.content
        best = content.get("selected") or {}
        value = best.get("value")
        chosen = "-" if value is None else f"{value:.3f} ({best.get('epoch', '?')})"
        hardware = content.get("hardware") or {}
        commit = str(content.get("commit", "-"))[:10] + (" +" if content.get("dirty") else "")
        digest = str(content["config"].get("digest", "-"))[:10]
        rows.append(
            [cell.name, chosen, commit, str(hardware.get("device", "-")), digest, str(content.get("finished", "-"))]
        )
    return _html((head, rows)) + "<p>A + after a commit: with uncommitted changes.</p>"
