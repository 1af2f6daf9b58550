"""The report as one self-contained HTML page: summary, charts, tables and definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from scripts.reporting import markup, predictions, published, score_definitions, scores, training
from scripts.reporting.cells import Cell
from scripts.reporting.comparability import steps_of
from scripts.reporting.definitions import definition, is_optimistic, protocol_note
from scripts.reporting.summary import Summary, summarize
from scripts.reporting.tables import counts_table, methods_of

STYLE = Path(__file__).with_name("page.css")
OPEN = 4
"""Maximum number of methods whose descriptions are expanded."""


def build(
    cells: Sequence[Cell],
    metrics: Sequence[str],
    against: str,
    tiles: Mapping[str, Sequence[predictions.Tile]],
    anchors: Sequence[Mapping[str, Any]],
    warnings: Sequence[str],
    made: str,
    about: Mapping[str, str] | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        cells: comparable cells, at least one.
        metrics: scores in the tables.
        against: method that the others are compared with.
        tiles: title of a group ("supervised, 10 % labels: worst") -> pictures of test images.
        anchors: published results, shown in a separate section.
        warnings: sentences for the top of the page.
        made: date and source of the page, for its footer.
        about: method -> description in one sentence; optional.
    """
    first = cells[0].content
    optimistic = is_optimistic(str(first["protocol"]))
    summary = summarize(cells, scores.leading(cells, metrics), against)
    judged = training.judging(cells)
    parts = {
        f"Scores on the test images{', which also selected the checkpoints' if optimistic else ''}": scores.overview(
            cells, metrics, against
        ),
        f"Differences to {against}, image by image": scores.compared(cells, against),
        f"Learning curves on {judged}": training.curves(cells, against),
        "Training loss": training.losses(cells),
        "Gate weights during training": training.gates(cells),
        "Calibration": predictions.calibration(cells),
        "Worst and best test images": predictions.pictures(tiles),
        "Cost": scores.cost(cells),
        "Published results": published.published(anchors, cells),
        "Definitions of the scores": score_definitions.meanings(metrics),
        "Runs": _runs(cells, judged),
    }
    sections = {name: content for name, content in parts.items() if content}
    body = "\n".join(
        [
            _lead(cells, summary, warnings, about or {}),
            _contents(list(sections)),
            *(markup.section(name, content) for name, content in sections.items()),
            f"<footer>{escape(made)}</footer>",
        ]
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(summary.title)}</title>\n<style>\n{STYLE.read_text(encoding='utf-8')}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _lead(cells: Sequence[Cell], summary: Summary, warnings: Sequence[str], about: Mapping[str, str]) -> str:
    """Return the top of the page: title, summary, notes, methods and number of images."""
    first = cells[0].content
    protocol, seeds = str(first["protocol"]), sorted({cell.seed for cell in cells})
    facts = (
        f"{len(cells)} {'runs' if len(cells) > 1 else 'run'} of {steps_of(cells)} at size "
        f"{first['size']}; seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}; protocol {protocol}."
    )
    methods = [name for name in methods_of(cells) if about.get(name)]
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(about[name])}</dd>" for name in methods)
    head, rows = counts_table(cells)
    shares = [[f"{row[0]} % labels", *row[1:]] for row in rows]
    caption = "Number of images by share of labels; a range if it differs between runs."
    return "\n".join(
        [
            f"<header><h1>{escape(markup.with_no_break_spaces(summary.title))}</h1>",
            markup.paragraph(summary.compared),
            *(markup.paragraph(sentence, "result") for sentence in summary.results),
            markup.paragraph(f"{summary.caution} {summary.meaning}".strip()),
            markup.paragraph(protocol_note(protocol), "warning" if is_optimistic(protocol) else "note"),
            markup.collapsible("The methods", f"<dl>{listed}</dl>", len(methods) <= OPEN) if listed else "",
            *(markup.paragraph(sentence, "warning") for sentence in warnings),
            markup.paragraph(facts),
            markup.table((["images", *head[1:]], shares), caption) if len(shares) > 1 else "",
            "</header>",
        ]
    )


def _contents(titles: Sequence[str]) -> str:
    items = "".join(f'<li><a href="#{markup.address(title)}">{escape(title)}</a></li>' for title in titles)
    return f'<nav aria-label="Contents"><ul>{items}</ul></nav>'


def _runs(cells: Sequence[Cell], judged: str) -> str:
    """Return the table of runs with the selected checkpoint and the origin of each."""
    head = ["run", f"best on {judged}", "epoch", "commit", "device", "config", "finished, UTC"]
    rows = []
    for cell in cells:
        content = cell.content
        best = content.get("selected") or {}
        value, metric = best.get("value"), best.get("metric")
        name = f"{definition(str(metric)).title} " if metric else ""
        hardware = content.get("hardware") or {}
        commits = ", ".join(commit[:10] for commit in cell.commits()) + (" +" if content.get("dirty") else "")
        rows.append(
            [
                cell.name,
                "-" if value is None else f"{name}{value:.3f}",
                "-" if best.get("epoch") is None else f"{best['epoch']:g}",
                commits,
                str(hardware.get("device") or "-"),
                str(content["config"].get("digest") or "-")[:10],
                str(content.get("finished") or "-")[:16].replace("T", " "),
            ]
        )
    caption = "All runs. A + after the commit means uncommitted changes."
    return markup.collapsible(f"{len(rows)} runs", markup.table((head, rows), caption), len(rows) <= 12)
